"""What a trained router knows, as a folder: numbers in safetensors, the rest in JSON, and a manifest that vouches for both.

    tensors.safetensors   arrays by name
    settings.json         what the router's kind needs besides
    manifest.json         kind, format, origin, models, encoder, metrics; sha256 of both files; shape and dtype of each array

Nothing in it is ever executed or unpickled. A file that does not match its manifest is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load as parse_tensors
from safetensors.numpy import save as tensor_bytes

from routers.api import Encoder

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Tensor: TypeAlias = NDArray[Any]

FORMAT = 1
MANIFEST = "manifest.json"
TENSORS = "tensors.safetensors"
SETTINGS = "settings.json"
MANIFEST_BYTES = 1_000_000
"""A manifest that is larger than this is none."""

_CLOSED = ConfigDict(extra="forbid", frozen=True)
Sha256 = str
_HEX = r"^[0-9a-f]{64}$"


class BadArtifact(ValueError):
    """A folder that is no artifact, or not the one that its manifest describes. `what` names the file or the tensor.

    `path` is the parameter by which plugins are told of an artifact, so that a configuration's error points at it.
    """

    path = ("artifact",)

    def __init__(self, folder: Path, what: str) -> None:
        super().__init__(f"{folder}: {what}")
        self.folder = folder
        self.what = what


class EncoderId(BaseModel):
    """The encoder that made an artifact's vectors."""

    model_config = _CLOSED

    name: str
    hash: str = Field(pattern=_HEX)

    @classmethod
    def of(cls, encoder: Encoder) -> EncoderId:
        return cls(name=encoder.name, hash=encoder.hash)


class TensorShape(BaseModel):
    """Shape and numpy dtype of an array."""

    model_config = _CLOSED

    shape: tuple[int, ...]
    dtype: str


class Manifest(BaseModel):
    """Where an artifact comes from, and what must be in it. `metrics`: figures on held-out data, by name."""

    model_config = _CLOSED

    format: Literal[1]
    kind: str = Field(min_length=1)
    created: AwareDatetime
    pointsman: str
    data_hash: str
    models: tuple[str, ...] = Field(min_length=1)
    encoder: EncoderId | None
    metrics: dict[str, float]
    files: dict[Literal["tensors.safetensors", "settings.json"], Sha256] = Field(min_length=2)
    tensors: dict[str, TensorShape]


@dataclass(frozen=True, slots=True)
class Artifact:
    """An artifact whose files were found to be what its manifest says. `hash`: sha256 of the manifest, and so of all of it."""

    folder: Path
    manifest: Manifest
    settings: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    hash: str


@dataclass(frozen=True, slots=True)
class Origin:
    """What is said of an artifact's making. `data_hash` names the outcomes that it was fitted to."""

    kind: str
    models: Sequence[str]
    data_hash: str
    created: datetime
    encoder: EncoderId | None = None
    metrics: Mapping[str, float] | None = None


def write(folder: Path, origin: Origin, tensors: Mapping[str, Tensor], settings: Mapping[str, object]) -> str:
    """Writes an artifact whole or not at all, and returns its hash. An artifact that lies there is replaced.

    Raises BadArtifact if something else lies there, OSError if the folder cannot be written.
    """
    if folder.exists() and not (folder / MANIFEST).is_file():
        raise BadArtifact(folder, "exists and is no artifact, so it is left alone")
    arrays = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    files = {TENSORS: tensor_bytes(arrays), SETTINGS: json.dumps(settings, indent=2, sort_keys=True, allow_nan=False).encode()}
    files[MANIFEST] = _manifest(origin, arrays, files).model_dump_json(indent=2).encode()
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        for name, content in files.items():
            _write_through(fresh / name, content)
        fresh.chmod(0o755)
        _put_in_place(fresh, folder)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    return hashlib.sha256(files[MANIFEST]).hexdigest()


def load(folder: Path, kind: str | None = None) -> Artifact:
    """Reads an artifact and checks all of it. Raises BadArtifact; `kind`: also if it is one of another kind."""
    raw = _read(folder, MANIFEST)
    if len(raw) > MANIFEST_BYTES:
        raise BadArtifact(folder, f"{MANIFEST} is larger than {MANIFEST_BYTES} bytes")
    manifest = _parse_manifest(folder, raw)
    if kind is not None and manifest.kind != kind:
        raise BadArtifact(folder, f"{MANIFEST}: kind is {manifest.kind!r}, expected {kind!r}")
    contents: dict[str, bytes] = {}
    for name, sha256 in manifest.files.items():
        contents[name] = _read(folder, name)
        if hashlib.sha256(contents[name]).hexdigest() != sha256:
            raise BadArtifact(folder, f"{name} was changed: its sha256 is not the manifest's")
    tensors = _parse_tensors(folder, contents[TENSORS], manifest)
    return Artifact(folder, manifest, _parse_settings(folder, contents[SETTINGS]), tensors, hashlib.sha256(raw).hexdigest())


def _manifest(origin: Origin, arrays: Mapping[str, Tensor], files: Mapping[str, bytes]) -> Manifest:
    return Manifest(
        format=FORMAT,
        kind=origin.kind,
        created=origin.created,
        pointsman=version("pointsman"),
        data_hash=origin.data_hash,
        models=tuple(origin.models),
        encoder=origin.encoder,
        metrics=dict(origin.metrics or {}),
        files={TENSORS: hashlib.sha256(files[TENSORS]).hexdigest(), SETTINGS: hashlib.sha256(files[SETTINGS]).hexdigest()},
        tensors={name: TensorShape(shape=array.shape, dtype=str(array.dtype)) for name, array in arrays.items()},
    )


def _write_through(path: Path, content: bytes) -> None:
    """Down to the disk, so that a rename never gives a name to files that a power cut has emptied."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _put_in_place(fresh: Path, folder: Path) -> None:
    if not folder.exists():
        fresh.rename(folder)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
    folder.rename(old / folder.name)
    try:
        fresh.rename(folder)
    except OSError:
        (old / folder.name).rename(folder)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise BadArtifact(folder, f"{name} cannot be read: {error.strerror or type(error).__name__}") from None


def _parse_manifest(folder: Path, raw: bytes) -> Manifest:
    try:
        return Manifest.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadArtifact(folder, f"{MANIFEST}{': ' if where else ''}{where}: {first['msg']}") from None


def _parse_tensors(folder: Path, raw: bytes, manifest: Manifest) -> dict[str, Tensor]:
    try:
        found: dict[str, Tensor] = parse_tensors(raw)
    except (SafetensorError, KeyError, ValueError) as error:
        raise BadArtifact(folder, f"{TENSORS} cannot be parsed: {error}") from None
    for name in sorted({*found, *manifest.tensors}):
        if name not in found:
            raise BadArtifact(folder, f"{TENSORS}: tensor {name!r} is missing")
        if name not in manifest.tensors:
            raise BadArtifact(folder, f"{TENSORS}: tensor {name!r} is not in the manifest")
        expected, array = manifest.tensors[name], found[name]
        if array.shape != expected.shape or str(array.dtype) != expected.dtype:
            is_so, should_be = f"{array.dtype} {array.shape}", f"{expected.dtype} {expected.shape}"
            raise BadArtifact(folder, f"{TENSORS}: tensor {name!r} is {is_so}, the manifest says {should_be}")
    return found


def _parse_settings(folder: Path, raw: bytes) -> dict[str, Any]:
    try:
        settings = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise BadArtifact(folder, f"{SETTINGS} is no JSON: {error}") from None
    if not isinstance(settings, dict):
        raise BadArtifact(folder, f"{SETTINGS} is no JSON object")
    return settings

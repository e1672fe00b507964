"""An artifact is what its manifest says, or it is refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save as tensor_bytes

from routers.artifacts import MANIFEST, SETTINGS, TENSORS, BadArtifact, EncoderId, Origin, load, write

CREATED = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
ORIGIN = Origin("test", ("a", "b"), "d" * 64, CREATED, EncoderId(name="e", hash="0" * 64), {"accuracy": 0.5})
ARRAYS: dict[str, Any] = {"x": np.arange(6, dtype=np.float32).reshape(2, 3), "y": np.array([1, 2], dtype=np.int64)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "made", ORIGIN, ARRAYS, {"k": 3})
    return tmp_path / "made"


def test_what_is_written_is_read(folder: Path) -> None:
    artifact = load(folder, "test")
    assert (artifact.manifest.models, artifact.manifest.created, artifact.manifest.metrics) == (("a", "b"), CREATED, {"accuracy": 0.5})
    assert artifact.manifest.encoder == ORIGIN.encoder
    assert artifact.settings == {"k": 3}
    assert set(artifact.tensors) == set(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(artifact.tensors[name], array)
        assert artifact.tensors[name].dtype == array.dtype


def test_the_hash_tells_artifacts_apart(tmp_path: Path, folder: Path) -> None:
    same = write(tmp_path / "same", ORIGIN, ARRAYS, {"k": 3})
    other = write(tmp_path / "other", ORIGIN, {**ARRAYS, "y": ARRAYS["y"] + 1}, {"k": 3})
    assert load(folder).hash == same == load(tmp_path / "same").hash
    assert other != same


def test_arrays_that_are_not_contiguous_are_written_as_they_look(tmp_path: Path) -> None:
    write(tmp_path / "t", ORIGIN, {"x": ARRAYS["x"].T}, {})
    np.testing.assert_array_equal(load(tmp_path / "t").tensors["x"], ARRAYS["x"].T)


def test_a_new_one_takes_the_place_of_the_old_one_and_nothing_stays_behind(folder: Path) -> None:
    write(folder, ORIGIN, {"z": ARRAYS["x"]}, {"k": 4})
    assert load(folder).settings == {"k": 4}
    assert [path.name for path in folder.parent.iterdir()] == ["made"]
    assert sorted(path.name for path in folder.iterdir()) == [MANIFEST, SETTINGS, TENSORS]


def test_what_is_no_artifact_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("data")
    with pytest.raises(BadArtifact, match="left alone"):
        write(tmp_path, ORIGIN, ARRAYS, {})
    assert (tmp_path / "precious").read_text() == "data"


def test_a_failed_write_leaves_the_old_one(folder: Path) -> None:
    before = load(folder).hash
    with pytest.raises(ValueError, match="JSON"):
        write(folder, ORIGIN, ARRAYS, {"k": float("nan")})
    assert load(folder).hash == before
    assert [path.name for path in folder.parent.iterdir()] == ["made"]


def rewrite(folder: Path, name: str, content: bytes) -> None:
    """Changes a file and vouches for it in the manifest, as someone would who knows the format."""
    (folder / name).write_bytes(content)
    manifest = json.loads((folder / MANIFEST).read_bytes())
    manifest["files"][name] = hashlib.sha256(content).hexdigest()
    (folder / MANIFEST).write_text(json.dumps(manifest))


def edit(folder: Path, change: Callable[[Any], object]) -> None:
    manifest = json.loads((folder / MANIFEST).read_bytes())
    change(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


TAMPERING: dict[str, tuple[Callable[[Path], object], str]] = {
    "no manifest": (lambda f: (f / MANIFEST).unlink(), "manifest.json cannot be read"),
    "no tensors": (lambda f: (f / TENSORS).unlink(), "tensors.safetensors cannot be read"),
    "no settings": (lambda f: (f / SETTINGS).unlink(), "settings.json cannot be read"),
    "one bit of a tensor": (lambda f: flip(f / TENSORS), "tensors.safetensors was changed"),
    "one bit of the settings": (lambda f: flip(f / SETTINGS), "settings.json was changed"),
    "cut short": (lambda f: (f / TENSORS).write_bytes((f / TENSORS).read_bytes()[:-8]), "tensors.safetensors was changed"),
    "manifest is no JSON": (lambda f: (f / MANIFEST).write_text("{"), "manifest.json"),
    "manifest is a list": (lambda f: (f / MANIFEST).write_text("[]"), "manifest.json"),
    "manifest without end": (lambda f: (f / MANIFEST).write_text(" " * 1_000_001), "larger than"),
    "another format": (lambda f: edit(f, lambda m: m.update(format=2)), "format"),
    "another kind": (lambda f: edit(f, lambda m: m.update(kind="other")), "kind is 'other'"),
    "an unknown field": (lambda f: edit(f, lambda m: m.update(code="os.system")), "code"),
    "a missing field": (lambda f: edit(f, lambda m: m.pop("models")), "models"),
    "no file listed": (lambda f: edit(f, lambda m: m["files"].pop(TENSORS)), "files"),
    "a file elsewhere": (lambda f: edit(f, lambda m: m["files"].update({"../secret": "0" * 64})), "files"),
    "a tensor too few": (lambda f: rewrite(f, TENSORS, tensor_bytes({"x": ARRAYS["x"]})), "tensor 'y' is missing"),
    "a tensor too many": (lambda f: edit(f, lambda m: m["tensors"].pop("y")), "tensor 'y' is not in the manifest"),
    "another shape": (lambda f: rewrite(f, TENSORS, tensor_bytes({**ARRAYS, "x": ARRAYS["x"].T.copy()})), "tensor 'x' is float32 (3, 2)"),
    "another dtype": (lambda f: rewrite(f, TENSORS, tensor_bytes({**ARRAYS, "y": ARRAYS["y"].astype(np.int32)})), "tensor 'y' is int32"),
    "a pickle": (lambda f: rewrite(f, TENSORS, b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00."), "tensors.safetensors cannot be parsed"),
    "nothing in the tensors": (lambda f: rewrite(f, TENSORS, b""), "tensors.safetensors cannot be parsed"),
    "settings are a list": (lambda f: rewrite(f, SETTINGS, b"[1]"), "settings.json is no JSON object"),
    "settings are no text": (lambda f: rewrite(f, SETTINGS, b"\xff\xfe"), "settings.json is no JSON"),
    "settings nest too deep": (lambda f: rewrite(f, SETTINGS, b"[" * 200_000), "settings.json is no JSON"),
}


@pytest.mark.parametrize("case", TAMPERING)
def test_tampering_is_found_and_named(folder: Path, case: str) -> None:
    tamper, message = TAMPERING[case]
    tamper(folder)
    with pytest.raises(BadArtifact) as caught:
        load(folder, "test")
    assert message in str(caught.value)
    assert (caught.value.folder, caught.value.path) == (folder, ("artifact",))

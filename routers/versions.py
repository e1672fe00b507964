"""The versions of an artifact that goes on learning: the trained one, which is never written to, and what was learned since.

    clusters/                   what `pointsman train` wrote
    clusters.versions/
        000001-3f9a12cd/        an artifact like any other, named by its number and the beginning of its hash
        serving.json            which one serves, and how that came about
        lock                    held by whoever changes something here, while it does
        writer                  held by the one process that adds versions, for as long as it runs

A version is written beside the others and gets its name when it is whole; `serving.json` is replaced in one step. So whoever dies at
whatever moment leaves a version that serves. An artifact that was trained anew serves itself, and the versions of the old one stay kept.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from routers import artifacts
from routers.artifacts import Artifact, BadArtifact, Origin

if TYPE_CHECKING:
    from routers.artifacts import Tensor

TRAINED = "trained"
KEPT = 20
"""Versions that are kept; the trained artifact is not among them."""
STEPS = 1000
SERVING = "serving.json"
OUTCOMES = "learned_outcomes"
"""The metric of a version that says how many outcomes it has learned since training."""
LINEAGE = "learned"
"""The setting of a version that says what it derives from."""
_NAME = r"[0-9]{6,12}-[0-9a-f]{8}"
_DIGITS = 8


class NoSuchVersion(ValueError):
    """A version that was asked for and is not kept."""


class Overtaken(Exception):
    """Another version serves than the one that was learned from, so nothing was written."""


class Step(BaseModel):
    """What came to serve, and why. `outcomes`: learned in this step."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    at: AwareDatetime
    version: str = Field(pattern=rf"^({TRAINED}|{_NAME})$")
    why: Literal["learned", "rollback"]
    outcomes: int = Field(0, ge=0)


class _Serving(BaseModel):
    """`trained`: hash of the trained artifact for which `version` serves. `history`: the newest steps, oldest first."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    trained: str
    version: str = Field(pattern=rf"^({TRAINED}|{_NAME})$")
    history: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """Names a version that serves, and the hash of the trained artifact for which it does."""

    name: str
    trained: str


@dataclass(frozen=True, slots=True)
class Version:
    """One version. `outcomes`: learned since training. `parent`: what it derives from; None for the trained one.

    `problem`: why it cannot be loaded; what the manifest would have said is then None.
    """

    name: str
    folder: Path
    serves: bool
    kind: str | None = None
    created: datetime | None = None
    outcomes: int | None = None
    parent: str | None = None
    hash: str | None = None
    problem: str | None = None


class Versions:
    """Of the artifact in `folder`. Reading needs no lock. Every method raises BadArtifact if what is kept here cannot be read."""

    def __init__(self, folder: Path) -> None:
        self.trained = folder if folder.name else folder.resolve()
        self.folder = self.trained.with_name(f"{self.trained.name}.versions")
        self._writer: int | None = None

    def serving(self) -> Place:
        """The version that serves."""
        return self._place(self._read())

    def history(self) -> tuple[Step, ...]:
        """How versions came to serve, oldest first; the newest STEPS."""
        state = self._read()
        return () if state is None else state.history

    def path(self, name: str) -> Path:
        return self.trained if name == TRAINED else self.folder / name

    def load(self, name: str, kind: str | None = None) -> Artifact:
        """A version, all of it checked. Raises BadArtifact."""
        return self.vouched(name, artifacts.load(self.path(name), kind))

    def vouched(self, name: str, found: Artifact) -> Artifact:
        """An artifact that was loaded from the path of this version. Raises BadArtifact if it is another one."""
        if name != TRAINED and not found.hash.startswith(name[-_DIGITS:]):
            raise BadArtifact(found.folder, f"{artifacts.MANIFEST} was changed: its sha256 begins with {found.hash[:_DIGITS]}")
        return found

    def names(self) -> list[str]:
        """All versions, the trained one first, then as they were made."""
        return [TRAINED, *sorted((path.name for path in self._kept()), key=_number)]

    def all(self) -> list[Version]:
        serves = self.serving().name
        return [self._describe(name, name == serves) for name in self.names()]

    def find(self, wanted: str) -> str:
        """The version of this name or number. Raises NoSuchVersion."""
        names = self.names()
        for name in names:
            if name == wanted or (wanted.isdecimal() and name != TRAINED and _number(name) == int(wanted)):
                return name
        raise NoSuchVersion(f"{self.trained}: there is no version {wanted!r}; kept: {', '.join(names)}")

    def parent(self, name: str) -> str:
        """What a version derives from. Raises NoSuchVersion for the trained one, and if it is no longer kept."""
        if name == TRAINED:
            raise NoSuchVersion(f"{self.trained}: the trained artifact serves; there is nothing before it")
        lineage = _lineage(self.load(name))
        found = str(lineage.get("parent"))
        if found not in self.names() or (found == TRAINED and lineage.get("trained") != self._trained_hash()):
            raise NoSuchVersion(f"{self.trained}: {found}, of which {name} was made, is no longer kept; name another one")
        return found

    def roll_back(self, name: str, now: datetime) -> bool:
        """Makes a kept version the one that serves, and writes that down. Returns False if it serves already.

        Raises BadArtifact if that version is damaged, OSError if nothing can be written.
        """
        self.load(name)
        with self._locked():
            state = self._read()
            if self._place(state).name == name:
                return False
            self._point(state, Step(at=now, version=name, why="rollback"))
        return True

    def lead(self) -> bool:
        """Takes the place of the one process that adds versions. Returns whether it has it. Raises OSError."""
        if self._writer is not None:
            return True
        self.folder.mkdir(exist_ok=True)
        file = os.open(self.folder / "writer", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return False
        self._writer = file
        return True

    def close(self) -> None:
        """Leaves that place to another process."""
        if self._writer is not None:
            os.close(self._writer)
            self._writer = None

    def add(self, parent: Place, origin: Origin, tensors: Mapping[str, Tensor], settings: Mapping[str, object], outcomes: int) -> str:
        """Writes a version that was made of `parent` by learning `outcomes` more, lets it serve, and returns its name.

        `origin`: as the parent's, but for the time. Versions beyond KEPT go, oldest first.
        Raises Overtaken if `parent` does not serve any more, OSError, BadArtifact.
        """
        with self._locked():
            state = self._read()
            if self._place(state) != parent:
                raise Overtaken(f"{self.trained}: {parent.name} does not serve any more")
            self._sweep()
            before = origin.metrics or {}
            metrics = {**before, OUTCOMES: before.get(OUTCOMES, 0.0) + outcomes}
            lineage = {"parent": parent.name, "trained": parent.trained}
            made = Origin(origin.kind, origin.models, origin.data_hash, origin.created, origin.encoder, metrics)
            fresh = self.folder / ".fresh"
            found = artifacts.write(fresh, made, tensors, {**settings, LINEAGE: lineage})
            name = f"{max(map(_number, self.names()[1:]), default=0) + 1:06d}-{found[:_DIGITS]}"
            fresh.rename(self.folder / name)
            self._point(state, Step(at=origin.created, version=name, why="learned", outcomes=outcomes))
            for old in self.names()[1:-KEPT]:
                if old != name:
                    shutil.rmtree(self.folder / old, ignore_errors=True)
        return name

    def _describe(self, name: str, serves: bool) -> Version:
        try:
            found = self.load(name)
        except BadArtifact as error:
            return Version(name, self.path(name), serves, problem=error.what)
        manifest = found.manifest
        parent = _lineage(found).get("parent")
        outcomes = int(manifest.metrics.get(OUTCOMES, 0))
        return Version(name, found.folder, serves, manifest.kind, manifest.created, outcomes, parent, found.hash)

    def _kept(self) -> Iterator[Path]:
        if self.folder.is_dir():
            yield from (path for path in self.folder.iterdir() if re.fullmatch(_NAME, path.name) and path.is_dir())

    def _place(self, state: _Serving | None) -> Place:
        trained = self._trained_hash()
        return Place(TRAINED if state is None or state.trained != trained else state.version, trained)

    def _trained_hash(self) -> str:
        try:
            return hashlib.sha256((self.trained / artifacts.MANIFEST).read_bytes()).hexdigest()
        except OSError as error:
            raise BadArtifact(self.trained, f"{artifacts.MANIFEST} cannot be read: {error.strerror}") from None

    def _read(self) -> _Serving | None:
        try:
            return _Serving.model_validate_json((self.folder / SERVING).read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError:
            raise BadArtifact(self.folder, f"{SERVING} is damaged; without that file the trained artifact serves") from None
        except OSError as error:
            raise BadArtifact(self.folder, f"{SERVING} cannot be read: {error.strerror}") from None

    def _point(self, before: _Serving | None, step: Step) -> None:
        """Down to the disk, and after what it names: a power cut must not leave the name of a version that is not there."""
        history = (*(before.history if before is not None else ()), step)[-STEPS:]
        state = _Serving(trained=self._trained_hash(), version=step.version, history=history)
        fresh = self.folder / f".{SERVING}"
        with fresh.open("wb") as file:
            file.write(state.model_dump_json(indent=2).encode())
            file.flush()
            os.fsync(file.fileno())
        _sync(self.folder)
        fresh.replace(self.folder / SERVING)
        _sync(self.folder)

    def _sweep(self) -> None:
        """What a process that died has left half done. Only whoever holds the lock makes such folders."""
        for path in self.folder.iterdir():
            if path.is_dir() and path.name.startswith("."):
                shutil.rmtree(path, ignore_errors=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.folder.mkdir(exist_ok=True)
        file = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
        finally:
            os.close(file)


def _number(name: str) -> int:
    return int(name.partition("-")[0])


def _lineage(found: Artifact) -> Mapping[str, str]:
    lineage = found.settings.get(LINEAGE)
    return lineage if isinstance(lineage, Mapping) else {}


def _sync(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)

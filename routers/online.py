"""Learned scorers that go on learning while they serve, slowly and so that it can be undone."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, ClassVar, Protocol, Self

import numpy as np
from pydantic import Field

from routers.api import Outcome
from routers.artifacts import Artifact, BadArtifact, Origin
from routers.learned import LearnedScorer, Predictor, Prompts, Stored
from routers.versions import Overtaken, Place, Versions

HOUR = 3600.0


class LearningPredictor(Predictor, Protocol):
    """A predictor that outcomes can improve. It is never changed: learning makes another one."""

    def open_to(self, column: int) -> bool:
        """Whether there is anything to learn of the model in this column."""
        ...

    def learn(self, prompts: Prompts, column: int, score: float) -> Self:
        """What it is after one outcome: of one prompt, one model, `score` in [0, 1]."""
        ...


class Allowance:
    """At most `per_hour` in any hour. `clock`: seconds. `used`: when it was taken from before, oldest first."""

    def __init__(self, per_hour: int, clock: Callable[[], float], used: Iterable[float] = ()) -> None:
        self._clock = clock
        self._taken: deque[float] = deque(used, maxlen=per_hour)

    def take(self) -> bool:
        """Whether one more is allowed now; if so, it is taken."""
        now = self._clock()
        if len(self._taken) == self._taken.maxlen and now - self._taken[0] < HOUR:
            return False
        self._taken.append(now)
        return True


class LearningScorer(LearnedScorer):
    """A router that learns from feedback. `artifact`: made by `pointsman train`; the version of it that serves is loaded.

    `learn_per_hour`: outcomes that it learns from in any hour at most; beyond that feedback changes nothing. None: it does not learn.
    `snapshot_seconds`: what was learned is kept as a new version at most so often. See `routers.versions`.
    """

    learned: ClassVar[Mapping[str, int]]
    """The tensors that learning changes -> the dimension that is the models."""
    predictor: LearningPredictor

    def __init__(
        self,
        artifact: Path,
        learn_per_hour: Annotated[int, Field(ge=1, le=1_000_000)] | None = None,
        snapshot_seconds: Annotated[float, Field(gt=0, le=86_400)] = 300,
    ) -> None:
        self.versions = Versions(artifact)
        self._base = self.versions.serving()
        super().__init__(self.versions.path(self._base.name))
        self.versions.vouched(self._base.name, self.artifact)
        self.snapshot_seconds = snapshot_seconds
        self.allowance = None if learn_per_hour is None else Allowance(learn_per_hour, time.monotonic, self._taken())
        self.revision = ""
        self._refused: Place | None = None
        self._fresh = 0
        self._lock = threading.Lock()

    @classmethod
    def read(cls, stored: Stored) -> LearningPredictor:
        """The predictor that an artifact of this kind holds. Raises BadArtifact."""
        raise NotImplementedError

    @property
    def learns(self) -> bool:
        """Whether `observe` does anything; if not, nobody need call it."""
        return self.allowance is not None

    @property
    def learns_into(self) -> Path | None:
        """The artifact whose versions it makes; None if it does not learn."""
        return None if self.allowance is None else self.versions.trained.resolve()

    def observe(self, outcome: Outcome) -> None:
        """Learns from a score in [0, 1] of a model that it knows, if the hour's allowance has room; anything else changes nothing.

        The vector is that of the request, else it is computed here, from its text. Deterministic in the order of the calls. Whoever reads
        meanwhile sees the predictor before or after, and nothing between.
        """
        column, score, request = self._columns.get(outcome.model), outcome.score, outcome.request
        if self.allowance is None or column is None or score is None or not 0 <= score <= 1:
            return
        if request.embedding is None and not request.text.strip():
            return
        with self._lock:
            if not self.predictor.open_to(column) or not self.allowance.take():
                return
            vector = self.encoder.encode([request.text])[0] if request.embedding is None else request.embedding
            self.predictor = self.predictor.learn(Prompts(vector[None], (request.text,)), column, float(score))
            self._fresh += 1

    def keep(self, now: datetime, due: bool) -> str | None:
        """Follows a version that others have made to serve; else, if `due`, keeps what was learned as a new version, and returns its name.

        Of several processes the first one writes, and the others follow it. `revision` then names what is expected from here on. Raises
        OSError, and BadArtifact: the predictor stays as it is, and nothing is written before a version that fits serves again.
        """
        with self._lock:
            place = self.versions.serving()
            if place != self._base:
                if place != self._refused:
                    self._follow(place)
                return None
            if not due or not self._fresh:
                return None
            self.revision = self._digest()
            return self._write(now) if self.versions.lead() else None

    def close(self) -> None:
        """Lets another process write versions."""
        self.versions.close()

    def _follow(self, place: Place) -> None:
        self._refused = place
        found = self.versions.load(place.name, self.kind)
        before = self.artifact
        same = found.manifest.models == before.manifest.models and found.manifest.encoder == before.manifest.encoder
        if not same or found.settings.get("calibration") != before.settings.get("calibration"):
            raise BadArtifact(found.folder, "comes from another training than what serves; it is taken up at the next start")
        self._take(place, found)
        self._refused = None
        self.revision = self._digest()

    def _take(self, place: Place, found: Artifact) -> None:
        stored = Stored(found.folder, found.manifest.models, found.tensors, found.settings)
        self.predictor = self.read(stored.part("router"))
        self.artifact, self._base, self._fresh = found, place, 0

    def _write(self, now: datetime) -> str | None:
        old, manifest = self.artifact, self.artifact.manifest
        origin = Origin(self.kind, manifest.models, manifest.data_hash, now, manifest.encoder, manifest.metrics)
        tensors = {**old.tensors, **{f"router/{name}": array for name, array in self.predictor.tensors().items()}}
        settings = {**old.settings, "router": dict(self.predictor.settings())}
        try:
            name = self.versions.add(self._base, origin, tensors, settings, self._fresh)
        except Overtaken:
            return None
        self._take(Place(name, self._base.trained), self.versions.load(name, self.kind))
        return name

    def _digest(self) -> str:
        """Of what learning changes: two processes that have learned the same have the same."""
        tensors = self.predictor.tensors()
        return hashlib.sha256(b"".join(np.ascontiguousarray(tensors[name]).tobytes() for name in self.learned)).hexdigest()[:16]

    def _taken(self) -> list[float]:
        """When the outcomes were learned that were kept in the last hour, on the clock of the allowance: a new start is no new hour."""
        now, ago = time.monotonic(), time.time()
        ages = [(max(0.0, ago - step.at.timestamp()), step.outcomes) for step in self.versions.history()]
        return [now - age for age, outcomes in ages if age < HOUR for _ in range(outcomes)]

"""What learned scorers share: prompts go in, expected outcomes with their uncertainty come out, an artifact lies between.

A family of routers is a file in `routers/scorers`: how it is fitted to outcomes, how it is written down and read back, what it expects of a
prompt. All of that is a pure function of lessons, seed and prompts. What stands here is the same for each of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self, TypeAlias

import numpy as np

from routers import artifacts, wording
from routers.api import Candidate, Encoder, Model, Need, Opinion, RouteRequest
from routers.embedding import ENCODERS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from routers.api import Embeddings
    from routers.artifacts import Tensor
    from routers.features import Reading

    Floats: TypeAlias = NDArray[np.float32]
    Rows: TypeAlias = NDArray[np.int64]

LEAST, MOST = 0.001, 0.999
"""Expected outcomes keep this distance from certainty."""


@dataclass(frozen=True)
class Prompts:
    """n prompts. `vectors`: float32 (n, d), unit length. `texts`: n."""

    vectors: Embeddings
    texts: tuple[str, ...]

    @cached_property
    def signs(self) -> tuple[wording.Places, ...]:
        """How each is worded; computed once for all who look."""
        return tuple(wording.places(text) for text in self.texts)

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: Rows) -> Prompts:
        """The prompts at these places."""
        return Prompts(self.vectors[rows], tuple(self.texts[row] for row in rows.tolist()))


@dataclass(frozen=True, slots=True)
class Expected:
    """What is expected of m models on n prompts. `mean`: float32 (n, m) in [0, 1], NaN where there is no opinion.

    `spread`: float32 (n, m), the standard deviation of that mean: how far off it may be, not how much single answers differ.
    """

    mean: Floats
    spread: Floats

    def of(self, columns: Sequence[int]) -> Expected:
        """Of these models alone, in this order."""
        return Expected(self.mean[:, columns], self.spread[:, columns])


@dataclass(frozen=True, slots=True)
class Lessons:
    """Outcomes to learn from: n prompts, m models. `scores`, `costs`: float32 (n, m), NaN where unknown. `datasets`: n names, or nothing.

    `aside`: float32 (n, x), outcomes of other models on the same prompts, NaN where unknown: they tell hard prompts from easy ones.
    `aside_cards`: what is known of these x models, or nothing: they also teach what a card says of a model.
    `reading`: how wording becomes numbers, where that is settled; None: whoever needs it settles it.
    `cards`: what is known of the models themselves (price, window, description); a model that has none has a bare card.
    """

    prompts: Prompts
    scores: Floats
    costs: Floats
    models: tuple[str, ...]
    datasets: tuple[str, ...]
    cards: tuple[Model, ...] = ()
    reading: Reading | None = None
    aside: Floats | None = None
    aside_cards: tuple[Model, ...] = ()

    def __post_init__(self) -> None:
        """Raises ValueError if the parts do not fit together."""
        vectors = self.prompts.vectors
        if vectors.ndim != 2 or not len(vectors) or self.scores.shape != (len(vectors), len(self.models)):
            raise ValueError(f"vectors {vectors.shape} and scores {self.scores.shape} do not fit {len(self.models)} models")
        if len(set(self.models)) != len(self.models):
            raise ValueError("a model is named twice")
        if self.aside_cards and (self.aside is None or self.aside.shape[1] != len(self.aside_cards)):
            raise ValueError(f"{len(self.aside_cards)} cards do not fit the outcomes of other models")
        if not np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-3):
            raise ValueError("the vectors are not all of unit length")
        known = self.scores[~np.isnan(self.scores)]
        if not ((known >= 0) & (known <= 1)).all():
            raise ValueError("a score is outside [0, 1]")

    def __len__(self) -> int:
        return len(self.prompts)

    def take(self, rows: Rows) -> Lessons:
        """The lessons at these places."""
        datasets = tuple(self.datasets[row] for row in rows.tolist()) if self.datasets else ()
        aside = None if self.aside is None else self.aside[rows]
        prompts, scores, costs = self.prompts.take(rows), self.scores[rows], self.costs[rows]
        return replace(self, prompts=prompts, scores=scores, costs=costs, datasets=datasets, aside=aside)

    @property
    def means(self) -> Floats:
        """Mean score of each model over what is known of it, (m,). Raises ValueError if of one nothing is known."""
        counts: list[int] = np.count_nonzero(~np.isnan(self.scores), axis=0).tolist()
        silent = [name for name, count in zip(self.models, counts, strict=True) if not count]
        if silent:
            raise ValueError(f"no outcome at all is known of {', '.join(silent)}")
        return np.asarray(np.nanmean(self.scores, axis=0, dtype=np.float64), dtype=np.float32)


class Predictor(Protocol):
    """A fitted router of some family, for the models that it was fitted to. Immutable: what learns while serving makes another one."""

    def expect(self, prompts: Prompts) -> Expected: ...

    def tensors(self) -> Mapping[str, Tensor]: ...

    def settings(self) -> Mapping[str, object]: ...


@dataclass(frozen=True, slots=True)
class Stored:
    """A predictor as an artifact keeps it: arrays and settings by name. `what` is asked for by those who read it back.

    `prefix`: of the names of its arrays, where it is a part of another one.
    """

    folder: Path
    models: tuple[str, ...]
    arrays: Mapping[str, Tensor]
    values: Mapping[str, Any]
    prefix: str = ""

    def array(self, name: str, *shape: int | None) -> Tensor:
        """An array of this shape (None: any length), all finite. Raises BadArtifact that names the tensor."""
        full = self.prefix + name
        found = self.arrays.get(full)
        if found is None:
            raise artifacts.BadArtifact(self.folder, f"{artifacts.TENSORS}: tensor {full!r} is missing")
        if found.ndim != len(shape) or any(want is not None and have != want for have, want in zip(found.shape, shape, strict=True)):
            wanted = ", ".join("any" if want is None else str(want) for want in shape)
            raise artifacts.BadArtifact(self.folder, f"{artifacts.TENSORS}: tensor {full!r} has shape {found.shape}, expected ({wanted})")
        if found.dtype.kind == "f" and not np.isfinite(found).all():
            raise artifacts.BadArtifact(self.folder, f"{artifacts.TENSORS}: tensor {full!r} holds numbers that are not finite")
        return found

    def raw(self, name: str) -> Tensor:
        """An array in which NaN means unknown. Raises BadArtifact if it is missing."""
        full = self.prefix + name
        if full not in self.arrays:
            raise artifacts.BadArtifact(self.folder, f"{artifacts.TENSORS}: tensor {full!r} is missing")
        return self.arrays[full]

    def shared(self, name: str, *shape: int | None) -> Tensor:
        """An array that a part may have in common with what it is a part of. Raises BadArtifact."""
        prefix = self.prefix
        while self.prefix + name not in self.arrays and prefix.rstrip("/"):
            prefix = prefix.rstrip("/").rpartition("/")[0] + "/"
            if prefix + name in self.arrays:
                return replace(self, prefix=prefix).array(name, *shape)
        return self.array(name, *shape)

    def number(self, name: str, least: float, most: float = 1e6) -> float:
        """A number of the settings, within bounds. Raises BadArtifact."""
        value = self.values.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise artifacts.BadArtifact(self.folder, f"{artifacts.SETTINGS}: {name} must be a number from {least:g} to {most:g}")
        return value

    def names(self, name: str) -> tuple[str, ...]:
        """A list of texts of the settings. Raises BadArtifact."""
        value = self.values.get(name)
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise artifacts.BadArtifact(self.folder, f"{artifacts.SETTINGS}: {name} must be a list of texts")
        return tuple(value)

    def part(self, name: str, models: tuple[str, ...] | None = None) -> Stored:
        """The predictor that is a part of this one. Raises BadArtifact if there is none."""
        value = self.values.get(name)
        if not isinstance(value, Mapping):
            raise artifacts.BadArtifact(self.folder, f"{artifacts.SETTINGS}: {name} must be an object")
        return replace(self, values=value, prefix=f"{self.prefix}{name}/", models=models or self.models)


def gathered(parts: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors of parts in one table; `Stored.part` finds each part's again."""
    return {f"{part}/{name}": array for part, tensors in parts.items() for name, array in tensors.items()}


def unseen(count: int, folds: int, seed: int) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Deals `count` rows into folds: for each the rows in it, and all others, of which something is learned that has not seen these."""
    fold = np.random.default_rng([seed, 3]).permutation(count) % folds
    for part in range(folds):
        yield np.flatnonzero(fold == part), np.flatnonzero(fold != part)


@dataclass(frozen=True, slots=True)
class Calibration:
    """Mends expected outcomes so that they come true on average: logistic with one slope, and a shift for each model (m,).

    `spread`: factor by which the predictor's own spread is too small or too large. (Platt 1999; on held-out questions.)
    """

    slope: float
    shifts: Floats
    spread: float = 1.0
    changes: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "changes", bool(self.slope != 1.0 or self.spread != 1.0 or self.shifts.any()))

    @classmethod
    def none(cls, models: int) -> Self:
        """Leaves everything as it is."""
        return cls(1.0, np.zeros(models, dtype=np.float32))

    def apply(self, found: Expected) -> Expected:
        if not self.changes:
            return found
        mean = sigmoid(self.slope * logit(found.mean) + self.shifts)
        return Expected(mean, found.spread * np.float32(self.spread))

    def settings(self) -> dict[str, object]:
        return {"slope": self.slope, "shifts": self.shifts.tolist(), "spread": self.spread}

    @classmethod
    def read(cls, stored: Stored) -> Self:
        """Raises BadArtifact."""
        shifts = stored.values.get("shifts")
        numbers = isinstance(shifts, list) and all(isinstance(one, int | float) for one in shifts)
        if not numbers or len(shifts or ()) != len(stored.models):
            raise artifacts.BadArtifact(stored.folder, f"{artifacts.SETTINGS}: calibration.shifts must be {len(stored.models)} numbers")
        return cls(stored.number("slope", 0), np.array(shifts, dtype=np.float32), stored.number("spread", 0))


def logit(chance: NDArray[np.floating[Any]]) -> Floats:
    bounded = np.clip(chance, LEAST, MOST)
    found: Floats = np.log(bounded / (1 - bounded), dtype=np.float32)
    return found


def sigmoid(value: NDArray[np.floating[Any]]) -> Floats:
    found: Floats = (0.5 * (1 + np.tanh(0.5 * value))).astype(np.float32)
    return found


@dataclass(frozen=True, slots=True)
class Making:
    """What is written down with an artifact. `metrics`: figures on held-out data. `extra`: arrays for others than the router, by name."""

    encoder: Encoder
    data_hash: str
    created: datetime
    metrics: Mapping[str, float]
    extra: Mapping[str, Tensor] = field(default_factory=dict)


def write(folder: Path, kind: str, predictor: Predictor, models: Sequence[str], calibration: Calibration, making: Making) -> str:
    """Writes a fitted router as an artifact and returns its hash. Raises what artifacts.write raises."""
    origin = artifacts.Origin(kind, models, making.data_hash, making.created, artifacts.EncoderId.of(making.encoder), making.metrics)
    settings = {"router": dict(predictor.settings()), "calibration": calibration.settings()}
    tensors = gathered({"router": predictor.tensors()})
    return artifacts.write(folder, origin, {**tensors, **making.extra}, settings)


class LearnedScorer:
    """A router that was fitted to outcomes. `artifact`: a folder made by `pointsman train`. Models that it does not know get no opinion.

    `quick`: a family's promise, held against `make bench-routers`: see `routers.api.Scorer`.
    """

    kind: ClassVar[str]
    needs: frozenset[Need] = frozenset({"text", "embedding"})
    instant = False
    quick = False
    predicts: Literal["quality"] = "quality"

    def __init__(self, artifact: Path) -> None:
        loaded = artifacts.load(artifact, self.kind)
        stored = Stored(loaded.folder, loaded.manifest.models, loaded.tensors, loaded.settings)
        self.predictor = self.read(stored.part("router"))
        self.calibration = Calibration.read(stored.part("calibration"))
        self.models = loaded.manifest.models
        self.encoder = encoder_of(loaded)
        self.artifact_hash = loaded.hash
        self.artifact = loaded
        self._columns = {name: column for column, name in enumerate(self.models)}
        self._try_out()

    def _try_out(self) -> None:
        """Raises BadArtifact if its parts do not fit each other or the encoder's vectors."""
        folder = self.artifact.folder
        try:
            found = self.expect(Prompts(self.encoder.encode([""]), ("",)), self.models)
        except (ValueError, IndexError) as error:
            raise artifacts.BadArtifact(folder, f"{artifacts.TENSORS}: the tensors do not fit together: {error}") from None
        if found.mean.shape != (1, len(self.models)) or not np.isfinite(found.spread).all():
            raise artifacts.BadArtifact(folder, f"{artifacts.TENSORS}: what it expects is not finite")

    @classmethod
    def read(cls, stored: Stored) -> Predictor:
        """The predictor that an artifact of this kind holds. Raises BadArtifact."""
        raise NotImplementedError

    def expect(self, prompts: Prompts, models: Sequence[str]) -> Expected:
        """What is expected of these models, as `score` gives it. Raises KeyError for a model that it does not know."""
        return self.calibration.apply(self.predictor.expect(prompts)).of([self._columns[name] for name in models])

    def score(self, request: RouteRequest, candidates: Sequence[Candidate]) -> Mapping[str, float]:
        if request.embedding is None:
            return {}
        found = self.calibration.apply(self.predictor.expect(Prompts(request.embedding[None], (request.text,))))
        mean, spread = found.mean[0].tolist(), found.spread[0].tolist()
        opinions = {}
        for candidate in candidates:
            column = self._columns.get(candidate.name)
            if column is not None and mean[column] == mean[column]:
                opinions[candidate.name] = Opinion(mean[column], spread[column])
        return opinions


def encoder_of(loaded: artifacts.Artifact) -> Encoder:
    """The encoder that made the artifact's vectors; vectors of any other one mean nothing beside them. Raises BadArtifact."""
    needed = loaded.manifest.encoder
    if needed is None or needed.name not in ENCODERS:
        named = "no encoder" if needed is None else f"the encoder {needed.name!r}"
        raise artifacts.BadArtifact(loaded.folder, f"names {named}; known: {', '.join(ENCODERS)}")
    encoder = ENCODERS[needed.name]()
    if encoder.hash != needed.hash:
        raise artifacts.BadArtifact(loaded.folder, f"was made with another version of the encoder {needed.name!r}; train it again")
    return encoder

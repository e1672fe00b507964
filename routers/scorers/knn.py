"""How well did each model do on the prompts that were most like this one?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from routers.artifacts import TENSORS, BadArtifact
from routers.index import Index, index_of, nearest
from routers.learned import Expected, LearnedScorer, Lessons, Prompts, Stored

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from routers.api import Embedding, Embeddings
    from routers.artifacts import Tensor
    from routers.learned import Floats, Rows

    Doubles = NDArray[np.float64]

KNOBS = (10, 50, 100, 200)
"""Few and far between: with more, what validation prefers is noise."""
QUICK_NUMBERS = 1_300_000
"""Of so many numbers in vectors an exact search takes a few hundred microseconds."""
PRIOR = 2.0
"""Neighbours that a model's own mean counts for in the spread: so few neighbours that agree are not certain."""


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Prompts whose outcomes are known. `vectors`: float32 (n, d), unit length. `scores`: float32 (n, m) in [0, 1], NaN is unknown.

    `means`: float32 (m,), each model's mean over what is known of it. `k` neighbours count; `shrink` more are taken to have had the mean.
    `index`: finds neighbours among many; None: all are looked at. `complete`: every outcome is known.
    """

    vectors: Embeddings
    scores: Floats
    means: Floats
    k: int
    shrink: float = 0.0
    index: Index | None = None
    complete: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "complete", not np.isnan(self.scores).any())

    def near(self, vector: Embedding) -> Rows:
        """The places of the k prompts that are most similar to a vector, in no order."""
        return nearest(self.vectors, self.index, vector, self.k)

    def expect(self, prompts: Prompts) -> Expected:
        """Each model's mean over the k most similar prompts, where its outcome is known; shrunk to its overall mean."""
        return self.expect_near([self.scores.take(self.near(vector), axis=0) for vector in prompts.vectors])

    def expect_near(self, found: Sequence[Floats]) -> Expected:
        """As `expect`, of n prompts for each of which the scores (k, m) at its neighbours are given."""
        count: float | Doubles
        if self.complete and len(found) == 1:  # what a decision asks for: plain numbers are cheaper than arrays of one
            count, total = float(len(found[0])), np.add.reduce(found[0], axis=0, dtype=np.float64, keepdims=True)
            mean = (total + self.shrink * self.means) / (count + self.shrink) if self.shrink else total / count
        else:
            count, total = _counted(found, len(self.means))
            mean = np.where(count > 0, (total + self.shrink * self.means) / np.maximum(count + self.shrink, 1e-9), self.means)
        count = count + PRIOR
        smoothed = (total + PRIOR * self.means) / count
        return Expected(mean.astype(np.float32), np.sqrt(smoothed * (1 - smoothed) / count).astype(np.float32))

    def tensors(self) -> Mapping[str, Tensor]:
        kept: dict[str, Tensor] = {"vectors": self.vectors, "scores": self.scores}
        return kept if self.index is None else {**kept, **self.index.tensors()}

    def settings(self) -> Mapping[str, object]:
        return {"k": self.k, "shrink": self.shrink}


def _counted(found: Sequence[Floats], models: int) -> tuple[Doubles, Doubles]:
    """How many outcomes of each of m models are known at n prompts' neighbours, and their sum: (n, m) each."""
    count, total = np.empty((2, len(found), models))
    for row, scores in enumerate(found):
        unknown = np.isnan(scores)
        np.subtract(len(scores), np.add.reduce(unknown, axis=0), out=count[row])
        np.add.reduce(np.where(unknown, np.float32(0), scores), axis=0, out=total[row])
    return count, total


def fit(lessons: Lessons, knob: float, seed: int = 0) -> Neighbours:
    """Neighbours from lessons; the knob is k. Raises ValueError if a model has no outcome at all."""
    index = index_of(lessons.prompts.vectors)
    return among(lessons if index is None else lessons.take(index.order), int(knob), index)


def among(lessons: Lessons, k: int, index: Index | None) -> Neighbours:
    """Neighbours from lessons that lie in the order of this index of theirs."""
    vectors = np.asarray(lessons.prompts.vectors, dtype=np.float32)
    index = None if index is None else index.over(vectors)
    return Neighbours(vectors, np.asarray(lessons.scores, dtype=np.float32), lessons.means, min(k, len(vectors)), index=index)


def read(stored: Stored) -> Neighbours:
    """Raises BadArtifact."""
    vectors, scores = stored.array("vectors", None, None), stored.raw("scores")
    try:
        means = Lessons(Prompts(vectors, ()), scores, scores, stored.models, ()).means
    except ValueError as error:
        raise BadArtifact(stored.folder, f"{TENSORS}: {error}") from None
    k, shrink = int(stored.number("k", 1)), stored.number("shrink", 0)
    return Neighbours(vectors, scores, means, min(k, len(vectors)), shrink, Index.read(stored, vectors))


class Knn(LearnedScorer):
    """The mean outcome of each model on the k most similar prompts of an artifact. Models that it does not know get no opinion.

    `artifact`: a folder made by `pointsman train knn`. `k`, `shrink`: as in the artifact unless given. Exact search by cosine up to 10,000
    prompts, approximate above.
    """

    kind = "knn"

    def __init__(
        self,
        artifact: Path,
        k: Annotated[int, Field(ge=1)] | None = None,
        shrink: Annotated[float, Field(ge=0, le=1e6)] | None = None,
    ) -> None:
        super().__init__(artifact)
        known = self.predictor
        if not isinstance(known, Neighbours):
            raise TypeError("a knn artifact holds neighbours")
        k = known.k if k is None else min(k, len(known.vectors))
        self.predictor = replace(known, k=k, shrink=known.shrink if shrink is None else shrink)
        self.quick = known.index is not None or known.vectors.size <= QUICK_NUMBERS

    @classmethod
    def read(cls, stored: Stored) -> Neighbours:
        return read(stored)

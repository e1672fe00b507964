"""How well did each model do on the prompts that were most like this one?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from routers.artifacts import TENSORS, BadArtifact
from routers.learned import Expected, LearnedScorer, Lessons, Prompts, Stored

if TYPE_CHECKING:
    from routers.api import Embedding, Embeddings
    from routers.artifacts import Tensor
    from routers.learned import Floats, Rows

KNOBS = (10, 50, 100, 200)
"""Few and far between: with more, what validation prefers is noise."""
EXACT_ROWS = 50_000
"""Of more prompts, the neighbours are looked up in a graph (HNSW, Malkov and Yashunin 2018) that finds nearly all of them."""
SEARCHED = 128
"""Candidates that the graph keeps while it looks."""
PRIOR = 2.0
"""Neighbours that a model's own mean counts for in the spread: so few neighbours that agree are not certain."""


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Prompts whose outcomes are known. `vectors`: float32 (n, d), unit length. `scores`: float32 (n, m) in [0, 1], NaN is unknown.

    `means`: float32 (m,), each model's mean over what is known of it. `k` neighbours count; `shrink` more are taken to have had the mean.
    `index`: finds neighbours among many; None: all are looked at.
    """

    vectors: Embeddings
    scores: Floats
    means: Floats
    k: int
    shrink: float = 0.0
    index: Any = None

    def expect(self, prompts: Prompts) -> Expected:
        """Each model's mean over the k most similar prompts, where its outcome is known; shrunk to its overall mean."""
        found = [self._expect(vector) for vector in prompts.vectors]
        return Expected(np.stack([mean for mean, _ in found]), np.stack([spread for _, spread in found]))

    def _expect(self, vector: Embedding) -> tuple[Floats, Floats]:
        scores = self.scores[nearest(self.vectors, self.index, vector, self.k)]
        known = ~np.isnan(scores)
        count = np.count_nonzero(known, axis=0)
        total = np.where(known, scores, 0.0).sum(axis=0)
        mean = np.where(count > 0, (total + self.shrink * self.means) / np.maximum(count + self.shrink, 1e-9), self.means)
        smoothed = (total + PRIOR * self.means) / (count + PRIOR)
        spread = np.sqrt(smoothed * (1 - smoothed) / (count + PRIOR))
        return mean.astype(np.float32), spread.astype(np.float32)

    def tensors(self) -> Mapping[str, Tensor]:
        kept: dict[str, Tensor] = {"vectors": self.vectors, "scores": self.scores}
        return kept if self.index is None else {**kept, "index": written(self.index)}

    def settings(self) -> Mapping[str, object]:
        return {"k": self.k, "shrink": self.shrink}


def fit(lessons: Lessons, knob: float, seed: int = 0) -> Neighbours:
    """Neighbours from lessons; the knob is k. Raises ValueError if a model has no outcome at all."""
    vectors = np.asarray(lessons.prompts.vectors, dtype=np.float32)
    index = indexed(vectors) if len(vectors) > EXACT_ROWS else None
    return Neighbours(vectors, np.asarray(lessons.scores, dtype=np.float32), lessons.means, min(int(knob), len(vectors)), index=index)


def read(stored: Stored) -> Neighbours:
    """Raises BadArtifact."""
    vectors, scores = stored.array("vectors", None, None), stored.raw("scores")
    try:
        means = Lessons(Prompts(vectors, ()), scores, scores, stored.models, ()).means
    except ValueError as error:
        raise BadArtifact(stored.folder, f"{TENSORS}: {error}") from None
    k, shrink = int(stored.number("k", 1)), stored.number("shrink", 0)
    found = Neighbours(vectors, scores, means, min(k, len(vectors)), shrink)
    return found if len(vectors) <= EXACT_ROWS else replace(found, index=restored(stored, vectors))


def nearest(vectors: Embeddings, index: Any, vector: Embedding, k: int) -> Rows:
    """The places of the k vectors that are most similar to a vector, in no order; by an index if there is one, else exact."""
    if k >= len(vectors):
        return np.arange(len(vectors))
    if index is not None:
        found: Rows = index.search(vector, k).keys.astype(np.int64)
        return found
    return np.argpartition(-(vectors @ vector), k - 1)[:k]


def indexed(vectors: Embeddings) -> Any:
    """An index of vectors; the same each time."""
    index = _usearch()(ndim=vectors.shape[1], metric="ip", dtype="f32", connectivity=16, expansion_add=64, expansion_search=SEARCHED)
    index.add(np.arange(len(vectors)), vectors, threads=1)  # one thread: the graph depends on the order
    return index


def _usearch() -> Any:
    """usearch's index, loaded after onnxruntime: in the other order the process crashes (seen with usearch 2.26 and onnxruntime 1.32)."""
    import onnxruntime  # noqa: F401
    from usearch.index import Index

    return Index


def written(index: Any) -> Tensor:
    """An index as an artifact keeps it."""
    return np.frombuffer(index.save(None), dtype=np.uint8)


def restored(stored: Stored, vectors: Embeddings) -> Any:
    """The index of these vectors that an artifact keeps. Raises BadArtifact."""
    kept = stored.array("index", None)
    try:
        index = _usearch().restore(kept.tobytes())
    except RuntimeError as error:
        raise BadArtifact(stored.folder, f"{TENSORS}: tensor 'index' cannot be used: {error}") from None
    if index is None or len(index) != len(vectors) or index.ndim != vectors.shape[1]:
        raise BadArtifact(stored.folder, f"{TENSORS}: tensor 'index' is not of these vectors")
    setattr(index, "expansion_search", SEARCHED)  # noqa: B010
    return index


class Knn(LearnedScorer):
    """The mean outcome of each model on the k most similar prompts of an artifact. Models that it does not know get no opinion.

    `artifact`: a folder made by `pointsman train knn`. `k`, `shrink`: as in the artifact unless given. Exact search by cosine up to 50,000
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

    @classmethod
    def read(cls, stored: Stored) -> Neighbours:
        return read(stored)

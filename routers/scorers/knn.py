"""How well did each model do on the prompts that were most like this one?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import numpy as np
from pydantic import Field

from routers.artifacts import TENSORS, BadArtifact
from routers.learned import Expected, LearnedScorer, Lessons, Prompts, Stored
from routers.onnx import runtime

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from routers.api import Embedding, Embeddings
    from routers.artifacts import Tensor
    from routers.learned import Floats, Rows

KNOBS = (10, 50, 100, 200)
"""Few and far between: with more, what validation prefers is noise."""
EXACT_ROWS = 10_000
"""Of more prompts, the neighbours are looked up in a graph (HNSW, Malkov and Yashunin 2018) that finds nearly all of them."""
SEARCHED = 128
"""Candidates that it keeps while it looks."""
MARKS = 1_000
"""Vectors by which it is told which ones are alike when an index is made."""
WIDEST = np.float32(127)
PRIOR = 2.0
"""Neighbours that a model's own mean counts for in the spread: so few neighbours that agree are not certain."""


@dataclass(frozen=True, slots=True)
class Index:
    """Finds like vectors among many. `graph`: usearch's. `rounded`: it holds vectors as `whole` numbers, a quarter of the memory to read;
    the index of an older artifact holds float32.
    """

    graph: Any
    rounded: bool

    @classmethod
    def of(cls, vectors: Embeddings, searched: int = SEARCHED) -> Self:
        """An index of vectors, float32 (n, d); the same each time. `searched`: candidates that it keeps while it looks."""
        kind = {"metric": "ip", "dtype": "i8", "connectivity": 16, "expansion_add": 64, "expansion_search": searched}
        graph = _usearch().Index(ndim=vectors.shape[1], **kind)
        order = _order(vectors)
        graph.add(order, whole(vectors)[order], threads=1)  # one thread: the graph depends on the order
        return cls(graph, rounded=True)

    @classmethod
    def read(cls, stored: Stored, vectors: Embeddings, searched: int = SEARCHED) -> Self | None:
        """The index of these vectors that an artifact keeps; None if it keeps none. Raises BadArtifact."""
        if stored.prefix + "index" not in stored.arrays:
            return None
        kept, usearch = stored.array("index", None), _usearch()
        try:
            graph = usearch.Index.restore(kept.tobytes())
        except (RuntimeError, ValueError) as error:
            raise BadArtifact(stored.folder, f"{TENSORS}: tensor 'index' cannot be used: {error}") from None
        if graph is None or len(graph) != len(vectors) or graph.ndim != vectors.shape[1]:
            raise BadArtifact(stored.folder, f"{TENSORS}: tensor 'index' is not of these vectors")
        graph.expansion_search = searched
        return cls(graph, rounded=graph.dtype == usearch.ScalarKind.I8)

    def search(self, vector: Embedding, k: int) -> Rows:
        """The places of k vectors, nearly all of them the most similar ones to a vector."""
        found: Rows = self.graph.search(whole(vector) if self.rounded else vector, k, threads=1).keys.astype(np.int64)
        return found

    def written(self) -> Tensor:
        """As an artifact keeps it."""
        return np.frombuffer(self.graph.save(None), dtype=np.uint8)


def whole(vectors: NDArray[np.float32]) -> NDArray[np.int8]:
    """Vectors on a scale on which their largest number is 127, rounded. The order of similarities does not depend on a query's scale."""
    found: NDArray[np.int8] = np.rint(vectors * (WIDEST / max(float(np.abs(vectors).max()), 1e-9))).astype(np.int8)
    return found


def _order(vectors: Embeddings) -> Rows:
    """In which order an index takes vectors, (n,): every tenth, so that its graph spans them all; then the others, like ones one after the
    other. They are looked at together, and lie together in memory.
    """
    places = np.arange(len(vectors))
    first, rest = places[::10], places[places % 10 > 0]
    marks = vectors[first[:: max(1, len(first) // MARKS)]].T
    parts = [rest[start : start + 4096] for start in range(0, len(rest), 4096)]
    kin = [np.argmax(vectors[part] @ marks, axis=1) for part in parts]
    return np.concatenate([first, rest[np.argsort(np.concatenate(kin), kind="stable")]]) if kin else first


def _usearch() -> Any:
    """The module of usearch's index, loaded after onnxruntime: in the other order the process crashes (seen with usearch 2.26 and
    onnxruntime 1.32).
    """
    runtime()
    import usearch.index

    return usearch.index


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
    index: Index | None = None

    def near(self, vector: Embedding) -> Rows:
        """The places of the k prompts that are most similar to a vector, in no order."""
        return nearest(self.vectors, self.index, vector, self.k)

    def expect(self, prompts: Prompts) -> Expected:
        """Each model's mean over the k most similar prompts, where its outcome is known; shrunk to its overall mean."""
        return self.expect_near([self.scores.take(self.near(vector), axis=0) for vector in prompts.vectors])

    def expect_near(self, found: Sequence[Floats]) -> Expected:
        """As `expect`, of n prompts for each of which the scores (k, m) at its neighbours are given."""
        count, total = np.empty((2, len(found), len(self.means)))
        for row, scores in enumerate(found):
            unknown = np.isnan(scores)
            np.subtract(len(scores), np.add.reduce(unknown, axis=0), out=count[row])
            np.add.reduce(np.where(unknown, np.float32(0), scores), axis=0, out=total[row])
        mean = np.where(count > 0, (total + self.shrink * self.means) / np.maximum(count + self.shrink, 1e-9), self.means)
        smoothed = (total + PRIOR * self.means) / (count + PRIOR)
        spread = np.sqrt(smoothed * (1 - smoothed) / (count + PRIOR))
        return Expected(mean.astype(np.float32), spread.astype(np.float32))

    def tensors(self) -> Mapping[str, Tensor]:
        kept: dict[str, Tensor] = {"vectors": self.vectors, "scores": self.scores}
        return kept if self.index is None else {**kept, "index": self.index.written()}

    def settings(self) -> Mapping[str, object]:
        return {"k": self.k, "shrink": self.shrink}


def fit(lessons: Lessons, knob: float, seed: int = 0) -> Neighbours:
    """Neighbours from lessons; the knob is k. Raises ValueError if a model has no outcome at all."""
    vectors = np.asarray(lessons.prompts.vectors, dtype=np.float32)
    index = Index.of(vectors) if len(vectors) > EXACT_ROWS else None
    return Neighbours(vectors, np.asarray(lessons.scores, dtype=np.float32), lessons.means, min(int(knob), len(vectors)), index=index)


def read(stored: Stored) -> Neighbours:
    """Raises BadArtifact."""
    vectors, scores = stored.array("vectors", None, None), stored.raw("scores")
    try:
        means = Lessons(Prompts(vectors, ()), scores, scores, stored.models, ()).means
    except ValueError as error:
        raise BadArtifact(stored.folder, f"{TENSORS}: {error}") from None
    k, shrink = int(stored.number("k", 1)), stored.number("shrink", 0)
    return Neighbours(vectors, scores, means, min(k, len(vectors)), shrink, Index.read(stored, vectors))


def nearest(vectors: Embeddings, index: Index | None, vector: Embedding, k: int) -> Rows:
    """The places of the k vectors that are most similar to a vector, in no order; by an index if there is one, else exact."""
    if k >= len(vectors):
        return np.arange(len(vectors))
    if index is not None:
        return index.search(vector, k)
    return np.argpartition(-(vectors @ vector), k - 1)[:k]


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

    @classmethod
    def read(cls, stored: Stored) -> Neighbours:
        return read(stored)

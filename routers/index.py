"""Finds like vectors among many: vectors lie in lists of like ones, and only the lists whose centres are nearest to a vector are read.

(An inverted file: Sivic and Zisserman, "Video Google", 2003; Jégou, Douze and Schmid, "Product quantization for nearest neighbor search",
2011, section IV.) A graph (HNSW) compares about as many vectors, but each lies somewhere else in memory: where it took 480 µs for the
nearest 50 of 27,000 vectors of 128 numbers, lists, which are read from their start to their end, take 320 and find as many of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from routers.artifacts import TENSORS, BadArtifact
from routers.learning.centroids import centroids

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from routers.api import Embedding, Embeddings
    from routers.artifacts import Tensor
    from routers.learned import Rows, Stored

    Numbers = NDArray[np.int32]

EXACT_ROWS = 10_000
"""Of more vectors, the like ones are looked up in an index."""
LOOKED = 2_000
"""Vectors that a search compares at least, about."""
FOLD = 30
"""So many times as many vectors as are wanted are compared: more find more of the nearest ones, and take longer, as memory is what they
wait for. Of 27,000 prompts (encoder `static`) 0.95 to 0.98 of the nearest 30 to 200 are found, as a graph found them; a third as much finds
0.82 to 0.91 in half the time, and with MiniLM's vectors `knn` was a little worse by it on validation.
"""
SAMPLE = 40
"""Vectors a list that say where the centres are."""
PORTION = 4_096


@dataclass(frozen=True, slots=True)
class Index:
    """n vectors in c lists. `centres`: float32 (c, d), unit length. `belongs`: int32 (n,), in which list each vector lies.

    `lists`: the vectors (l, d) of each; they are no copies if the n vectors are given list by list. `places`: int64 (l,), their rows.
    """

    centres: Embeddings
    belongs: Numbers
    lists: tuple[Embeddings, ...]
    places: tuple[Rows, ...]

    @classmethod
    def of(cls, vectors: Embeddings) -> Self:
        """An index of vectors, float32 (n, d); the same each time."""
        count = max(1, round(len(vectors) ** 0.5))
        centres = centroids(vectors[:: max(1, len(vectors) // (SAMPLE * count))], count, 0)
        portions = (vectors[start : start + PORTION] for start in range(0, len(vectors), PORTION))
        belongs = np.concatenate([np.argmax(portion @ centres.T, axis=1) for portion in portions])
        return cls.among(vectors, centres, belongs.astype(np.int32))

    @classmethod
    def among(cls, vectors: Embeddings, centres: Embeddings, belongs: Numbers) -> Self:
        """An index whose lists are known."""
        order = np.argsort(belongs, kind="stable")
        listed = vectors if (belongs[1:] >= belongs[:-1]).all() else vectors[order]
        ends = np.cumsum(np.bincount(belongs, minlength=len(centres)))[:-1]
        return cls(centres, belongs, tuple(np.split(listed, ends)), tuple(np.split(order, ends)))

    @classmethod
    def read(cls, stored: Stored, vectors: Embeddings) -> Self | None:
        """The index of an artifact's vectors: as it keeps it, else a new one if they are many (older artifacts keep another kind); None if
        they are few. Raises BadArtifact.
        """
        if stored.prefix + "centres" not in stored.arrays:
            return cls.of(vectors) if len(vectors) > EXACT_ROWS else None
        centres, belongs = stored.array("centres", None, vectors.shape[1]), stored.array("lists", len(vectors))
        if belongs.dtype != np.int32 or not len(centres) or (belongs < 0).any() or (belongs >= len(centres)).any():
            raise BadArtifact(stored.folder, f"{TENSORS}: tensor 'lists' does not name lists of these vectors")
        return cls.among(vectors, centres, belongs)

    @property
    def order(self) -> Rows:
        """The rows of the vectors, list by list."""
        return np.concatenate(self.places)

    def over(self, listed: Embeddings) -> Self:
        """The same index of the same vectors, which are given in its `order`: it reads these and keeps no copies."""
        return self.among(listed, self.centres, self.belongs[self.order])

    def search(self, vector: Embedding, k: int) -> Rows:
        """The places of k vectors, nearly all of them the most similar ones to a vector, in no order; fewer if there are fewer."""
        near, total = self.centres.dot(vector), len(self.lists)
        count = min(total, -(-max(LOOKED, FOLD * k) * total // len(self.belongs)))
        while True:
            chosen = near.argpartition(-count)[-count:].tolist()
            places = np.concatenate([self.places[one] for one in chosen])
            if len(places) >= k or count == total:
                break
            count = min(total, 2 * count)  # the nearest lists are short ones
        if len(places) <= k:
            return places
        likeness = np.concatenate([self.lists[one].dot(vector) for one in chosen])
        return places[likeness.argpartition(-k)[-k:]]

    def tensors(self) -> dict[str, Tensor]:
        """As an artifact keeps it."""
        return {"centres": self.centres, "lists": self.belongs}


def index_of(vectors: Embeddings) -> Index | None:
    """An index if the vectors are many; None if a search may look at all of them."""
    return Index.of(np.asarray(vectors, dtype=np.float32)) if len(vectors) > EXACT_ROWS else None


def nearest(vectors: Embeddings, index: Index | None, vector: Embedding, k: int) -> Rows:
    """The places of the k vectors that are most similar to a vector, in no order; by an index if there is one, else exact."""
    if k >= len(vectors):
        return np.arange(len(vectors))
    if index is not None:
        return index.search(vector, k)
    return np.argpartition(-(vectors @ vector), k - 1)[:k]

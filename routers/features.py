"""A prompt as one row of numbers for routers that compute: what it means, and how it is worded."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from routers import wording
from routers.learned import Prompts

if TYPE_CHECKING:
    from routers.artifacts import Tensor
    from routers.learned import Floats, Lessons, Stored

WIDTH = 96
"""Numbers that wording is brought down to."""
SCALE = np.float32(4.0)
"""Unit vectors of hundreds of numbers are small in each; nets start better with larger ones."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Wording as few numbers: `topics`, float32 (DIMENSIONS, WIDTH) of float16's precision, are latent (Deerwester et al. 1990)."""

    topics: Floats

    @property
    def table(self) -> Tensor:
        """The topics as an artifact keeps them: float16."""
        return self.topics.astype(np.float16)

    def rows(self, prompts: Prompts) -> Floats:
        """float32 (n, d + WIDTH): the vector, and the wording at unit length, both scaled."""
        if isinstance(prompts, ReadTogether) and prompts.reading is self:
            return prompts.rows
        meaning = prompts.vectors.shape[1]
        found = np.empty((len(prompts), meaning + self.topics.shape[1]), dtype=np.float32)
        np.multiply(prompts.vectors, SCALE, out=found[:, :meaning])
        for row, signs in zip(found[:, meaning:], prompts.signs, strict=True):
            worded = wording.weighed(signs, self.topics)
            np.multiply(worded, SCALE / max(math.sqrt(worded @ worded), 1e-9), out=row)
        return found


@dataclass(frozen=True)
class ReadTogether(Prompts):
    """Prompts for several routers that share a reading: their rows are computed once. `worded`: the same prompts, unread."""

    reading: Reading
    worded: Prompts

    @classmethod
    def of(cls, prompts: Prompts, reading: Reading) -> Self:
        return cls(prompts.vectors, prompts.texts, reading, prompts)

    @cached_property
    def rows(self) -> Floats:
        return self.reading.rows(self.worded)

    @cached_property
    def signs(self) -> tuple[wording.Places, ...]:
        return self.worded.signs


def softmax(value: Floats) -> Floats:
    """Along the last axis."""
    chances = np.exp(value - np.maximum.reduce(value, axis=-1, keepdims=True))
    found: Floats = (chances / np.add.reduce(chances, axis=-1, keepdims=True)).astype(np.float32, copy=False)
    return found


def reading(lessons: Lessons, seed: int) -> Reading:
    """The lessons' own reading, or one fitted to their wording."""
    if lessons.reading is not None:
        return lessons.reading
    from sklearn.decomposition import TruncatedSVD

    width = min(WIDTH, len(lessons) - 1)
    found = TruncatedSVD(width, random_state=seed, n_iter=4).fit(sparse(lessons.prompts))
    topics = np.zeros((wording.DIMENSIONS, WIDTH), dtype=np.float32)
    topics[:, :width] = found.components_.T.astype(np.float16)
    return Reading(topics)


def sparse(prompts: Prompts) -> Any:
    """The prompts' wording as a scipy CSR matrix (n, DIMENSIONS)."""
    from scipy.sparse import csr_matrix

    values, columns, starts = wording.matrix(prompts.signs)
    return csr_matrix((values, columns, starts), shape=(len(prompts), wording.DIMENSIONS))


def stored_reading(stored: Stored) -> Reading:
    """Raises BadArtifact."""
    return Reading(stored.shared("reading", wording.DIMENSIONS, WIDTH).astype(np.float32))

"""A prompt as one row of numbers for routers that compute: what it means, and how it is worded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from routers import wording

if TYPE_CHECKING:
    from routers.artifacts import Tensor
    from routers.learned import Floats, Lessons, Prompts, Stored

WIDTH = 96
"""Numbers that wording is brought down to."""
SCALE = np.float32(4.0)
"""Unit vectors of hundreds of numbers are small in each; nets start better with larger ones."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Wording as few numbers: a table float16 (DIMENSIONS, WIDTH) of latent topics (Deerwester et al. 1990)."""

    table: Tensor

    def rows(self, prompts: Prompts) -> Floats:
        """float32 (n, d + WIDTH): the vector, and the wording at unit length, both scaled."""
        worded = np.stack([wording.weighed(signs, self.table) for signs in prompts.signs])
        worded /= np.maximum(np.linalg.norm(worded, axis=1, keepdims=True), 1e-9)
        found: Floats = np.concatenate([prompts.vectors, worded], axis=1) * SCALE
        return found


def reading(lessons: Lessons, seed: int) -> Reading:
    """The lessons' own reading, or one fitted to their wording."""
    if lessons.reading is not None:
        return lessons.reading
    from sklearn.decomposition import TruncatedSVD

    width = min(WIDTH, len(lessons) - 1)
    found = TruncatedSVD(width, random_state=seed, n_iter=4).fit(sparse(lessons.prompts))
    table = np.zeros((wording.DIMENSIONS, WIDTH), dtype=np.float16)
    table[:, :width] = found.components_.T
    return Reading(table)


def sparse(prompts: Prompts) -> Any:
    """The prompts' wording as a scipy CSR matrix (n, DIMENSIONS)."""
    from scipy.sparse import csr_matrix

    values, columns, starts = wording.matrix(prompts.signs)
    return csr_matrix((values, columns, starts), shape=(len(prompts), wording.DIMENSIONS))


def stored_reading(stored: Stored) -> Reading:
    """Raises BadArtifact."""
    return Reading(stored.shared("reading", wording.DIMENSIONS, WIDTH))

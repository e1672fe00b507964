"""Groups of like prompts, and for each group a table of how well every model does. (Avengers-Pro, arXiv 2508.12631)"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from routers.artifacts import SETTINGS, TENSORS, BadArtifact
from routers.learned import Expected, Lessons, Prompts, Stored
from routers.learning.centroids import centroids
from routers.online import LearningScorer

if TYPE_CHECKING:
    from routers.artifacts import Tensor
    from routers.learned import Floats

KNOBS = (16, 32, 64, 128)
PRIOR = 10.0
"""Questions that a model's overall mean counts for in each group."""
NEAREST = 4
"""Groups that a prompt is taken to belong to, by nearness."""
SHARPNESS = 20.0


@dataclass(frozen=True, slots=True)
class Table:
    """c groups. `centres`: float32 (c, d), unit length. `right`, `wrong`: float32 (c, m): a Beta posterior of each model's mean score."""

    centres: Floats
    right: Floats
    wrong: Floats

    def expect(self, prompts: Prompts) -> Expected:
        """The posteriors' means in the nearest groups, the nearest weighing most."""
        near = prompts.vectors @ self.centres.T
        kept = min(NEAREST, len(self.centres))
        groups = np.argpartition(-near, kept - 1, axis=1)[:, :kept]
        close = np.take_along_axis(near, groups, axis=1)
        weights = np.exp(SHARPNESS * (close - close.max(axis=1, keepdims=True)))
        weights /= weights.sum(axis=1, keepdims=True)
        total = self.right + self.wrong
        mean = self.right / total
        variance = mean * (1 - mean) / (total + 1)
        return Expected(
            np.einsum("nk,nkm->nm", weights, mean[groups]).astype(np.float32),
            np.sqrt(np.einsum("nk,nkm->nm", weights**2, variance[groups])).astype(np.float32),
        )

    def group(self, vector: Floats) -> int:
        """The nearest group of a vector (d,)."""
        return int(np.argmax(self.centres @ vector))

    def open_to(self, column: int) -> bool:
        return True

    def learn(self, prompts: Prompts, column: int, score: float) -> Table:
        """One more count in the group that is nearest to the prompt."""
        group = self.group(prompts.vectors[0])
        right, wrong = self.right.copy(), self.wrong.copy()
        right[group, column] += score
        wrong[group, column] += 1 - score
        return replace(self, right=right, wrong=wrong)

    def tensors(self) -> Mapping[str, Tensor]:
        return {"centres": self.centres, "right": self.right, "wrong": self.wrong}

    def settings(self) -> Mapping[str, object]:
        return {"groups": len(self.centres)}


def fit(lessons: Lessons, knob: float, seed: int = 0) -> Table:
    """`knob` groups by the vectors alone, then counts by group, on top of the models' overall means."""
    centres = centroids(lessons.prompts.vectors, int(knob), seed)
    belongs = np.argmax(lessons.prompts.vectors @ centres.T, axis=1)
    known = ~np.isnan(lessons.scores)
    scores = np.where(known, lessons.scores, 0).astype(np.float32)
    right = np.tile(PRIOR * lessons.means, (len(centres), 1)).astype(np.float32)
    wrong = np.tile(PRIOR * (1 - lessons.means), (len(centres), 1)).astype(np.float32)
    np.add.at(right, belongs, scores)
    np.add.at(wrong, belongs, known - scores)
    return Table(centres, np.maximum(right, 1e-3), np.maximum(wrong, 1e-3))


def read(stored: Stored) -> Table:
    """Raises BadArtifact."""
    centres = stored.array("centres", None, None)
    if stored.values.get("groups") != len(centres):
        raise BadArtifact(stored.folder, f"{SETTINGS}: groups must be {len(centres)}")
    right, wrong = (stored.array(name, len(centres), len(stored.models)) for name in ("right", "wrong"))
    if (right <= 0).any() or (wrong <= 0).any():
        raise BadArtifact(stored.folder, f"{TENSORS}: a count of 'right' or 'wrong' is not above 0")
    return Table(centres, right, wrong)


class Clusters(LearningScorer):
    """Each model's record in the groups of prompts that are nearest to this one. `artifact`: made by `pointsman train clusters`.

    With `learn_per_hour`, feedback counts as further outcomes.
    """

    kind = "clusters"
    quick = True
    learned = MappingProxyType({"right": 1, "wrong": 1})

    @classmethod
    def read(cls, stored: Stored) -> Table:
        return read(stored)

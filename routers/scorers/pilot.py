"""Each expert owns pilots: centres of the prompts that it is best at. Who has one near is asked. (RouterRetriever, arXiv 2409.02685)"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from routers.artifacts import TENSORS, BadArtifact
from routers.learned import Expected, LearnedScorer, Lessons, Prompts, Stored, logit, sigmoid
from routers.learning.centroids import centroids
from routers.learning.descent import Pace, descend, masked_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from routers.artifacts import Tensor
    from routers.learned import Floats, Rows

KNOBS = (4.0, 16.0)
"""Pilots of each expert."""
PACE = Pace(epochs=30, rate=1e-2, decay=0.0)
SPREAD = 0.05


@dataclass(frozen=True, slots=True)
class Pilots:
    """p pilots, m models. `vectors`: float32 (p, d), unit length. `owner`: int16 (p,). What a similarity is worth: `weights`: (2, m), of
    the greatest and of the mean similarity to the model's own pilots, less the same over all pilots; `shift`: (m,).
    """

    vectors: Floats
    owner: Tensor
    weights: Floats
    shift: Floats

    def expect(self, prompts: Prompts) -> Expected:
        near = nearness(prompts.vectors, self.vectors, self.owner, len(self.shift))
        mean = sigmoid(np.einsum("fnm,fm->nm", near, self.weights) + self.shift)
        return Expected(mean.astype(np.float32), np.full(mean.shape, SPREAD, dtype=np.float32))

    def tensors(self) -> Mapping[str, Tensor]:
        return {"vectors": self.vectors, "owner": self.owner, "weights": self.weights, "shift": self.shift}

    def settings(self) -> Mapping[str, object]:
        return {}


def nearness(vectors: Floats, pilots: Floats, owner: Tensor, models: int) -> Floats:
    """float32 (2, n, m): greatest and mean similarity of n vectors to each model's pilots, less what they are to all pilots; times 10."""
    similar = vectors @ pilots.T
    greatest = np.stack([similar[:, owner == model].max(axis=1) for model in range(models)], axis=1) - similar.max(axis=1, keepdims=True)
    mean = np.stack([similar[:, owner == model].mean(axis=1) for model in range(models)], axis=1) - similar.mean(axis=1, keepdims=True)
    found: Floats = np.stack([greatest, mean]).astype(np.float32) * np.float32(10)
    return found


def fit(lessons: Lessons, knob: float, seed: int = 0) -> Pilots:
    """`knob` pilots a model from the prompts where no other did better; then what nearness to them is worth, by descent."""
    best = np.nanmax(np.where(np.isnan(lessons.scores), -1, lessons.scores), axis=1, keepdims=True)
    advantage = np.where(np.isnan(lessons.scores), -1, lessons.scores) - np.nanmean(lessons.scores, axis=1, keepdims=True)
    pilots, owner = [], []
    for model in range(len(lessons.models)):
        good = (lessons.scores[:, model] >= best[:, 0]) & (advantage[:, model] > 0)
        chosen = lessons.prompts.vectors[good] if good.any() else lessons.prompts.vectors[np.argsort(-advantage[:, model])[:1]]
        found = centroids(chosen, int(knob), seed)
        pilots.append(found)
        owner += [model] * len(found)
    vectors, owners = np.concatenate(pilots), np.array(owner, dtype=np.int16)
    near = nearness(lessons.prompts.vectors, vectors, owners, len(lessons.models))
    start = [np.zeros((2, len(lessons.models)), np.float32), logit(lessons.means)]

    def gradients(now: Sequence[Floats], where: Rows) -> Sequence[Floats]:
        taken = near[:, where]
        error = masked_error(sigmoid(np.einsum("fnm,fm->nm", taken, now[0]) + now[1]), lessons.scores[where])
        return np.einsum("fnm,nm->fm", taken, error), error.sum(axis=0)

    descend(start, gradients, len(lessons), PACE, seed)
    return Pilots(vectors, owners, start[0], start[1])


def read(stored: Stored) -> Pilots:
    """Raises BadArtifact."""
    vectors = stored.array("vectors", None, None)
    owner = stored.array("owner", len(vectors))
    models = len(stored.models)
    if set(owner.tolist()) != set(range(models)):
        raise BadArtifact(stored.folder, f"{TENSORS}: tensor 'owner' must name each of the {models} models")
    return Pilots(vectors, owner, stored.array("weights", 2, models), stored.array("shift", models))


class Pilot(LearnedScorer):
    """Nearness to the prompts that each expert is best at; also among expert encoders. `artifact`: made by `pointsman train pilot`."""

    kind = "pilot"

    @classmethod
    def read(cls, stored: Stored) -> Pilots:
        return read(stored)

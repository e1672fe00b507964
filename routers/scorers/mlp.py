"""A small net: one hidden layer that all models share, and a head for each. (The baselines of GraphRouter, arXiv 2410.03834)"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from routers.features import Reading, reading, stored_reading
from routers.learned import Expected, LearnedScorer, Lessons, Prompts, Stored
from routers.learning.descent import Pace
from routers.learning.nets import Nets, Recipe, train
from routers.learning.nets import read as read_nets

if TYPE_CHECKING:
    from routers.artifacts import Tensor

KNOBS = (64.0, 256.0)
"""Width of the hidden layer."""
NETS = 4
PACE = Pace(epochs=20, rate=3e-3, decay=0.1)
DROPPED = 0.5


@dataclass(frozen=True, slots=True)
class Mlps:
    """Nets over the rows of a reading."""

    reading: Reading
    nets: Nets

    def expect(self, prompts: Prompts) -> Expected:
        return self.nets.expect(self.reading.rows(prompts))

    def tensors(self) -> Mapping[str, Tensor]:
        return {"reading": self.reading.table, **self.nets.tensors()}

    def settings(self) -> Mapping[str, object]:
        return {}


def fit(lessons: Lessons, knob: float, seed: int = 0) -> Mlps:
    """Nets of a hidden layer of `knob`. While training they also tell which dataset a prompt is from: that steadies what they look at."""
    found = reading(lessons, seed)
    names = sorted(set(lessons.datasets))
    aside = np.eye(len(names), dtype=np.float32)[[names.index(name) for name in lessons.datasets]]
    others = lessons.aside if lessons.aside is not None else np.zeros((len(lessons), 0), dtype=np.float32)
    targets = np.concatenate([lessons.scores, others, aside[:, : len(names) if len(names) > 1 else 0]], axis=1).astype(np.float32)
    recipe = Recipe(int(knob), DROPPED, NETS, PACE)
    return Mlps(found, train(found.rows(lessons.prompts), targets, len(lessons.models), recipe, seed))


def read(stored: Stored) -> Mlps:
    """Raises BadArtifact."""
    return Mlps(stored_reading(stored), read_nets(stored))


class Mlp(LearnedScorer):
    """A small net with a head for each model, over the prompt's meaning and wording. `artifact`: made by `pointsman train mlp`."""

    kind = "mlp"
    quick = True

    @classmethod
    def read(cls, stored: Stored) -> Mlps:
        return read(stored)

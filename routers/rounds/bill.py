"""What an ask will cost, by what is asked: some questions get long answers from everybody, and some from one model alone.

On mmlupro a model's price on a question is known to no better than its mean by half; whoever foresees it asks dear models where they are
cheap, which is worth as much as a better guess of who is right.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from routers.learned import Lessons, Prompts, Stored

if TYPE_CHECKING:
    from routers.artifacts import Tensor
    from routers.learned import Floats

THOUSAND = 1000.0
FIRMNESS = 10.0
"""So many questions speak against each number of the vector; of those that were tried, on train and validation, all from 3 to 30 do."""
LEAST, MOST = np.float32(0.3), np.float32(3.0)
"""No question is believed to cost a smaller or greater share of what is usual for its length."""
LEAST_USUAL = 0.2
"""Nor its length to bring that below this share of the model's mean."""
OUTLIER = 6.0


@dataclass(frozen=True, slots=True)
class Bill:
    """Of e models. `usual`: float32 (3, e), USD: of any prompt, of each 1,000 characters more, and the least. `meaning`: float32
    (d + 1, e): by the prompt's vector, and at last by nothing, what share of that an answer costs.
    """

    usual: Floats
    meaning: Floats

    def shares(self, vectors: Floats, models: int | None = None) -> Floats:
        """What answers cost, in shares of what is usual for prompts of that length: float32 (n, `models`). Of models that came later, the
        last ones, it is what it is of the others on average.
        """
        return _with_later(np.clip(vectors @ self.meaning[:-1] + self.meaning[-1], LEAST, MOST), models)

    def costs(self, prompts: Prompts, means: Floats) -> Floats:
        """USD (n, k). `means` (k,): the models' mean costs. Models that came later are the last ones; they are as much dearer on a question
        than on others as those that were known are on average.
        """
        characters = np.array([len(text) for text in prompts.texts], dtype=np.float32)[:, None] / np.float32(THOUSAND)
        known = self.usual.shape[1]
        usual = np.maximum(self.usual[0] + self.usual[1] * characters, self.usual[2])
        ratios = usual * self.shares(prompts.vectors) / np.maximum(means[:known], np.float32(1e-30))
        found: Floats = (_with_later(ratios, len(means)) * means).astype(np.float32)
        return found

    def tensors(self) -> Mapping[str, Tensor]:
        return {"usual": self.usual, "meaning": self.meaning}


def _with_later(known: Floats, models: int | None) -> Floats:
    """Columns for models that came later, which hold the mean of the others."""
    more = 0 if models is None else models - known.shape[1]
    if not more:
        return known
    return np.concatenate([known, np.repeat(known.mean(axis=1, keepdims=True), more, axis=1)], axis=1)


def fit(lessons: Lessons) -> Bill:
    """From the costs of lessons, all of which are known: first by length alone, then the share of that by ridge regression."""
    costs = lessons.costs.astype(np.float64)
    lengths = np.array([len(text) for text in lessons.prompts.texts]) / THOUSAND
    design = np.stack([np.ones(len(lessons)), lengths], axis=1)
    line = np.linalg.lstsq(design, costs, rcond=None)[0]
    least = np.maximum(LEAST_USUAL * costs.mean(axis=0), 1e-30)
    shares = np.minimum(costs / np.maximum(design @ line, least), OUTLIER)
    vectors = lessons.prompts.vectors.astype(np.float64)
    middle, level = vectors.mean(axis=0), shares.mean(axis=0)
    away = vectors - middle
    meaning = np.linalg.solve(away.T @ away + FIRMNESS * np.eye(away.shape[1]), away.T @ (shares - level))
    return Bill(np.vstack([line, least]).astype(np.float32), np.vstack([meaning, level - middle @ meaning]).astype(np.float32))


def read(stored: Stored) -> Bill:
    """Raises BadArtifact. `stored.models`: those that are known."""
    e = len(stored.models)
    return Bill(stored.array("usual", 3, e), stored.array("meaning", None, e))

"""How easy is each question, judged by all who answered it? One common factor of all models' outcomes. (Rubin and Thayer 1982)"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from routers.learned import Floats

    Doubles: TypeAlias = NDArray[np.float64]

ROUNDS = 10
LEAST_NOISE = 0.02
"""Variance of an outcome that no ease of the question explains: at least so much, however well the known ones agree."""


@dataclass(frozen=True, slots=True)
class Judges:
    """Models whose outcomes tell how easy a question is. `means`, `weights`, `noise`: (o,): an outcome is mean + weight * ease, and noise
    of this variance; ease is 0 on average, with variance 1.
    """

    means: Doubles
    weights: Doubles
    noise: Doubles

    @classmethod
    def of(cls, scores: Floats) -> Self:
        """From outcomes (n, o), NaN where unknown, by expectation and maximization. Every model must have an outcome."""
        known = ~np.isnan(scores)
        counts = known.sum(axis=0)
        means = np.asarray(np.nanmean(scores, axis=0, dtype=np.float64))
        off = np.where(known, scores - means, 0)
        variances = np.square(off).sum(axis=0) / counts
        judges = cls(means, np.sqrt(variances / 2), np.maximum(variances / 2, LEAST_NOISE))
        for _ in range(ROUNDS):
            ease, variance = judges._ease(off, known)
            together = off.T @ ease
            weights = together / np.maximum(known.T @ (np.square(ease) + variance), 1e-9)
            judges = cls(means, weights, np.maximum(variances - weights * together / counts, LEAST_NOISE))
        return judges

    def ease(self, scores: Floats, without: int | None = None) -> Doubles:
        """Of the questions with these outcomes (n, o): (n,). `without`: of the model in this column nothing is heard."""
        known = ~np.isnan(scores)
        if without is not None:
            known[:, without] = False
        return self._ease(np.where(known, scores - self.means, 0), known)[0]

    def _ease(self, off: Doubles, known: NDArray[np.bool_]) -> tuple[Doubles, Doubles]:
        """What is expected of the ease of questions, and its variance: (n,), (n,)."""
        says = self.weights / self.noise
        variance = 1 / (1 + known @ (self.weights * says))
        return (off @ says) * variance, variance

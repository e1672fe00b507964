"""Can expected scores be taken at their word? Where a router says 0.7, seven in ten should be right.

Expected calibration error with bins of equal mass: Naeini et al. 2015, https://ojs.aaai.org/index.php/AAAI/article/view/9602, and
Nixon et al. 2019, https://arxiv.org/abs/1904.01685. Brier score: Brier 1950.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from routers.learning.resampling import interval

if TYPE_CHECKING:
    from routers.learning.figures import Floats

BINS = 15


@dataclass(frozen=True, slots=True)
class Bin:
    """Pairs of like expected score: its mean, their mean true score, and how many they are."""

    expected: float
    score: float
    pairs: int


def bins(expected: Floats, scores: Floats) -> tuple[Bin, ...]:
    """At most BINS bins of nearly equal size over all entries, from the lowest expected score up. The two have the same shape."""
    flat, true = expected.ravel(), scores.ravel()
    order = np.argsort(flat, kind="stable")
    parts = [part for part in np.array_split(order, BINS) if len(part)]
    return tuple(Bin(float(flat[part].mean()), float(true[part].mean()), len(part)) for part in parts)


def expected_calibration_error(expected: Floats, scores: Floats) -> float:
    """Mean distance between expected and true score over the bins, weighted by their size: 0 is calibrated, 1 always wrong."""
    found = bins(expected, scores)
    return sum(abs(one.expected - one.score) * one.pairs for one in found) / sum(one.pairs for one in found)


def brier(expected: Floats, scores: Floats) -> float:
    """Mean squared distance between expected and true score."""
    return float(((expected - scores) ** 2).mean())


def calibration(expected: Floats, scores: Floats, models: Sequence[str], counts: Floats) -> dict[str, Any]:
    """`ece`, `brier` over all (question, model) pairs (n, m), and of each model alone; `brier_95` over resamples `counts` (r, n);
    `bins`: [mean expected score, mean score, pairs] each, for a plot.
    """
    errors = ((expected - scores) ** 2).mean(axis=1)
    return {
        "ece": expected_calibration_error(expected, scores),
        "brier": brier(expected, scores),
        "brier_95": interval(counts @ errors),
        "bins": [[one.expected, one.score, one.pairs] for one in bins(expected, scores)],
        "models": {
            name: {
                "ece": expected_calibration_error(expected[:, place], scores[:, place]),
                "brier": brier(expected[:, place], scores[:, place]),
            }
            for place, name in enumerate(models)
        },
    }


def trust(uncertainty: Floats, expected: Floats, scores: Floats) -> dict[str, Any]:
    """Does a router know when it does not know? `mean`: its mean standard deviation of an expected score; `ece_by_quarter`: the calibration
    error of the quarter of the pairs that it is surest of, and so on to the least sure (all (n, m)).
    """
    order = np.argsort(uncertainty.ravel(), kind="stable")
    quarters = [part for part in np.array_split(order, 4) if len(part)]
    flat, true = expected.ravel(), scores.ravel()
    return {"mean": float(uncertainty.mean()), "ece_by_quarter": [expected_calibration_error(flat[part], true[part]) for part in quarters]}

"""Figures on resampled questions: the percentile bootstrap (Efron 1979), with the hulls of all resamples built side by side.

Everything that is compared is read on the same resamples, so that the interval of a difference is a paired one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from routers.learning.figures import Floats

RESAMPLES = 1000
SEED = 20_261
ROUNDING = 1e-12


def resamples(questions: int, times: int = RESAMPLES, seed: int = SEED) -> Floats:
    """Shares of each of n questions in each resample: (times, n), rows add up to 1. The same for the same arguments."""
    rng = np.random.default_rng(seed)
    found: Floats = rng.multinomial(questions, np.full(questions, 1 / questions), size=times) / questions
    return found


def interval(values: Floats) -> list[float]:
    """The middle 95 % of a figure over resamples (r,), without those where it is not defined (NaN). [NaN, NaN] if it nowhere is.

    An end within ROUNDING of 0 is 0, so that noise in the last digit of a difference never passes for a gain.
    """
    known = values[~np.isnan(values)]
    if not len(known):
        return [float("nan"), float("nan")]
    low, high = np.percentile(known, [2.5, 97.5]).tolist()
    return [0.0 if abs(end) < ROUNDING else end for end in (low, high)]


@dataclass(frozen=True, slots=True)
class Hulls:
    """One `figures.Hull` for each of r resamples. `costs`, `accuracies`: (r, v), each row filled up with its last vertex."""

    costs: Floats
    accuracies: Floats

    def areas(self, least: Floats, most: Floats) -> Floats:
        """Mean accuracy over costs from `least` to `most` (r,), as `Hull.area`."""
        left, right = self.costs[:, :-1], self.costs[:, 1:]
        low, high = self.accuracies[:, :-1], self.accuracies[:, 1:]
        begin, end = np.minimum(left, most[:, None]), np.minimum(right, most[:, None])
        slope = (high - low) / np.where(right > left, right - left, 1.0)
        middle = low + slope * ((begin + end) / 2 - left)
        area = ((end - begin) * middle).sum(axis=1)
        area += (np.minimum(self.costs[:, 0], most) - least) * self.accuracies[:, 0]
        area += np.maximum(most - self.costs[:, -1], 0) * self.accuracies[:, -1]
        wide = most > least
        found: Floats = np.where(wide, area / np.where(wide, most - least, 1.0), self.accuracies[:, 0])
        return found

    def costs_of(self, accuracies: Floats) -> Floats:
        """The least cost that reaches an accuracy (r,), as `Hull.cost_of`; NaN where none does."""
        wanted = accuracies - 1e-12
        rows = np.arange(len(self.costs))
        place = (self.accuracies < wanted[:, None]).sum(axis=1)
        reached = place < self.costs.shape[1]
        after = np.minimum(place, self.costs.shape[1] - 1)
        before = np.maximum(after - 1, 0)
        low, high = self.accuracies[rows, before], self.accuracies[rows, after]
        share = np.where(high > low, (accuracies - low) / np.where(high > low, high - low, 1.0), 1.0)
        found: Floats = self.costs[rows, before] + share * (self.costs[rows, after] - self.costs[rows, before])
        return np.where(reached, np.where(place == 0, self.costs[:, 0], found), np.nan)


def hulls(costs: Floats, accuracies: Floats, least: Floats) -> Hulls:
    """`figures.hull` of p points in each of r resamples. `costs`, `accuracies`: (r, p); `least`: (r,).

    The stacks of all rows grow together: the Python loop runs over the points, not over the resamples.
    """
    costs = np.maximum(costs, least[:, None])
    order = np.lexsort((-accuracies, costs), axis=1)
    costs, accuracies = np.take_along_axis(costs, order, axis=1), np.take_along_axis(accuracies, order, axis=1)
    xs, ys = np.empty_like(costs), np.empty_like(costs)
    size = np.zeros(len(costs), dtype=np.int64)
    for place in range(costs.shape[1]):
        x, y = costs[:, place], accuracies[:, place]
        better = np.flatnonzero((size == 0) | (y > ys[np.arange(len(ys)), np.maximum(size - 1, 0)]))
        _drop_what_lies_below(xs, ys, size, better, x, y)
        xs[better, size[better]], ys[better, size[better]] = x[better], y[better]
        size[better] += 1
    vertices = np.minimum(np.arange(int(size.max()))[None, :], size[:, None] - 1)
    return Hulls(np.take_along_axis(xs, vertices, axis=1), np.take_along_axis(ys, vertices, axis=1))


def _drop_what_lies_below(xs: Floats, ys: Floats, size: NDArray[np.int64], rows: NDArray[np.int64], x: Floats, y: Floats) -> None:
    """Takes from the stacks of these rows, in place, the vertices on or below the line to the new point (x, y)."""
    while len(rows := rows[size[rows] > 1]):
        last, before = size[rows] - 1, size[rows] - 2
        x1, y1, x0, y0 = xs[rows, last], ys[rows, last], xs[rows, before], ys[rows, before]
        rows = rows[(y1 - y0) * (x[rows] - x1) <= (y[rows] - y1) * (x1 - x0)]
        size[rows] -= 1


@dataclass(frozen=True, slots=True)
class Axis:
    """What every router is compared on. `counts` (r, n): shares of the questions in each resample; `least`, `most` (r,): mean costs (USD)
    of the cheapest and the dearest model in each.
    """

    counts: Floats
    least: Floats
    most: Floats

    @classmethod
    def of(cls, counts: Floats, model_costs: Floats) -> Axis:
        """`model_costs` (n, m)."""
        means = counts @ model_costs
        return cls(counts, means.min(axis=1), means.max(axis=1))


@dataclass(frozen=True, slots=True)
class Resampled:
    """A router on r resamples: its hulls, and (r,) AIQ and maximum accuracy."""

    hulls: Hulls
    aiq: Floats
    max_accuracy: Floats


def resampled(axis: Axis, scores: Floats, costs: Floats) -> Resampled:
    """From p points' scores and costs by question (p, n)."""
    accuracies = axis.counts @ scores.T
    found = hulls(axis.counts @ costs.T, accuracies, axis.least)
    return Resampled(found, found.areas(axis.least, axis.most), accuracies.max(axis=1))

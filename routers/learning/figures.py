"""What a router is worth: cost-quality curves and the figures read off them.

A router has expected scores; for a weight of cost it picks, for each question, the model with the greatest expected score less that weight
times the model's cost, on a scale from the cheapest (0) to the dearest (1). Each weight gives a point (mean cost, accuracy); between two
points one may toss a coin, so what counts is the least concave function above them. Definitions of APGR and CPT: RouteLLM,
https://arxiv.org/abs/2406.18665; of AIQ and the zero-router: RouterBench, https://arxiv.org/abs/2403.12031.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]
    Places: TypeAlias = NDArray[np.int64]

WEIGHTS: Floats = np.concatenate([[0.0], np.logspace(-3, 1.5, 180), [np.inf]])
"""The weights of cost that a curve is swept over; infinity is "always the cheapest"."""


@dataclass(frozen=True, slots=True)
class Scale:
    """What is known of the models before a test: m mean scores and mean costs (USD) on the training questions."""

    scores: Floats
    costs: Floats

    @property
    def best_single(self) -> int:
        """The model with the greatest mean score; of equals the cheaper."""
        return int(np.lexsort((self.costs, -self.scores))[0])

    @property
    def relative_costs(self) -> Floats:
        """From 0, the cheapest, to 1, the dearest; all 0 if they cost the same."""
        spread = self.costs.max() - self.costs.min()
        found: Floats = (self.costs - self.costs.min()) / spread if spread > 0 else np.zeros_like(self.costs)
        return found


@dataclass(frozen=True, slots=True)
class Hull:
    """A concave, non-decreasing function of cost, by its vertices; flat after the last one."""

    costs: Floats
    accuracies: Floats

    def at(self, cost: float) -> float:
        return float(np.interp(cost, self.costs, self.accuracies))

    def area(self, least: float, most: float) -> float:
        """Mean accuracy over costs from `least` to `most`."""
        if most <= least:
            return self.at(least)
        inner = self.costs[(self.costs > least) & (self.costs < most)]
        grid = np.concatenate([[least], inner, [most]])
        return float(np.trapezoid(np.interp(grid, self.costs, self.accuracies), grid) / (most - least))

    def cost_of(self, accuracy: float) -> float | None:
        """The least cost that reaches an accuracy; None if none does."""
        if self.accuracies[-1] < accuracy - 1e-12:
            return None
        place = int(np.searchsorted(self.accuracies, accuracy - 1e-12))
        if place == 0:
            return float(self.costs[0])
        low, high = self.accuracies[place - 1], self.accuracies[place]
        share = (accuracy - low) / (high - low)
        return float(self.costs[place - 1] + share * (self.costs[place] - self.costs[place - 1]))


def hull(costs: Floats, accuracies: Floats, least: float) -> Hull:
    """The least concave, non-decreasing function above points; points cheaper than `least` are moved there."""
    costs = np.maximum(costs, least)
    order = np.lexsort((-accuracies, costs))
    xs: list[float] = []
    ys: list[float] = []
    for x, y in zip(costs[order].tolist(), accuracies[order].tolist(), strict=True):
        if ys and y <= ys[-1]:
            continue
        while len(xs) > 1 and (ys[-1] - ys[-2]) * (x - xs[-1]) <= (y - ys[-1]) * (xs[-1] - xs[-2]):
            xs.pop()
            ys.pop()
        if xs and x <= xs[-1]:
            xs.pop()
            ys.pop()
        xs.append(x)
        ys.append(y)
    return Hull(np.array(xs), np.array(ys))


def picks(expected: Floats, scale: Scale, weights: Floats = WEIGHTS) -> Places:
    """Which model serves: (w, n) of expected scores (n, m). Of equals the cheaper."""
    order = np.argsort(scale.costs, kind="stable")
    relative, ranked = scale.relative_costs[order], expected[:, order]
    found = np.empty((len(weights), len(expected)), dtype=np.int64)
    for place, weight in enumerate(weights.tolist()):
        found[place] = order[0] if np.isinf(weight) else order[np.argmax(ranked - weight * relative, axis=1)]
    return found


@dataclass(frozen=True, slots=True)
class Curve:
    """A router's points on a set of questions, one for each weight: mean cost and accuracy."""

    costs: Floats
    accuracies: Floats


def curve(chosen: Places, scores: Floats, costs: Floats) -> Curve:
    """The points of choices (w, n) on questions with these scores and costs (n, m)."""
    rows = np.arange(len(scores))
    return Curve(costs[rows, chosen].mean(axis=1), scores[rows, chosen].mean(axis=1))


def singles(scores: Floats, costs: Floats) -> Curve:
    """Always the same model: a point for each."""
    return Curve(costs.mean(axis=0), scores.mean(axis=0))


def oracle(scores: Floats, costs: Floats) -> tuple[float, float]:
    """Accuracy and mean cost if each question went to the model that does best at it, and among these to the cheapest."""
    best = scores.max(axis=1, keepdims=True)
    dear = np.where(scores >= best, costs, np.inf)
    chosen = np.argmin(dear, axis=1)
    rows = np.arange(len(scores))
    return float(scores[rows, chosen].mean()), float(costs[rows, chosen].mean())


def aiq(points: Curve, scores: Floats, costs: Floats) -> float:
    """Mean accuracy over the costs from the cheapest to the dearest model on these questions (scores, costs: (n, m))."""
    means = costs.mean(axis=0)
    return hull(points.costs, points.accuracies, float(means.min())).area(float(means.min()), float(means.max()))


@dataclass(frozen=True, slots=True)
class Figures:
    """A router on a set of questions. `cost_match`: the cost at which it is as good as the best single model, in shares of that model's
    cost; None if it never is. `gap_closed`: of what the oracle gains over the best single model.
    """

    aiq: float
    gain_over_zero: float
    max_accuracy: float
    max_accuracy_cost_usd: float
    cost_match: float | None
    gap_closed: float | None


def figures(points: Curve, scores: Floats, costs: Floats, scale: Scale) -> Figures:
    """The figures of a curve on questions with these scores and costs (n, m)."""
    least = float(costs.mean(axis=0).min())
    most = int(np.argmax(points.accuracies))
    best, best_cost = float(scores[:, scale.best_single].mean()), float(costs[:, scale.best_single].mean())
    match = hull(points.costs, points.accuracies, least).cost_of(best)
    above = oracle(scores, costs)[0] - best
    area = aiq(points, scores, costs)
    return Figures(
        aiq=area,
        gain_over_zero=area - aiq(singles(scores, costs), scores, costs),
        max_accuracy=float(points.accuracies[most]),
        max_accuracy_cost_usd=float(points.costs[most]),
        cost_match=None if match is None else match / best_cost,
        gap_closed=None if above <= 0 else (float(points.accuracies[most]) - best) / above,
    )


@dataclass(frozen=True, slots=True)
class PairFigures:
    """Two models: how few calls to the strong one (the best single) are needed. Shares in [0, 1]; None where a level is never reached."""

    apgr: float
    cpt50: float | None
    cpt80: float | None


def pair_figures(expected: Floats, scores: Floats, scale: Scale) -> PairFigures | None:
    """APGR and CPT of expected scores (n, 2); None if the strong model is no better than the weak one on these questions."""
    strong = scale.best_single
    weak = 1 - strong
    gap = float(scores[:, strong].mean() - scores[:, weak].mean())
    if gap <= 0:
        return None
    order = np.argsort(-(expected[:, strong] - expected[:, weak]), kind="stable")
    gained = np.concatenate([[0.0], np.cumsum(scores[order, strong] - scores[order, weak])]) / len(scores) / gap
    share = np.linspace(0, 1, len(gained))
    return PairFigures(float(np.trapezoid(gained, share)), _first(gained, share, 0.5), _first(gained, share, 0.8))


def _first(gained: Floats, share: Floats, level: float) -> float | None:
    reached = np.flatnonzero(gained >= level)
    return float(share[reached[0]]) if len(reached) else None

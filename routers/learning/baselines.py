"""What a router has to beat, and by how much it does: differences of figures with paired 95 % intervals, and money saved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from routers.learning.figures import Curve, Hull, Scale, hull
from routers.learning.resampling import Axis, Hulls, Resampled, interval, resampled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from routers.learning.figures import Floats

QUALITIES = (1.0, 0.99, 0.98, 0.95)
"""Shares of the best single model's accuracy that savings are read at."""


@dataclass(frozen=True, slots=True)
class Contender:
    """Whatever is compared: its figures on the questions themselves, and on resamples of them."""

    aiq: float
    max_accuracy: float
    resampled: Resampled


def contender(scores: Floats, costs: Floats, model_costs: Floats, axis: Axis) -> Contender:
    """Of p points' scores and costs by question (p, n), on the cost axis of models (n, m)."""
    means = model_costs.mean(axis=0)
    least, most = float(means.min()), float(means.max())
    area = hull(costs.mean(axis=1), scores.mean(axis=1), least).area(least, most)
    return Contender(area, float(scores.mean(axis=1).max()), resampled(axis, scores, costs))


def baselines(scores: Floats, costs: Floats, scale: Scale, axis: Axis) -> dict[str, Contender]:
    """`zero_router`: coins between all single models. `cheapest`, `dearest`, `best_single` (as train has them), `random_mix` (each model
    equally often) and `oracle`: a coin between the cheapest model and that one, so that their AIQ is of the same kind as a router's.
    Their maximum accuracy is their own.
    """
    rows = np.arange(len(scores))
    known = np.argmin(np.where(scores >= scores.max(axis=1, keepdims=True), costs, np.inf), axis=1)
    cheap, dear, best = int(np.argmin(scale.costs)), int(np.argmax(scale.costs)), scale.best_single
    own = {
        "cheapest": (scores[:, cheap], costs[:, cheap]),
        "dearest": (scores[:, dear], costs[:, dear]),
        "best_single": (scores[:, best], costs[:, best]),
        "random_mix": (scores.mean(axis=1), costs.mean(axis=1)),
        "oracle": (scores[rows, known], costs[rows, known]),
    }
    found = {"zero_router": contender(scores.T, costs.T, costs, axis)}
    for name, (score, cost) in own.items():
        mixed = contender(np.stack([scores[:, cheap], score]), np.stack([costs[:, cheap], cost]), costs, axis)
        alone = Resampled(mixed.resampled.hulls, mixed.resampled.aiq, axis.counts @ score)
        found[name] = Contender(mixed.aiq, float(score.mean()), alone)
    return found


def against(one: Contender, others: Mapping[str, Contender]) -> dict[str, dict[str, Any]]:
    """How much greater AIQ and maximum accuracy of `one` are than those of each other, with intervals on the same resamples."""
    return {
        name: {
            "aiq": one.aiq - other.aiq,
            "aiq_95": interval(one.resampled.aiq - other.resampled.aiq),
            "acc_max": one.max_accuracy - other.max_accuracy,
            "acc_max_95": interval(one.resampled.max_accuracy - other.resampled.max_accuracy),
        }
        for name, other in others.items()
    }


@dataclass(frozen=True, slots=True)
class Single:
    """The best single model: its accuracy and mean cost (USD), and the same (r,) on resamples."""

    accuracy: float
    cost: float
    accuracies: Floats
    costs: Floats

    @classmethod
    def of(cls, scores: Floats, costs: Floats, axis: Axis) -> Single:
        """`scores`, `costs` (n,) of the model."""
        return cls(float(scores.mean()), float(costs.mean()), axis.counts @ scores, axis.counts @ costs)


def savings(found: Hull, resampled_hulls: Hulls, best: Single) -> dict[str, dict[str, Any] | None]:
    """What is saved against always calling the best single model, at the cheapest point of the hull that keeps 100, 99, 98, 95 % of its
    accuracy (the keys): None if the hull does not reach it.

    `usd_per_million`: of requests; `share`: of that model's cost; below 0 if it costs more. A resample in which the accuracy is not
    reached saves nothing: one would call the model itself.
    """
    answer: dict[str, dict[str, Any] | None] = {}
    for quality in QUALITIES:
        cost = found.cost_of(quality * best.accuracy)
        key = f"{quality:.0%}".rstrip("%")
        if cost is None or best.cost <= 0:
            answer[key] = None
            continue
        costs = resampled_hulls.costs_of(quality * best.accuracies)
        saved = np.where(np.isnan(costs), 0.0, best.costs - costs)
        answer[key] = {
            "accuracy": found.at(cost),
            "cost_usd": cost,
            "usd_per_million": (best.cost - cost) * 1e6,
            "usd_per_million_95": interval(saved * 1e6),
            "share": 1 - cost / best.cost,
            "share_95": interval(saved / np.where(best.costs > 0, best.costs, np.nan)),
        }
    return answer


def vertices(points: Curve, least: float, weights: Floats) -> list[list[float | None]]:
    """The hull's corners from the cheapest to the most accurate: [mean cost USD, accuracy, the greatest weight of cost that gives it].

    A weight of None is infinity (JSON has none): always the cheapest model. Corners cheaper than `least` are moved there, as `hull` does.
    """
    found = hull(points.costs, points.accuracies, least)
    moved = np.maximum(points.costs, least)
    answer: list[list[float | None]] = []
    for cost, accuracy in zip(found.costs.tolist(), found.accuracies.tolist(), strict=True):
        place = int(np.flatnonzero((moved == cost) & (points.accuracies == accuracy))[-1])
        weight = float(weights[place])
        answer.append([cost, accuracy, None if np.isinf(weight) else weight])
    return answer


def by_group(names: NDArray[np.str_], served: tuple[Floats, Floats], best: Floats, ceiling: Floats, counts: Floats) -> dict[str, Any]:
    """A router at one weight, part by part. `names` (n,): which part a question belongs to; `served`: scores and costs (n,) of the models
    that it chose; `best`, `ceiling` (n,): scores of the best single model (over all parts) and of the oracle; `counts` (r, n).

    `gain` is the router's accuracy less the best single's, paired; a resample without any question of a part does not count for it.
    """
    scores, costs = served
    labels, member = np.unique(names, return_inverse=True)
    one_hot = np.eye(len(labels))[member]
    sizes = counts @ one_hot
    gains = counts @ (one_hot * (scores - best)[:, None]) / np.where(sizes > 0, sizes, np.nan)
    found = {}
    for place, label in enumerate(labels.tolist()):
        rows = member == place
        found[str(label)] = {
            "queries": int(rows.sum()),
            "accuracy": float(scores[rows].mean()),
            "mean_cost_usd": float(costs[rows].mean()),
            "best_single_accuracy": float(best[rows].mean()),
            "oracle_accuracy": float(ceiling[rows].mean()),
            "gain": float((scores - best)[rows].mean()),
            "gain_95": interval(gains[:, place]),
        }
    return found

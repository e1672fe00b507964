"""Judges routers on a split of an outcomes table, against the single models, coin tosses and the oracle, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from routers.learning.figures import WEIGHTS, Scale, curve, figures, hull, oracle, pair_figures, picks, singles

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from routers.learning.figures import Floats
    from routers.learning.outcomes import Outcomes

RESAMPLES = 1000
SEED = 20_261


@dataclass(frozen=True, slots=True)
class Pool:
    """The questions of a split that every model answered. `rows`: their places in the table. `scores`, `costs`: (n, m).

    `scale`: what the train split says of the models.
    """

    models: tuple[str, ...]
    rows: NDArray[np.int64]
    scores: Floats
    costs: Floats
    scale: Scale

    @classmethod
    def of(cls, outcomes: Outcomes, split: str) -> Pool:
        """Raises ValueError if the split, or train, has no question that all models answered at a known cost."""
        known = ~(np.isnan(outcomes.scores) | np.isnan(outcomes.costs)).any(axis=1)
        splits = np.array(outcomes.splits)
        rows, train = np.flatnonzero(known & (splits == split)), np.flatnonzero(known & (splits == "train"))
        for name, found in ((split, rows), ("train", train)):
            if not len(found):
                raise ValueError(f"the split {name!r} has no question that all of {', '.join(outcomes.models)} answered at a known cost")
        scale = Scale(outcomes.scores[train].mean(axis=0), outcomes.costs[train].mean(axis=0))
        return cls(outcomes.models, rows, outcomes.scores[rows], outcomes.costs[rows], scale)


@dataclass(frozen=True, slots=True)
class Judged:
    """A router's expected scores: on the questions that it is judged on, and on those of validation (None: unknown)."""

    expected: Floats
    validation: Floats | None = None


def evaluate(pool: Pool, routers: Mapping[str, Judged], validation: Pool | None) -> dict[str, Any]:
    """One pool's block: the single models, the baselines, and each router with 95 % intervals over resampled questions.

    The intervals take the routers as they are; they are not fitted anew. A router's gain is paired: both are read on the same resample.
    """
    scores, costs, scale = pool.scores, pool.costs, pool.scale
    counts = _resamples(len(pool.rows))
    zero = singles(scores, costs)
    zero_aiq = _resampled_aiq(counts, scores.T, costs.T, costs)
    accuracy, cost = oracle(scores, costs)
    means = costs.mean(axis=0)
    area = hull(zero.costs, zero.accuracies, float(means.min())).area(float(means.min()), float(means.max()))
    return {
        "queries": len(pool.rows),
        "models": [_single(pool, place) for place in np.argsort(scale.costs, kind="stable").tolist()],
        "cost_axis_usd": [float(means.min()), float(means.max())],
        "cheapest": _single(pool, int(np.argmin(scale.costs))),
        "dearest": _single(pool, int(np.argmax(scale.costs))),
        "best_single": _single(pool, scale.best_single),
        "random_mix": {"accuracy": float(scores.mean()), "mean_cost_usd": float(costs.mean())},
        "oracle": {"accuracy": accuracy, "mean_cost_usd": cost},
        "zero_router": {"aiq": area, "aiq_95": _interval(zero_aiq)},
        "routers": {name: _router(pool, judged, validation, counts, zero_aiq) for name, judged in routers.items()},
    }


def _single(pool: Pool, place: int) -> dict[str, Any]:
    accuracy, cost = float(pool.scores[:, place].mean()), float(pool.costs[:, place].mean())
    return {"model": pool.models[place], "accuracy": accuracy, "mean_cost_usd": cost}


def _router(pool: Pool, judged: Judged, validation: Pool | None, counts: Floats, zero_aiq: Floats) -> dict[str, Any]:
    scores, costs, scale = pool.scores, pool.costs, pool.scale
    chosen = picks(judged.expected, scale)
    points = curve(chosen, scores, costs)
    found = figures(points, scores, costs, scale)
    rows = np.arange(len(scores))
    by_weight = scores[rows, chosen]
    resampled = _resampled_aiq(counts, by_weight, costs[rows, chosen], costs)
    block: dict[str, Any] = {
        "aiq": found.aiq,
        "aiq_95": _interval(resampled),
        "aiq_gain_over_zero": found.gain_over_zero,
        "aiq_gain_over_zero_95": _interval(resampled - zero_aiq),
        "acc_max": found.max_accuracy,
        "acc_max_95": _interval((counts @ by_weight.T).max(axis=1)),
        "acc_max_cost_usd": found.max_accuracy_cost_usd,
        "cost_match": found.cost_match,
        "gap_closed": found.gap_closed,
    }
    place = _best_weight(judged, validation)
    if place is not None:
        block["acc_at_validation_lambda"] = float(points.accuracies[place])
        block["cost_at_validation_lambda_usd"] = float(points.costs[place])
    if len(pool.models) == 2:
        pair = pair_figures(judged.expected, scores, scale)
        block |= {"apgr": pair and pair.apgr, "cpt50": pair and pair.cpt50, "cpt80": pair and pair.cpt80}
    return block


def _best_weight(judged: Judged, validation: Pool | None) -> int | None:
    """The weight with the greatest accuracy on validation; of equals the greatest, which is the cheapest."""
    if judged.validation is None or validation is None:
        return None
    found = curve(picks(judged.validation, validation.scale), validation.scores, validation.costs).accuracies
    return len(WEIGHTS) - 1 - int(np.argmax(found[::-1]))


def _resamples(questions: int) -> Floats:
    """Shares of each question in each resample: (RESAMPLES, n), rows add up to 1."""
    rng = np.random.default_rng(SEED)
    found: Floats = rng.multinomial(questions, np.full(questions, 1 / questions), size=RESAMPLES) / questions
    return found


def _resampled_aiq(counts: Floats, scores: Floats, costs: Floats, model_costs: Floats) -> Floats:
    """AIQ of each resample, from points' scores and costs by question (p, n), with the axis of the models' costs (n, m)."""
    accuracies, spent, means = counts @ scores.T, counts @ costs.T, counts @ model_costs
    found = np.empty(len(counts))
    for place, (cost, accuracy, axis) in enumerate(zip(spent, accuracies, means, strict=True)):
        least, most = float(axis.min()), float(axis.max())
        found[place] = hull(cost, accuracy, least).area(least, most)
    return found


def _interval(values: Floats) -> list[float]:
    low, high = np.percentile(values, [2.5, 97.5]).tolist()
    return [low, high]

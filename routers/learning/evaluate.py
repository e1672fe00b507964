"""Judges routers on a split of an outcomes table, against the single models, coin tosses, each other and the oracle, with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from routers.languages import language
from routers.learning import baselines, calibration
from routers.learning.figures import WEIGHTS, Scale, curve, figures, hull, oracle, pair_figures, picks, singles
from routers.learning.resampling import Axis, interval, resamples

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from routers.learning.baselines import Contender, Single
    from routers.learning.figures import Curve, Floats, Places
    from routers.learning.outcomes import Outcomes


@dataclass(frozen=True, slots=True)
class Pool:
    """The questions of a split that every model answered. `rows`: their places in the table. `scores`, `costs`: (n, m).

    `scale`: what the train split says of the models. `datasets`, `languages` (n,): which part of the table a question is of, and the
    language of its prompt (`routers.languages`); None if it does not matter.
    """

    models: tuple[str, ...]
    rows: NDArray[np.int64]
    scores: Floats
    costs: Floats
    scale: Scale
    datasets: NDArray[np.str_] | None = None
    languages: NDArray[np.str_] | None = None

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
        datasets = np.array([outcomes.datasets[row] for row in rows.tolist()])
        languages = np.array([language(outcomes.prompts[row]) for row in rows.tolist()])
        return cls(outcomes.models, rows, outcomes.scores[rows], outcomes.costs[rows], scale, datasets, languages)


@dataclass(frozen=True, slots=True)
class Judged:
    """What a router says of the questions that it is judged on: expected scores (n, m).

    `validation`: the same of the questions of validation (None: unknown). `uncertainty` (n, m): the standard deviation of each expected
    score. `decision_seconds`: median and 99th percentile of one decision beyond the prompt's embedding.
    """

    expected: Floats
    validation: Floats | None = None
    uncertainty: Floats | None = None
    decision_seconds: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class _Ground:
    """What all routers of one evaluation are compared on."""

    pool: Pool
    validation: Pool | None
    axis: Axis
    best: Single
    zero: Contender
    oracle: Floats


def evaluate(pool: Pool, routers: Mapping[str, Judged], validation: Pool | None) -> dict[str, Any]:
    """One pool's block, in the shape of the reference figures: the single models, the baselines, and each router with 95 % intervals over
    1,000 resamples of the questions. JSON holds it as it is: an infinite weight of cost is None.

    The intervals take the routers as they are; they are not fitted anew. Differences are paired: both sides are read on the same
    resamples. `against` holds them for every two routers and for the baselines; `savings`, `datasets`, `languages`, `curve`:
    `routers.learning.baselines`; `calibration_error`, `uncertainty`: `routers.learning.calibration`. Raises ValueError for a router with
    a baseline's name.
    """
    scores, costs, scale = pool.scores, pool.costs, pool.scale
    axis = Axis.of(resamples(len(pool.rows)), costs)
    best = baselines.Single.of(scores[:, scale.best_single], costs[:, scale.best_single], axis)
    others = baselines.baselines(scores, costs, scale, axis)
    ground = _Ground(pool, validation, axis, best, others["zero_router"], scores.max(axis=1))
    clashes = sorted(set(others) & set(routers))
    if clashes:
        raise ValueError(f"a router cannot have the name of a baseline: {', '.join(clashes)}")
    chosen = {name: picks(judged.expected, scale) for name, judged in routers.items()}
    contenders = {name: _contender(ground, places) for name, places in chosen.items()}
    accuracy, cost = oracle(scores, costs)
    means = costs.mean(axis=0)
    return {
        "queries": len(pool.rows),
        "models": [_single(pool, place) for place in np.argsort(scale.costs, kind="stable").tolist()],
        "cost_axis_usd": [float(means.min()), float(means.max())],
        "cheapest": _single(pool, int(np.argmin(scale.costs))),
        "dearest": _single(pool, int(np.argmax(scale.costs))),
        "best_single": _single(pool, scale.best_single),
        "random_mix": {"accuracy": float(scores.mean()), "mean_cost_usd": float(costs.mean())},
        "oracle": {"accuracy": accuracy, "mean_cost_usd": cost},
        "zero_router": _zero(ground),
        "routers": {
            name: _router(ground, judged, chosen[name], contenders[name])
            | {"against": baselines.against(contenders[name], {**_without(contenders, name), **others})}
            for name, judged in routers.items()
        },
    }


def _without(contenders: Mapping[str, Contender], name: str) -> dict[str, Contender]:
    return {other: one for other, one in contenders.items() if other != name}


def _contender(ground: _Ground, chosen: Places) -> Contender:
    # Many neighbouring weights choose alike; each point need be looked at once.
    differs = np.append(True, (chosen[1:] != chosen[:-1]).any(axis=1))
    rows, places = np.arange(len(ground.pool.rows)), chosen[differs]
    return baselines.contender(ground.pool.scores[rows, places], ground.pool.costs[rows, places], ground.pool.costs, ground.axis)


def _single(pool: Pool, place: int) -> dict[str, Any]:
    accuracy, cost = float(pool.scores[:, place].mean()), float(pool.costs[:, place].mean())
    return {"model": pool.models[place], "accuracy": accuracy, "mean_cost_usd": cost}


def _zero(ground: _Ground) -> dict[str, Any]:
    zero = ground.zero
    points = singles(ground.pool.scores, ground.pool.costs)
    found = hull(points.costs, points.accuracies, float(points.costs.min()))
    return {
        "aiq": zero.aiq,
        "aiq_95": interval(zero.resampled.aiq),
        "curve": [list(corner) for corner in zip(found.costs.tolist(), found.accuracies.tolist(), strict=True)],
        "savings": baselines.savings(found, zero.resampled.hulls, ground.best),
    }


def _router(ground: _Ground, judged: Judged, chosen: Places, contender: Contender) -> dict[str, Any]:
    pool, counts = ground.pool, ground.axis.counts
    scores, costs, scale = pool.scores, pool.costs, pool.scale
    points = curve(chosen, scores, costs)
    found = figures(points, scores, costs, scale)
    least = float(costs.mean(axis=0).min())
    top = hull(points.costs, points.accuracies, least)
    gain = contender.resampled.aiq - ground.zero.resampled.aiq
    block: dict[str, Any] = {
        "aiq": found.aiq,
        "aiq_95": interval(contender.resampled.aiq),
        "aiq_gain_over_zero": found.gain_over_zero,
        "aiq_gain_over_zero_95": interval(gain),
        "acc_max": found.max_accuracy,
        "acc_max_95": interval(contender.resampled.max_accuracy),
        "acc_max_cost_usd": found.max_accuracy_cost_usd,
        "cost_match": found.cost_match,
        "accuracy_at_half_best_cost": top.at(ground.best.cost / 2),
        "gap_closed": found.gap_closed,
        "curve": baselines.vertices(points, least, WEIGHTS),
        "savings": baselines.savings(top, contender.resampled.hulls, ground.best),
        "calibration_error": calibration.calibration(judged.expected, scores, pool.models, counts),
    }
    if judged.uncertainty is not None:
        block["uncertainty"] = calibration.trust(judged.uncertainty, judged.expected, scores)
    if judged.decision_seconds is not None:
        block["decision_p50_seconds"], block["decision_p99_seconds"] = judged.decision_seconds
    if len(pool.models) == 2:
        pair = pair_figures(judged.expected, scores, scale)
        block |= {"apgr": pair and pair.apgr, "cpt50": pair and pair.cpt50, "cpt80": pair and pair.cpt80}
    return block | _at_one_weight(ground, judged, chosen, points)


def _at_one_weight(ground: _Ground, judged: Judged, chosen: Places, points: Curve) -> dict[str, Any]:
    """The router as it would be set up: at the weight that was best on validation, or at 0 if there is none."""
    pool, best = ground.pool, ground.best
    place = best_weight(judged, ground.validation)
    block: dict[str, Any] = {}
    if place is not None:
        above = float(ground.oracle.mean()) - best.accuracy
        block["acc_at_validation_lambda"] = float(points.accuracies[place])
        block["cost_at_validation_lambda_usd"] = float(points.costs[place])
        block["gap_closed_at_validation_lambda"] = None if above <= 0 else (float(points.accuracies[place]) - best.accuracy) / above
        block["validation_lambda"] = None if np.isinf(WEIGHTS[place]) else float(WEIGHTS[place])
    served = chosen[place or 0]
    rows = np.arange(len(pool.rows))
    shares = np.bincount(served, minlength=len(pool.models)) / len(served)
    block["shares"] = dict(zip(pool.models, shares.tolist(), strict=True))
    for name, groups in (("datasets", pool.datasets), ("languages", pool.languages)):
        if groups is not None:
            outcome = pool.scores[rows, served], pool.costs[rows, served]
            single = pool.scores[:, pool.scale.best_single]
            block[name] = baselines.by_group(groups, outcome, single, ground.oracle, ground.axis.counts)
    return block


def best_weight(judged: Judged, validation: Pool | None) -> int | None:
    """The place in WEIGHTS with the greatest accuracy on validation; of equals the greatest, which is the cheapest. None: unknown."""
    if judged.validation is None or validation is None:
        return None
    found = curve(picks(judged.validation, validation.scale), validation.scores, validation.costs).accuracies
    return len(WEIGHTS) - 1 - int(np.argmax(found[::-1]))

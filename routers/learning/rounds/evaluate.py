"""Judges planners on recorded answers: points of cost, accuracy and calls, the frontier, and what is gained on asking once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from routers.learning import baselines
from routers.learning.figures import Curve, Scale, hull, oracle, picks
from routers.learning.resampling import Axis, interval, resamples
from routers.learning.rounds.ground import ground
from routers.learning.rounds.play import WEIGHTS, play
from routers.learning.rounds.train import expected

if TYPE_CHECKING:
    from routers.api import Embeddings
    from routers.learning.answers import Recorded
    from routers.learning.baselines import Contender, Single
    from routers.learning.figures import Floats
    from routers.rounds.experience import Experience

DEARER = 1.5
"""Times the best single model's cost: a second place at which frontiers are read."""


@dataclass(frozen=True, slots=True)
class Points:
    """A planner at w settings on n questions: scores, costs (USD), calls: float64 (w, n). `weights` (w,): what sets each."""

    weights: Floats
    scores: Floats
    costs: Floats
    calls: Floats


def points(recorded: Recorded, vectors: Embeddings, known: Experience, split: str, weights: Floats = WEIGHTS) -> tuple[Points, Floats]:
    """An artifact's policy on the questions of a split, and what it expects of each model (n, m) before anyone is asked.

    `vectors` (n, d): of all recorded questions. Raises ValueError if the artifact does not know one of the models.
    """
    missing = [name for name in recorded.models if name not in known.models]
    if missing:
        raise ValueError(f"knows nothing of {', '.join(missing)}; it was trained on {', '.join(known.models)}")
    columns = [known.models.index(name) for name in recorded.models]
    found = expected(recorded, vectors, known.question, split).of(columns)
    policy = known.policy.of(columns)
    held = ground(recorded.split(split), found, known.unit, policy.traits)
    played = play(held, policy, weights)
    return Points(weights, played.scores, played.costs * known.unit, played.calls.astype(np.float64)), found.mean.astype(np.float64)


def evaluate(
    recorded: Recorded, split: str, planners: Mapping[str, Points], alone: Mapping[str, Floats], questions: Floats | None = None
) -> dict[str, Any]:
    """Figures of planners on a split, with paired 95 % intervals over 1,000 resamples of the questions.

    `alone`: routers that look at the question alone: expected scores (n, m). `questions` (r, n): shares of the questions in each resample;
    default: drawn. `against` compares every planner with each of them and with the baselines.

    Raises ValueError for a name that occurs twice.
    """
    held, lesson = recorded.split(split), recorded.split("train")
    scale = Scale(lesson.scores.mean(axis=0), lesson.costs.mean(axis=0))
    axis = Axis.of(resamples(len(held)) if questions is None else questions, held.costs)
    single = baselines.Single.of(held.scores[:, scale.best_single], held.costs[:, scale.best_single], axis)
    others = baselines.baselines(held.scores, held.costs, scale, axis)
    rows = np.arange(len(held))
    for name, expectation in alone.items():
        chosen = np.unique(picks(expectation, scale), axis=0)
        others[name] = baselines.contender(held.scores[rows, chosen], held.costs[rows, chosen], held.costs, axis)
    clashes = sorted(set(others) & set(planners))
    if clashes:
        raise ValueError(f"two contenders are named {', '.join(clashes)}")
    ceiling, ceiling_cost = oracle(held.scores, held.costs)
    means = held.costs.mean(axis=0)
    return {
        "queries": len(held),
        "models": [
            {"model": held.models[place], "accuracy": float(held.scores[:, place].mean()), "mean_cost_usd": float(means[place])}
            for place in np.argsort(scale.costs, kind="stable").tolist()
        ],
        "cost_axis_usd": [float(means.min()), float(means.max())],
        "best_single": {"model": held.models[scale.best_single], "accuracy": single.accuracy, "mean_cost_usd": single.cost},
        "oracle": {"accuracy": ceiling, "mean_cost_usd": ceiling_cost},
        "alone": {name: {"aiq": others[name].aiq, "acc_max": others[name].max_accuracy} for name in alone},
        "planners": {name: _planner(one, held.costs, single, ceiling, axis, others) for name, one in planners.items()},
    }


def _planner(
    one: Points, model_costs: Floats, single: Single, ceiling: float, axis: Axis, others: Mapping[str, Contender]
) -> dict[str, Any]:
    found = baselines.contender(one.scores, one.costs, model_costs, axis)
    means = Curve(one.costs.mean(axis=1), one.scores.mean(axis=1))
    least = float(model_costs.mean(axis=0).min())
    frontier = hull(means.costs, means.accuracies, least)
    match = frontier.cost_of(single.accuracy)
    matched = found.resampled.hulls.costs_of(single.accuracies) / single.costs
    above = ceiling - single.accuracy
    return {
        "aiq": found.aiq,
        "aiq_95": interval(found.resampled.aiq),
        "acc_max": found.max_accuracy,
        "acc_max_95": interval(found.resampled.max_accuracy),
        "accuracy_at_best_single_cost": frontier.at(single.cost),
        "accuracy_at_dearer_cost": frontier.at(DEARER * single.cost),
        "cost_match": None if match is None else match / single.cost,
        "cost_match_95": interval(matched),
        "gap_closed": None if above <= 0 else (found.max_accuracy - single.accuracy) / above,
        "points": [
            {"weight": None if np.isinf(weight) else weight, "mean_cost_usd": cost, "accuracy": accuracy, "calls": calls}
            for weight, cost, accuracy, calls in zip(
                one.weights.tolist(), means.costs.tolist(), means.accuracies.tolist(), one.calls.mean(axis=1).tolist(), strict=True
            )
        ],
        "curve": baselines.vertices(means, least, one.weights),
        "savings": baselines.savings(frontier, found.resampled.hulls, single),
        "against": baselines.against(found, others),
    }

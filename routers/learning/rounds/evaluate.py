"""Judges planners on recorded answers: points of cost, accuracy and calls, the frontier, and what is gained on others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from routers.learning import baselines
from routers.learning.figures import Curve, Scale, hull, oracle, picks, singles
from routers.learning.points import Points
from routers.learning.resampling import Axis, interval, resamples
from routers.learning.rounds.play import FEW, WEIGHTS, play
from routers.learning.rounds.train import prepared

if TYPE_CHECKING:
    from routers.api import Embeddings
    from routers.learning.answers import Recorded
    from routers.learning.baselines import Contender, Single
    from routers.learning.figures import Floats, Places
    from routers.rounds.experience import Experience

__all__ = ["Points", "evaluate", "points"]
DEARER = 1.5
"""Times the best single model's cost: a second place at which frontiers are read."""
_NOBODY: Mapping[str, Points] = MappingProxyType({})


def points(recorded: Recorded, vectors: Embeddings, known: Experience, split: str, weights: Floats | None = None) -> tuple[Points, Floats]:
    """An artifact's policy on the questions of a split, and what it expects of each model (n, m) before anyone is asked.

    `vectors` (n, d): of all recorded questions. `weights`: default: as many as of routers that ask once, unless a model joined later: then
    a fifth of these. Raises ValueError if the artifact does not know one of the models.
    """
    missing = [name for name in recorded.models if name not in known.models]
    if missing:
        raise ValueError(f"knows nothing of {', '.join(missing)}; it was trained on {', '.join(known.models)}")
    columns = [known.models.index(name) for name in recorded.models]
    held = prepared(recorded, vectors, known.question, known.unit, known.policy.traits, split, columns)
    policy = known.policy.of(columns)
    weights = (FEW if any(policy.late) else WEIGHTS) if weights is None else weights
    played = play(held, policy, weights)
    settings = tuple({"weight": None if np.isinf(weight) else weight} for weight in weights.tolist())
    return Points(settings, played.scores, played.costs * known.unit, played.calls.astype(np.float64)), held.expected.astype(np.float64)


def evaluate(
    recorded: Recorded,
    split: str,
    planners: Mapping[str, Points],
    alone: Mapping[str, Floats],
    questions: Floats | None = None,
    votes: Mapping[str, Points] = _NOBODY,
    references: Mapping[str, Points] = _NOBODY,
) -> dict[str, Any]:
    """Figures of planners on a split, with paired 95 % intervals over 1,000 resamples of the questions. JSON holds it as it is.

    `alone`: routers that look at the question alone: expected scores (n, m); `best_alone`: the one with the greatest AIQ. `questions`
    (r, n): shares of the questions in each resample; default: drawn. `votes`: what cannot be set, and may cost more than the dearest
    model. `references`: planners that the others are held to. `against` compares each with all of `alone`, the baselines and every other
    planner. `curve`: corners of the frontier: cost, accuracy, and what sets it.

    Raises ValueError for a name that occurs twice.
    """
    held, lesson = recorded.split(split), recorded.split("train")
    scale = Scale(lesson.scores.mean(axis=0), lesson.costs.mean(axis=0))
    axis = Axis.of(resamples(len(held)) if questions is None else questions, held.costs)
    single = baselines.Single.of(held.scores[:, scale.best_single], held.costs[:, scale.best_single], axis)
    everyone = baselines.baselines(held.scores, held.costs, scale, axis)
    _refuse_clashes([*everyone, *alone, *references, *planners])
    everyone |= {name: _alone(held, picks(expectation, scale), axis) for name, expectation in alone.items()}
    played = {**references, **planners}
    everyone |= {name: baselines.contender(one.scores, one.costs, held.costs, axis) for name, one in played.items()}
    ceiling, ceiling_cost = oracle(held.scores, held.costs)
    means = held.costs.mean(axis=0)
    ground = _Ground(held.costs, single, ceiling, axis, everyone["zero_router"])
    return {
        "queries": len(held),
        "models": [_model(held, place) for place in np.argsort(scale.costs, kind="stable").tolist()],
        "cost_axis_usd": [float(means.min()), float(means.max())],
        "cheapest": _model(held, int(np.argmin(scale.costs))),
        "dearest": _model(held, int(np.argmax(scale.costs))),
        "best_single": _model(held, scale.best_single),
        "random_mix": {"accuracy": float(held.scores.mean()), "mean_cost_usd": float(held.costs.mean())},
        "oracle": {"accuracy": ceiling, "mean_cost_usd": ceiling_cost},
        "zero_router": _zero(held, ground),
        "alone": {name: _level(everyone[name]) for name in alone},
        "best_alone": max(alone, key=lambda name: everyone[name].aiq, default=None),
        "votes": {name: _vote(one, ground) for name, one in votes.items()},
        "references": {name: _planner(name, one, everyone, ground) for name, one in references.items()},
        "planners": {name: _planner(name, one, everyone, ground) for name, one in planners.items()},
    }


@dataclass(frozen=True, slots=True)
class _Ground:
    """What all are compared on. `model_costs` (n, m)."""

    model_costs: Floats
    single: Single
    ceiling: float
    axis: Axis
    zero: Contender

    def gap_closed(self, accuracy: float) -> float | None:
        above = self.ceiling - self.single.accuracy
        return None if above <= 0 else (accuracy - self.single.accuracy) / above


def _refuse_clashes(names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"two contenders are named {', '.join(twice)}")


def _alone(held: Recorded, chosen: Places, axis: Axis) -> Contender:
    """A router that asks once, by its choices (w, n)."""
    rows, places = np.arange(len(held)), np.unique(chosen, axis=0)
    return baselines.contender(held.scores[rows, places], held.costs[rows, places], held.costs, axis)


def _model(held: Recorded, place: int) -> dict[str, Any]:
    score, cost = held.scores[:, place], held.costs[:, place]
    return {"model": held.models[place], "accuracy": float(score.mean()), "mean_cost_usd": float(cost.mean())}


def _zero(held: Recorded, ground: _Ground) -> dict[str, Any]:
    """What coins between the single models come to."""
    points = singles(held.scores, held.costs)
    frontier = hull(points.costs, points.accuracies, float(points.costs.min()))
    corners = [list(corner) for corner in zip(frontier.costs.tolist(), frontier.accuracies.tolist(), strict=True)]
    savings = baselines.savings(frontier, ground.zero.resampled.hulls, ground.single)
    return {**_level(ground.zero), "curve": corners, "savings": savings}


def _level(one: Contender) -> dict[str, Any]:
    return {
        "aiq": one.aiq,
        "aiq_95": interval(one.resampled.aiq),
        "acc_max": one.max_accuracy,
        "acc_max_95": interval(one.resampled.max_accuracy),
    }


def _vote(one: Points, ground: _Ground) -> dict[str, Any]:
    score, cost = one.scores[0], one.costs[0]
    accuracy, counts = float(score.mean()), ground.axis.counts
    return {
        "accuracy": accuracy,
        "accuracy_95": interval(counts @ score),
        "gain_over_best_single_95": interval(counts @ score - ground.single.accuracies),
        "mean_cost_usd": float(cost.mean()),
        "cost_share": float(cost.mean()) / ground.single.cost if ground.single.cost > 0 else None,
        "calls": float(one.calls[0].mean()),
        "gap_closed": ground.gap_closed(accuracy),
    }


def _planner(name: str, one: Points, everyone: Mapping[str, Contender], ground: _Ground) -> dict[str, Any]:
    single, found = ground.single, everyone[name]
    means = Curve(one.costs.mean(axis=1), one.scores.mean(axis=1))
    least = float(ground.model_costs.mean(axis=0).min())
    frontier = hull(means.costs, means.accuracies, least)
    match = frontier.cost_of(single.accuracy)
    places = np.arange(len(one.settings), dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        matched = found.resampled.hulls.costs_of(single.accuracies) / single.costs
    return {
        **_level(found),
        "aiq_gain_over_zero": found.aiq - ground.zero.aiq,
        "aiq_gain_over_zero_95": interval(found.resampled.aiq - ground.zero.resampled.aiq),
        "acc_max_cost_usd": float(means.costs[means.accuracies.argmax()]),
        "accuracy_at_best_single_cost": frontier.at(single.cost),
        "accuracy_at_dearer_cost": frontier.at(DEARER * single.cost),
        "cost_match": None if match is None or single.cost <= 0 else match / single.cost,
        "cost_match_95": None if np.isnan(matched).all() else interval(matched),
        "gap_closed": ground.gap_closed(found.max_accuracy),
        "points": [
            {**setting, "mean_cost_usd": cost, "accuracy": accuracy, "calls": calls}
            for setting, cost, accuracy, calls in zip(
                one.settings, means.costs.tolist(), means.accuracies.tolist(), one.calls.mean(axis=1).tolist(), strict=True
            )
        ],
        "curve": [
            [cost, accuracy, dict(one.settings[int(place or 0)])] for cost, accuracy, place in baselines.vertices(means, least, places)
        ],
        "savings": baselines.savings(frontier, found.resampled.hulls, single),
        "against": baselines.against(found, {other: one for other, one in everyone.items() if other != name}),
    }

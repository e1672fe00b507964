"""Cost against quality on a route, by the weight of cost: from the questions that its router's artifact holds back.

An artifact keeps, of questions that nothing was chosen on, what the router expected of each model and what came of it. So the curve says
what a weight would have been worth there, not what the router believes. A question's cost is the mean cost of the model that it goes to.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.flow.decide import Route
from routers.api import Candidate, Model, Preferences, Price, RouteRequest
from routers.pipeline import Policy
from routers.scorers.cost import Cost

if TYPE_CHECKING:
    from routers.artifacts import Artifact
    from routers.learning.promise import Held

STEPS = 48
LEAST, MOST = 0.01, 10.0
"""Weights of cost that are looked at, in shares of the other scorers' weights; and 0."""


@dataclass(frozen=True, slots=True)
class Point:
    """`quality`: mean score of the answers, in [0, 1]; `cost_usd`: of one of them; `shares`: of the questions, by model."""

    quality: float
    cost_usd: float
    shares: dict[str, float]
    weight: float | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Frontier:
    """`scorer`: whose artifact it is, of this `kind`, made at this time. `points`: by growing weight; `models`: each alone.

    `gaps`: models of the route that the artifact does not know.
    """

    scorer: str
    kind: str
    created: str
    questions: int
    points: tuple[Point, ...]
    models: tuple[Point, ...]
    gaps: tuple[str, ...]


def weights(policy: Policy) -> tuple[float, ...]:
    """Weights of cost to choose among: 0, then ever wider steps, with the route's own among them."""
    own, others = own_weight(policy), math.fsum(one.weight for one in policy.scorers if one.scorer.predicts != "cost") or 1.0
    ratio = (MOST / LEAST) ** (1 / (STEPS - 2))
    grid = [0.0, *(float(f"{others * LEAST * ratio**step:.2g}") for step in range(STEPS - 1))]
    return tuple(sorted({*grid, own}))


def own_weight(policy: Policy) -> float:
    """Of the opinion on cost, where a request has no wish of its own."""
    return policy.cost_weight(RouteRequest(preferences=Preferences()))


def frontier(route: Route) -> Frontier | None:
    """None where no scorer of the route has an artifact with questions of which two of its models are known."""
    for one in route.policy.scorers:
        artifact: Artifact | None = getattr(one.scorer, "artifact", None)
        if artifact is None or one.scorer.predicts != "quality" or one.weight <= 0:
            continue
        held = _held(artifact)
        if held is None:
            continue
        known = artifact.manifest.models[: len(held.costs)]
        names = [name for name in route.models if name in known]
        if len(names) > 1:
            return _of(route, one.name, one.weight, artifact, held, names, [known.index(name) for name in names])
    return None


def _held(artifact: Artifact) -> Held | None:
    # Here and not above: whoever routes without learned routers need not have what artifacts take.
    from routers.artifacts import BadArtifact
    from routers.pickers.threshold import read

    try:
        return read(artifact)
    except BadArtifact:
        return None


def _of(route: Route, scorer: str, weight: float, artifact: Artifact, held: Held, names: Sequence[str], columns: Sequence[int]) -> Frontier:
    import numpy as np

    mean, scores, costs = held.mean[:, columns], held.scores[:, columns], held.costs[list(columns)]
    priced = [Candidate(Model(name, Price(0.0, 0.0, request=cost))) for name, cost in zip(names, costs.tolist(), strict=True)]
    cheap = Cost().score(RouteRequest(), priced)
    opinion = np.array([cheap[name] for name in names])
    order = np.argsort(costs, kind="stable")  # of equals the cheaper serves
    rows = np.arange(len(scores))

    def point(chosen: np.ndarray, at: float | None, model: str | None) -> Point:
        counts = np.bincount(chosen, minlength=len(names)) / len(chosen)
        shares = {name: round(share, 4) for name, share in zip(names, counts.tolist(), strict=True)}
        return Point(float(scores[rows, chosen].mean()), float(costs[chosen].mean()), shares, at, model)

    def by_weight(cost_weight: float) -> Point:
        total = weight * mean + cost_weight * opinion
        return point(order[np.argmax(total[:, order], axis=1)], cost_weight, None)

    manifest = artifact.manifest
    return Frontier(
        scorer,
        manifest.kind,
        manifest.created.isoformat(),
        len(scores),
        tuple(by_weight(one) for one in weights(route.policy)),
        tuple(point(np.full(len(rows), column), None, name) for column, name in enumerate(names)),
        tuple(name for name in route.models if name not in names),
    )

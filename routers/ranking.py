"""Weighted opinions become an order: who is best, how good, and at what cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from routers.api import Candidate, Opinion, RouteRequest, Scored
from routers.expectation import expected_cost

if TYPE_CHECKING:
    from routers.pipeline import Weighted


def rank(
    scorers: Sequence[Weighted], request: RouteRequest, candidates: Sequence[Candidate], opinions: Mapping[str, Mapping[str, float]]
) -> list[Scored]:
    """Best first; of equals the cheaper, then the one that the route names first.

    Where a scorer has no opinion on a candidate, its mean over the others stands in: unknown is neither good nor bad.
    With `min_quality`, candidates that are expected to reach it come before those that are not.
    """
    heard = [(one, opinions[one.name]) for one in scorers if one.name in opinions]
    voices = [(one.name, one.weight, found, sum(found.values()) / len(found)) for one, found in heard]
    judges = [(one.name, one.weight) for one, _ in heard if one.scorer.predicts == "quality"]
    ranked = []
    for candidate in candidates:
        name, score = candidate.model.name, 0.0
        own: dict[str, float] = {}
        for voice, weight, found, mean in voices:
            value = found.get(name)
            if value is None:
                score += weight * mean
            else:
                own[voice] = value
                score += weight * value
        quality, uncertainty = _quality(judges, own)
        plain = {voice: float(value) for voice, value in own.items()}
        ranked.append(Scored(name, score, plain, quality, expected_cost(request, candidate), uncertainty))
    floor = request.preferences.min_quality
    ranked.sort(key=lambda scored: (_misses(scored, floor), -scored.score, known(scored.cost_usd)))
    return ranked


def _quality(judges: Sequence[tuple[str, float]], own: Mapping[str, float]) -> tuple[float | None, float | None]:
    """The weighted mean of what the scorers that predict quality say, and of how unsure they are; None if nobody says. `judges`: their
    names and weights.

    Scorers that read the same prompt err together, so their uncertainties add up as they are.
    """
    total = quality = unsure = 0.0
    certain = True
    for name, weight in judges:
        value = own.get(name)
        if value is None:
            continue
        total += weight
        quality += weight * value
        if isinstance(value, Opinion) and value.spread is not None:
            unsure += weight * value.spread
        else:
            certain = False
    if total <= 0:
        return None, None
    return quality / total, unsure / total if certain else None


def _misses(scored: Scored, floor: float | None) -> bool:
    return floor is not None and scored.quality is not None and scored.quality < floor


def known(cost: float | None) -> float:
    """A cost by which to sort: an unknown one is taken for the greatest."""
    return math.inf if cost is None else cost

"""Now and then another model, by chances that are written down.

Thompson sampling: Thompson 1933, doi:10.1093/biomet/25.3-4.285; upper confidence bounds: Auer et al. 2002, doi:10.1023/A:1013689704352;
why the chances must be known: Bottou et al. 2013, https://arxiv.org/abs/1209.2355.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from statistics import NormalDist
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from routers.api import RouteRequest, Scored
from routers.pickers.order import draw, good_enough

LEAST_SPREAD = 1e-6
BOUND = 2.0
"""`ucb`: standard deviations above the score."""

_NODES = 32
_REACH = 6
_STEPS = 500
"""The normal distribution is looked up: so many places a standard deviation, up to `_REACH` of them."""


class Explore:
    """Serves the best candidate, and with a probability of at most `share` another one, so that routers learn what they cannot see.

    `method` thompson: each as likely as it is to be the best one, its score being normal around what is expected, with the uncertainty of
    its quality; where that adds up to more than `share`, all are scaled down alike. ucb: with probability `share` the greatest score +
    2 · uncertainty. uniform: `share` split among the others. Where no candidate says how unsure it is, all methods are uniform.

    Every candidate's chance is computed first, and the draw uses these very numbers: the propensity in the ledger is exact. Candidates
    that are expected to miss the request's `min_quality` are not tried while others reach it.
    """

    deterministic = False

    def __init__(
        self, share: Annotated[float, Field(gt=0, le=1)] = 0.05, method: Literal["thompson", "ucb", "uniform"] = "thompson"
    ) -> None:
        self._share = share
        self._method = method
        normal = NormalDist()
        self._nodes = np.array([normal.inv_cdf((k + 0.5) / _NODES) for k in range(_NODES)])
        self._below = np.array([normal.cdf(step / _STEPS) for step in range(-_REACH * _STEPS, _REACH * _STEPS + 1)])

    def pick(self, request: RouteRequest, ranked: Sequence[Scored], rng: Random) -> Sequence[Scored]:
        chances = [0.0] * len(ranked)
        places = good_enough(request, ranked)
        for place, chance in zip(places, self.chances([ranked[place] for place in places]), strict=True):
            chances[place] = chance
        return draw(ranked, chances, rng)

    def chances(self, ranked: Sequence[Scored]) -> list[float]:
        """The probability with which each candidate comes first; they add up to 1. The best one is the first of `ranked`."""
        others = len(ranked) - 1
        if not others:
            return [1.0]
        wanted = self._wanted(ranked)
        tried = sum(wanted[1:])
        scale = min(1.0, self._share / tried) if tried > 0 else 0.0
        found = [chance * scale for chance in wanted[1:]]
        return [1.0 - sum(found), *found]

    def _wanted(self, ranked: Sequence[Scored]) -> list[float]:
        """How much each would be tried if there were no bound."""
        spreads = [scored.uncertainty for scored in ranked if scored.uncertainty is not None]
        if not spreads or self._method == "uniform":
            return [0.0, *([1.0] * (len(ranked) - 1))]
        unsaid = sum(spreads) / len(spreads)
        spread = np.maximum([unsaid if scored.uncertainty is None else scored.uncertainty for scored in ranked], LEAST_SPREAD)
        score = np.array([scored.score for scored in ranked])
        if self._method == "ucb":
            highest = int(np.argmax(score + BOUND * spread))
            return [1.0 if place == highest else 0.0 for place in range(len(ranked))]
        # P(m is the greatest) = E over m's own normal of the others' chance to be below, by the midpoint rule in its probability.
        at = score[:, None] + spread[:, None] * self._nodes
        above = (at[:, :, None] - score) * (_STEPS / spread) + _REACH * _STEPS
        below = self._below[np.clip(above, 0, 2 * _REACH * _STEPS).astype(np.int64)]
        rows = np.arange(len(ranked))
        below[rows, :, rows] = 1.0
        won = below.prod(axis=2).mean(axis=1)
        return [float(chance) for chance in won / won.sum()]

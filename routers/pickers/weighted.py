"""Draws in proportion to the scores."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Annotated

from pydantic import Field

from routers.api import RouteRequest, Scored
from routers.pickers.order import draw


class Weighted:
    """Draws who serves, each candidate with a chance proportional to its score to the power of `sharpness`.

    The others stay the fallback order, best first. The chances are logged as propensities.
    """

    deterministic = False

    def __init__(self, sharpness: Annotated[float, Field(gt=0, le=100)] = 1.0) -> None:
        self._sharpness = sharpness

    def pick(self, request: RouteRequest, ranked: Sequence[Scored], rng: Random) -> Sequence[Scored]:
        chances = [max(0.0, scored.score) ** self._sharpness for scored in ranked]
        if sum(chances) <= 0:
            return ranked
        return draw(ranked, chances, rng)

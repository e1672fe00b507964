"""The greatest score serves."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from routers.api import RouteRequest, Scored


class Best:
    """The greatest score serves."""

    deterministic = True

    def pick(self, request: RouteRequest, ranked: Sequence[Scored], rng: Random) -> Sequence[Scored]:
        return ranked

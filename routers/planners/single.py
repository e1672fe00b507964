"""One call, relayed as it comes."""

from __future__ import annotations

from collections.abc import Sequence

from routers.api import Answer, Ask, Budget, RouteRequest, Scored, Turn


class Single:
    """Asks the first of the ranking; the rest may stand in for it."""

    def next(self, request: RouteRequest, ranking: Sequence[Scored], turns: Sequence[Turn], left: Budget) -> Sequence[Ask] | Answer:
        return (Ask(tuple(scored.name for scored in ranking)),)

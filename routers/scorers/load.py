"""Less busy is better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field

from routers.api import Candidate, Need, RouteRequest


class Load:
    """1 for an idle model, falling to 1/2 at `half` requests in flight for each of its backends."""

    needs: frozenset[Need] = frozenset({"load"})
    instant = True
    predicts: Literal["preference"] = "preference"

    def __init__(self, half: Annotated[float, Field(gt=0)] = 8.0) -> None:
        self._half = half

    def score(self, request: RouteRequest, candidates: Sequence[Candidate]) -> Mapping[str, float]:
        return {c.name: self._half / (self._half + c.load) for c in candidates if c.load is not None}

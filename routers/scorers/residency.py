"""Awake is better: waking another model costs seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field

from routers.api import Candidate, Need, RouteRequest


class Residency:
    """1 for a model that is awake, falling to 0 for one that needs `horizon_seconds` or more until it can serve.

    Its weight says what waiting is worth: so much score for `horizon_seconds`. A sleeping model wins where it is better by more than
    that; else the second-best that is awake answers. A model that never sleeps counts as awake, unless none of the candidates does: then
    there is nothing to have an opinion on.
    """

    needs: frozenset[Need] = frozenset({"load"})
    instant = True
    predicts: Literal["preference"] = "preference"

    def __init__(self, horizon_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 10.0) -> None:
        self._horizon = horizon_seconds

    def score(self, request: RouteRequest, candidates: Sequence[Candidate]) -> Mapping[str, float]:
        if all(c.wake_seconds is None for c in candidates):
            return {}
        return {c.name: max(0.0, 1.0 - (c.wake_seconds or 0.0) / self._horizon) for c in candidates}

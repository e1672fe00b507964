"""A fixed opinion on each model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field

from routers.api import Candidate, Need, RouteRequest


class Weights:
    """The table `models` says how good each model is, whatever the request; others get no opinion."""

    needs: frozenset[Need] = frozenset()
    instant = True
    predicts: Literal["quality"] = "quality"

    def __init__(self, models: dict[str, Annotated[float, Field(ge=0, le=1)]]) -> None:
        self._models = dict(models)

    def score(self, request: RouteRequest, candidates: Sequence[Candidate]) -> Mapping[str, float]:
        return {c.name: self._models[c.name] for c in candidates if c.name in self._models}

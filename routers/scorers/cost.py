"""Cheaper is better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field

from routers.api import Candidate, Need, RouteRequest
from routers.expectation import TYPICAL_ANSWER_TOKENS, expected_cost


class Cost:
    """1 for the cheapest candidate of this request, 0 for the dearest, by expected cost. A model without a price gets no opinion."""

    needs: frozenset[Need] = frozenset()
    instant = True
    predicts: Literal["cost"] = "cost"

    def __init__(self, answer_tokens: Annotated[float, Field(gt=0)] = TYPICAL_ANSWER_TOKENS) -> None:
        self._answer_tokens = answer_tokens

    def score(self, request: RouteRequest, candidates: Sequence[Candidate]) -> Mapping[str, float]:
        known = {c.name: cost for c in candidates if (cost := expected_cost(request, c, self._answer_tokens)) is not None}
        if not known:
            return {}
        least, most = min(known.values()), max(known.values())
        if most <= least:
            return dict.fromkeys(known, 1.0)
        return {name: 1.0 - (cost - least) / (most - least) for name, cost in known.items()}

"""What a request will probably cost: one function for the cost scorer, the cost filter and the decision's record."""

from __future__ import annotations

from routers.api import Candidate, RouteRequest

TYPICAL_ANSWER_TOKENS = 256
"""Taken for the length of an answer as long as nothing was observed."""


def expected_tokens_out(request: RouteRequest, candidate: Candidate, typical: float = TYPICAL_ANSWER_TOKENS) -> float:
    """Tokens of all `n` answers together: the model's mean so far, but no more than the request allows."""
    if request.endpoint == "embeddings":
        return 0.0
    length = candidate.answer_tokens if candidate.answer_tokens is not None else typical
    if request.max_tokens:
        length = min(length, request.max_tokens)
    return length * request.n


def expected_cost(request: RouteRequest, candidate: Candidate, typical: float = TYPICAL_ANSWER_TOKENS) -> float | None:
    """USD; None if the model's price is unknown."""
    price = candidate.model.price
    if price is None:
        return None
    return (request.prompt_tokens * price.input + expected_tokens_out(request, candidate, typical) * price.output) / 1_000_000

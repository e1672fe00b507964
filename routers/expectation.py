"""What a request will probably cost, and what it may cost at most: one place for scorers, filters, budgets and the decision's record."""

from __future__ import annotations

from routers.api import Candidate, RouteRequest

TYPICAL_ANSWER_TOKENS = 256
"""Taken for the length of an answer as long as nothing was observed."""

UNBOUNDED_ANSWER_TOKENS = 4096
"""Taken for the bound of an answer that the request does not bound."""


def expected_tokens_out(request: RouteRequest, candidate: Candidate, typical: float = TYPICAL_ANSWER_TOKENS) -> float:
    """Tokens of all `n` answers together: the model's mean so far, but no more than the request allows."""
    if request.endpoint == "embeddings":
        return 0.0
    length = candidate.answer_tokens if candidate.answer_tokens is not None else typical
    if request.max_tokens:
        length = min(length, request.max_tokens)
    return length * request.n


def expected_cost(request: RouteRequest, candidate: Candidate, typical: float = TYPICAL_ANSWER_TOKENS) -> float | None:
    """USD, the fee for the call included; None if the model's price is unknown."""
    price = candidate.model.price
    if price is None:
        return None
    tokens = request.prompt_tokens * price.input + expected_tokens_out(request, candidate, typical) * price.output
    return tokens / 1_000_000 + price.request


def possible_tokens(request: RouteRequest, candidate: Candidate, unbounded: int = UNBOUNDED_ANSWER_TOKENS) -> int:
    """Tokens of the prompt and of all `n` answers at their longest."""
    return request.prompt_tokens + _possible_tokens_out(request, candidate, unbounded)


def possible_cost(request: RouteRequest, candidate: Candidate, unbounded: int = UNBOUNDED_ANSWER_TOKENS) -> float | None:
    """USD: the dearest that this request may come to at this model, the fee included; None if the model's price is unknown.

    `unbounded`: tokens of an answer that the request does not bound; less where the context window has not so much room.
    """
    price = candidate.model.price
    if price is None:
        return None
    prompt = price.input if price.cached_input is None else max(price.input, price.cached_input)
    answer = price.output if price.reasoning is None else max(price.output, price.reasoning)
    return (request.prompt_tokens * prompt + _possible_tokens_out(request, candidate, unbounded) * answer) / 1_000_000 + price.request


def _possible_tokens_out(request: RouteRequest, candidate: Candidate, unbounded: int) -> int:
    if request.endpoint == "embeddings":
        return 0
    if request.max_tokens:
        return request.max_tokens * request.n
    window = candidate.model.context_window
    room = unbounded if window is None else min(unbounded, window - request.prompt_tokens)
    return max(1, room) * request.n

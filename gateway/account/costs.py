"""Usage and what it costs: one function prices everything."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct
from msgspec.structs import force_setattr

from routers.api import Price, Turn

MOST_TOKENS = 1_000_000_000
"""A count beyond this is no count: no model reads or writes so much in one call."""


class PromptDetails(Struct, frozen=True, gc=False):
    """What a backend says of the prompt's tokens."""

    cached_tokens: int | None = None


class CompletionDetails(Struct, frozen=True, gc=False):
    """What a backend says of the answer's tokens."""

    reasoning_tokens: int | None = None


class Usage(Struct, frozen=True, gc=False):
    """Tokens of one call as the backend counted them. None where it did not say, or said what cannot be.

    Cached tokens are part of the prompt's, and reasoning tokens of the answer's. The shape is that of OpenAI's `usage`.
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None

    def __post_init__(self) -> None:
        if self.prompt_tokens is not None and not 0 <= self.prompt_tokens <= MOST_TOKENS:
            force_setattr(self, "prompt_tokens", None)
        if self.completion_tokens is not None and not 0 <= self.completion_tokens <= MOST_TOKENS:
            force_setattr(self, "completion_tokens", None)

    @property
    def cached_tokens(self) -> int | None:
        """Prompt tokens that came from the backend's prefix cache, at most all of them."""
        details = self.prompt_tokens_details
        return None if details is None else _part(details.cached_tokens, self.prompt_tokens)

    @property
    def reasoning_tokens(self) -> int | None:
        """Answer tokens that were spent on thinking, at most all of them."""
        details = self.completion_tokens_details
        return None if details is None else _part(details.reasoning_tokens, self.completion_tokens)


def _part(count: int | None, whole: int | None) -> int | None:
    return None if count is None or whole is None or count < 0 else min(count, whole)


def cost_usd(price: Price | None, usage: Usage | None) -> float | None:
    """USD for one call, never negative; None if the price or the prompt's count is unknown.

    Each token is charged once: as a cached or an uncached one of the prompt, as reasoning or as the rest of the answer. Embeddings have
    no answer tokens, and none are charged.
    """
    if price is None or usage is None or usage.prompt_tokens is None:
        return None
    prompt, completion = usage.prompt_tokens, usage.completion_tokens or 0
    tokens = prompt * price.input + completion * price.output
    if price.cached_input is not None or price.reasoning is not None:
        cached, reasoning = usage.cached_tokens or 0, usage.reasoning_tokens or 0
        cached_input = price.input if price.cached_input is None else price.cached_input
        thought = price.output if price.reasoning is None else price.reasoning
        tokens = (prompt - cached) * price.input + cached * cached_input + (completion - reasoning) * price.output + reasoning * thought
    return tokens / 1_000_000 + price.request


def dearest(prices: Iterable[Price | None]) -> tuple[Price, ...]:
    """Those of some prices at one of which a call costs most, whatever its tokens are: for a route of many models they are few."""
    found: list[Price] = []
    for price in dict.fromkeys(prices):
        if price is not None and not any(_is_never_dearer(price, other) for other in found):
            found = [other for other in found if not _is_never_dearer(other, price)] + [price]
    return tuple(found)


def _is_never_dearer(one: Price, other: Price) -> bool:
    return all(mine <= yours for mine, yours in zip(_rates(one), _rates(other), strict=True))


def _rates(price: Price) -> tuple[float, ...]:
    cached = price.input if price.cached_input is None else price.cached_input
    reasoning = price.output if price.reasoning is None else price.reasoning
    return (price.input, price.output, cached, reasoning, price.request)


def add_usage(one: Usage | None, other: Usage | None) -> Usage | None:
    """Both together; None if neither is known."""
    if one is None or other is None:
        return one or other
    return Usage(_sum(one.prompt_tokens, other.prompt_tokens), _sum(one.completion_tokens, other.completion_tokens))


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None and other is None else (one or 0) + (other or 0)


def usage_of_turns(turns: Sequence[Turn]) -> Usage | None:
    """What the asks before the answer took; None if nothing is known of any."""
    total: Usage | None = None
    for turn in turns:
        if turn.tokens_in is not None or turn.tokens_out is not None:
            total = add_usage(total, Usage(turn.tokens_in, turn.tokens_out))
    return total

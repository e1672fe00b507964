"""Usage and what it costs: one function prices everything."""

from __future__ import annotations

from msgspec import Struct

from routers.api import Price


class Usage(Struct, frozen=True, gc=False):
    """Tokens of one call as the backend counted them. None where it did not say."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None


def cost_usd(price: Price | None, usage: Usage | None) -> float | None:
    """USD for one call; None if the price or a count is unknown. Embeddings have no answer tokens, and none are charged."""
    if price is None or usage is None or usage.prompt_tokens is None:
        return None
    return (usage.prompt_tokens * price.input + (usage.completion_tokens or 0) * price.output) / 1_000_000

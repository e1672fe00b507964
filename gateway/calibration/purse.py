"""The cost ceiling: nothing is asked that might go beyond it."""

from __future__ import annotations

import asyncio

from routers.api import Price

TEMPLATE_TOKENS = 256
"""Tokens that a chat template may add to a prompt."""
BYTES_PER_ANSWER_TOKEN = 8


def most_usd(price: Price | None, prompt_bytes: int, max_tokens: int) -> float:
    """The most that a call can cost: no tokenizer makes more tokens than bytes. 0 for an unknown price."""
    if price is None:
        return 0.0
    dearest_in = max(price.input, price.cached_input or 0.0)
    dearest_out = max(price.output, price.reasoning or 0.0)
    return ((prompt_bytes + TEMPLATE_TOKENS) * dearest_in + max_tokens * dearest_out) / 1_000_000 + price.request


class Purse:
    """`spent` so far, USD. `ceiling`: None for none. `empty`: something could not be paid for."""

    def __init__(self, ceiling: float | None, spent: float) -> None:
        self._ceiling = ceiling
        self._reserved = 0.0
        self._changed = asyncio.Condition()
        self.spent = spent
        self.empty = False

    async def reserve(self, most: float) -> bool:
        """Whether a call that costs at most `most` USD may start. Waits if that depends on what runs now. `settle` must follow a yes."""
        async with self._changed:
            while not self.empty:
                if self._ceiling is None or self.spent + self._reserved + most <= self._ceiling:
                    self._reserved += most
                    return True
                if self.spent + most > self._ceiling:
                    self.empty = True
                    self._changed.notify_all()
                else:
                    await self._changed.wait()
            return False

    async def settle(self, most: float, cost: float | None) -> None:
        """The call is over. An unknown cost counts as the most that it can have been."""
        async with self._changed:
            self._reserved = max(0.0, self._reserved - most)
            self.spent += most if cost is None else cost
            self._changed.notify_all()

"""What one request may spend on the asks of its plan: within its own `max_cost_usd`, and within what its caller's budget still pays for."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from gateway.guard.funds import Funds
from gateway.guard.verdicts import PICO, pico

Bound = Literal["max_cost", "budget"]
"""Which of the two does not pay."""


class Price(Struct, frozen=True, gc=False):
    """USD that an ask may cost; None: nobody knows. `likely`: for the request's own bound. `most`: what a budget must hold."""

    likely: float | None
    most: float | None


class Held(Struct, frozen=True, gc=False):
    """Money for an ask that is under way: `cost` (USD) of the request's own bound, `taken` (pico-USD) of the caller's budget."""

    cost: float
    taken: int


class Purse:
    """`most`: the request's own bound in USD; None: there is none. `funds`: of the caller's budget; None: there is none."""

    def __init__(self, most: float | None, funds: Funds | None) -> None:
        self._most = most
        self._funds = funds
        self._spent = 0.0
        self._closed = False

    @property
    def left(self) -> float | None:
        """USD; None: unbounded. As far as the caller's budget is concerned others spend of it too, so that less may be there in the end."""
        if self._closed:
            return 0.0
        own = None if self._most is None else max(0.0, self._most - self._spent)
        if self._funds is None:
            return own
        there = self._funds.left / PICO
        return there if own is None else min(own, there)

    def close(self) -> None:
        """Whoever asks what is left is told that nothing is."""
        self._closed = True

    async def hold(self, price: Price) -> Held | Bound:
        """Holds what an ask may cost; or says which bound does not pay for it. An unknown price is not paid where money is bounded."""
        cost = 0.0
        if self._most is not None:
            if price.likely is None or price.likely > self._most - self._spent:
                return "max_cost"
            cost = price.likely
        self._spent += cost
        taken = 0
        if self._funds is not None:
            taken, paid = pico(price.most or 0.0), False
            try:
                paid = price.most is not None and await self._funds.take(taken)
            finally:
                if not paid:
                    self._spent -= cost
            if not paid:
                return "budget"
        return Held(cost, taken)

    def settle(self, held: Held, cost: float | None) -> None:
        """The ask is over: what it did cost is spent; as much as was held, if that is unknown. The rest is free again."""
        self._spent += (held.cost if cost is None else cost) - held.cost
        if self._funds is not None:
            self._funds.settle(held.taken, held.taken if cost is None else pico(cost))

"""What one request holds of its caller's budget: what was reserved at first, and more as its asks need it."""

from __future__ import annotations

from collections.abc import MutableSequence

from gateway.guard.limits import Grant, Limits, OutOfBudget
from gateway.guard.verdicts import pico


class Funds:
    """Amounts are pico-USD. `grant`: the request's own, of a caller with a budget. `more`: gets every further grant; whoever closes the
    request's books releases them.

    What is free again, since an ask cost less than it might have, pays for the next one: the budget is asked only for what is missing.
    """

    def __init__(self, limits: Limits, grant: Grant, more: MutableSequence[Grant]) -> None:
        self._limits = limits
        self._caller = grant.caller
        self._more = more
        self._granted = grant.cost
        self._rest = grant.left
        self._taken = 0

    @property
    def left(self) -> int:
        """What may still be taken, as far as it is known here: others spend of the same budget."""
        return max(0, self._granted + max(0, self._rest) - self._taken)

    async def take(self, cost: int) -> bool:
        """Takes what an ask may cost at most, all of it or nothing. Returns whether the budget pays for it."""
        self._taken += cost
        missing = self._taken - self._granted
        if missing <= 0:
            return True
        self._granted += missing  # so that asks beside this one do not reserve it again
        grant = None
        try:
            grant = await self._limits.extend(self._caller, missing)
        except OutOfBudget as short:
            self._rest = pico(max(0.0, short.left_usd))
        finally:
            if grant is None:
                self._taken -= cost
                self._granted -= missing
        if grant is None:
            return False
        self._rest = grant.left
        self._more.append(grant)
        return True

    def settle(self, taken: int, cost: int) -> None:
        """An ask is over: it cost so much of what was taken for it."""
        self._taken += cost - taken

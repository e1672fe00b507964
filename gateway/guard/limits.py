"""Requests and tokens a minute, and budgets: reserved before a request goes out, settled when it is known what it took."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files

from msgspec import Struct

from backends.api import Header
from gateway.errors import GatewayError
from gateway.guard.buckets import Buckets
from gateway.guard.callers import Allowance, Caller
from gateway.guard.verdicts import PICO, Bound, Verdict, headers, pico, window
from gateway.memory.store import Script, Store, StoreDown

RESERVE = Script("reserve", files("gateway.guard").joinpath("reserve.lua").read_text(encoding="utf-8"))
SETTLE = Script("settle", files("gateway.guard").joinpath("settle.lua").read_text(encoding="utf-8"))
_BOUNDS: tuple[Bound | None, ...] = (None, "requests", "tokens", "budget")
_KEPT_SECONDS = {"day": 3 * 86_400, "month": 40 * 86_400}
REMEMBERED = 10_000
LOCAL: Header = (b"x-router-limits", b"local")
"""Says that this process alone kept the caller's allowance."""


class Grant(Struct, frozen=True, gc=False):
    """What was reserved for one request: `tokens`, `cost` (pico-USD), in the budget's `window`. `headers`: for the answer.

    `local`: by this process alone. `left`: what else the budget pays for (pico-USD), as far as others do not hold it; -1 without a budget.
    """

    caller: Caller
    id: str
    tokens: int
    cost: int
    window: str
    local: bool
    headers: tuple[Header, ...]
    left: int = -1


class OutOfBudget(GatewayError):
    """The caller's budget does not pay for what this request may cost. `left_usd`: what it still pays for."""

    def __init__(self, left_usd: float, retry_after: float) -> None:
        message = f"the key's budget does not pay for what this request may cost; ${max(0.0, left_usd):.6f} of it is left"
        super().__init__("budget_exceeded", message, retry_after=retry_after)
        self.left_usd = left_usd


class Limits:
    """Keeps callers within their allowances: in Redis, and in this process while there is none.

    `hold_seconds`: a reservation that nobody settles, since its process died, is given back after so long. `local_used`: called each time
    that this process kept an allowance by itself, though Redis is configured.
    """

    def __init__(
        self,
        store: Store | None,
        buckets: Buckets,
        *,
        hold_seconds: float,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        new_id: Callable[[], str],
        local_used: Callable[[], None],
    ) -> None:
        self._store = store
        self._buckets = buckets
        self._hold_ms = round(hold_seconds * 1000)
        self._clock = clock
        self._wall_clock = wall_clock
        self._new_id = new_id
        self._local_used = local_used
        self._blocked: OrderedDict[str, float] = OrderedDict()

    def check(self, caller: Caller) -> None:
        """Refuses at once a caller of whom it is known that no request of his can pass yet. Raises GatewayError."""
        until = self._blocked.get(caller.id)
        if until is None:
            return
        left = until - self._clock()
        if left > 0:
            raise _too_many("requests", caller, left)
        del self._blocked[caller.id]

    async def reserve(self, caller: Caller, tokens: int, cost_usd: float | None) -> Grant:
        """Takes from the caller's allowance what a request may use at most. `cost_usd`: None only for callers without a budget.

        Raises GatewayError (429), OutOfBudget. The grant must be settled or released.
        """
        cost = pico(cost_usd or 0.0)
        grant, verdict, ends_in = await self._take(caller, tokens, cost)
        if grant.local and self._store is not None:
            self._local_used()
        if verdict.refused is not None:
            raise self._refusal(caller, verdict, cost, ends_in, grant.headers)
        return grant

    async def spent_usd(self, caller: Caller) -> tuple[float, bool]:
        """What of the caller's budget is spent in this window, and whether only this process says so."""
        if self._store is not None:
            name, _ = window(caller.allowance.window, self._wall_clock())
            try:
                found = await self._store.call("HGET", self._store.tagged(caller.id, "budget", name), "spent")
                return int(found or 0) / PICO, False
            except (StoreDown, ValueError):
                pass
        return self._buckets.spent(caller) / PICO, True

    async def extend(self, caller: Caller, cost: int) -> Grant:
        """Takes more of the caller's budget (pico-USD) for a request that has its grant already, and nothing else of its allowance.

        Raises OutOfBudget. The grant must be released; what was spent is charged to the request's own.
        """
        grant, verdict, ends_in = await self._take(_purse_of(caller), 0, cost)
        if verdict.refused is not None:
            raise self._refusal(caller, verdict, cost, ends_in, ())
        return grant

    async def _take(self, caller: Caller, tokens: int, cost: int) -> tuple[Grant, Verdict, float]:
        """The grant as it is if the verdict refuses nothing, and how many seconds the budget's window still lasts.

        Whoever is cancelled here holds no money: Redis may have done it all the same, and to give back what was never taken does nothing.
        """
        name, ends_in = window(caller.allowance.window, self._wall_clock())
        key = self._new_id()
        try:
            verdict = await self._ask_store(caller, tokens, cost, key, name)
        except asyncio.CancelledError:
            if caller.allowance.budget_usd is not None:
                self.release(Grant(_purse_of(caller), key, 0, cost, name, False, ()))
            raise
        local = verdict is None
        if verdict is None:
            verdict = self._buckets.reserve(caller, tokens, cost, key)
        found = (*headers(caller.allowance, verdict), *((LOCAL,) if local and self._store is not None else ()))
        return Grant(caller, key, tokens, cost, name, local, found, verdict.left), verdict, ends_in

    def settle(self, grant: Grant, tokens: int | None, cost_usd: float | None) -> None:
        """The request is over. What it used is charged: None where that is unknown, then all that was reserved."""
        used = grant.tokens if tokens is None else tokens
        cost = grant.cost if cost_usd is None else pico(cost_usd)
        self._finish(grant, used, cost)

    def release(self, grant: Grant) -> None:
        """The request brought nothing: tokens and money go back. It still counts as a request."""
        self._finish(grant, 0, 0)

    def _finish(self, grant: Grant, used: int, cost: int) -> None:
        caller = grant.caller
        if grant.local:
            self._buckets.settle(caller, grant.id, grant.tokens, used, cost)
        if self._store is None or (grant.local and not cost):
            return
        budget = caller.allowance.budget_usd is not None
        tpm = -1 if grant.local or caller.allowance.tpm is None else caller.allowance.tpm
        if tpm < 0 and not budget:
            return
        kept = _KEPT_SECONDS[caller.allowance.window]
        tagged = self._store.tagged
        keys = [
            tagged(caller.id, "tokens"),
            tagged(caller.id, "budget", grant.window),
            tagged(caller.id, "held", grant.window),
            tagged(caller.id, "settled", grant.id),
        ]
        self._store.run_later(SETTLE, keys, [tpm, grant.tokens, used, int(budget), grant.cost, cost, grant.id, kept])

    async def _ask_store(self, caller: Caller, tokens: int, cost: int, key: str, window_name: str) -> Verdict | None:
        """What Redis says; None while it is away."""
        if self._store is None:
            return None
        allowance, tagged = caller.allowance, self._store.tagged
        keys = [
            tagged(caller.id, "requests"),
            tagged(caller.id, "tokens"),
            tagged(caller.id, "budget", window_name),
            tagged(caller.id, "held", window_name),
        ]
        rpm = -1 if allowance.rpm is None else allowance.rpm
        tpm = -1 if allowance.tpm is None else allowance.tpm
        budget = -1 if allowance.budget_usd is None else pico(allowance.budget_usd)
        try:
            found = await self._store.run_script(
                RESERVE, keys, [rpm, tpm, tokens, budget, cost, key, self._hold_ms, _KEPT_SECONDS[allowance.window]]
            )
        except StoreDown:
            return None
        refused, wait, requests, requests_reset, left_tokens, tokens_reset, left, held = (int(value) for value in found)
        self._buckets.learn(caller, left, held if refused else held + cost)
        return Verdict(_BOUNDS[refused], wait / 1e6, requests, requests_reset / 1e6, left_tokens, tokens_reset / 1e6, left, held)

    def _refusal(self, caller: Caller, verdict: Verdict, cost: int, ends_in: float, found: tuple[Header, ...]) -> GatewayError:
        if verdict.refused == "budget":
            soon = cost <= verdict.left + verdict.held  # what others hold is mostly given back
            error: GatewayError = OutOfBudget(verdict.left / PICO, 1.0 if soon else ends_in)
        else:
            if verdict.refused == "requests":
                self._block(caller.id, self._clock() + verdict.retry_after)
            error = _too_many(verdict.refused or "requests", caller, verdict.retry_after)
        error.headers = found
        return error

    def _block(self, caller_id: str, until: float) -> None:
        self._blocked[caller_id] = until
        self._blocked.move_to_end(caller_id)
        if len(self._blocked) > REMEMBERED:
            self._blocked.popitem(last=False)


def _purse_of(caller: Caller) -> Caller:
    """The caller with nothing of its allowance but the budget."""
    allowance = caller.allowance
    return replace(caller, allowance=Allowance(budget_usd=allowance.budget_usd, window=allowance.window))


def _too_many(bound: Bound, caller: Caller, retry_after: float) -> GatewayError:
    limit = caller.allowance.rpm if bound == "requests" else caller.allowance.tpm
    return GatewayError("rate_limit_exceeded", f"the key's limit of {limit} {bound} a minute is reached", retry_after=retry_after)

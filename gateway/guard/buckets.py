"""Allowances kept in this process: where there is no Redis, and while it is away."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import get_args

from gateway.guard.callers import Caller, Window
from gateway.guard.verdicts import Bound, Verdict, pico, window

MINUTE = 60.0
KEPT = 100_000
NEARLY_SPENT = 0.1
"""A budget of which no more than this share is left is nearly spent."""


class _Account:
    """One caller's. `requests_full`, `tokens_full`: when each bucket is full again. Money in pico-USD, for the window named."""

    __slots__ = ("elsewhere", "held", "requests_full", "spent", "tokens_full", "window")

    def __init__(self) -> None:
        self.requests_full = 0.0
        self.tokens_full = 0.0
        self.window = ""
        self.spent = 0
        self.held: dict[str, int] = {}
        self.elsewhere = 0

    def enter(self, window_name: str) -> None:
        if window_name != self.window:
            self.window, self.spent, self.elsewhere = window_name, 0, 0


class Buckets:
    """The same rules as `reserve.lua`, at 1/`share` of each bound: so many processes keep allowances beside each other.

    `clock`: monotonic seconds. `wall_clock`: Unix time, for the budget's window. At most KEPT callers; the least recently used go first.
    """

    def __init__(self, share: int, clock: Callable[[], float], wall_clock: Callable[[], float]) -> None:
        self._share = share
        self._clock = clock
        self._wall_clock = wall_clock
        self._accounts: OrderedDict[str, _Account] = OrderedDict()
        self._near: dict[str, set[str]] = {}

    def __len__(self) -> int:
        return len(self._accounts)

    @property
    def nearly_spent(self) -> int:
        """How many callers had no more than NEARLY_SPENT of their budgets left at their last request within the budget's window.

        What is only held counts as left. Callers that are known no more are not among them.
        """
        now = self._wall_clock()
        current = {window(kind, now)[0] for kind in get_args(Window)}
        for name in self._near.keys() - current:
            del self._near[name]
        return sum(len(callers) for callers in self._near.values())

    def learn(self, caller: Caller, left: int, held: int = 0) -> None:
        """Redis said how much of the budget is left (pico-USD), all that was spent here included, and how much requests hold of it."""
        if caller.allowance.budget_usd is not None:
            account = self._account(caller)
            account.elsewhere, account.spent = pico(caller.allowance.budget_usd) - left, 0
            self._weigh(caller.id, account, left + held, caller.allowance.budget_usd)

    def spent(self, caller: Caller) -> int:
        """What is known here to be spent of the caller's budget in this window, pico-USD; changes nothing."""
        account = self._accounts.get(caller.id)
        if account is None or account.window != window(caller.allowance.window, self._wall_clock())[0]:
            return 0
        return account.elsewhere + account.spent

    def reserve(self, caller: Caller, tokens: int, cost: int, key: str) -> Verdict:
        """Takes what a request may use at most: all of it, or nothing. `cost`: pico-USD. `key`: names the reservation."""
        allowance, account, now = caller.allowance, self._account(caller), self._clock()
        requests = _take(account.requests_full, self._part(allowance.rpm), 1, now)
        wanted = _take(account.tokens_full, self._part(allowance.tpm), tokens, now)
        held = sum(account.held.values())
        left = -1 if allowance.budget_usd is None else self._left(account, allowance.budget_usd) - held
        refused: Bound | None = None
        if requests.wait > 0:
            refused = "requests"
        elif wanted.wait > 0:
            refused = "tokens"
        elif allowance.budget_usd is not None and cost > left:
            refused = "budget"
        else:
            account.requests_full, account.tokens_full = requests.full_at, wanted.full_at
            if allowance.budget_usd is not None:
                account.held[key] = cost
                left -= cost
        wait = {"requests": requests.wait, "tokens": wanted.wait}.get(refused or "", 0.0)
        return Verdict(refused, wait, requests.left, requests.reset, wanted.left, wanted.reset, left, held)

    def settle(self, caller: Caller, key: str, reserved: int, used: int, cost: int) -> None:
        """Replaces a reservation by what was really used: `used` tokens instead of `reserved` ones, `cost` pico-USD."""
        account = self._account(caller)
        limit = self._part(caller.allowance.tpm)
        if limit is not None:
            moved = account.tokens_full + (used - min(reserved, limit)) * MINUTE / limit
            account.tokens_full = min(moved, self._clock() + 2 * MINUTE)
        if account.held.pop(key, None) is not None:
            account.spent += cost
        if caller.allowance.budget_usd is not None:
            left = self._left(account, caller.allowance.budget_usd) * self._share
            self._weigh(caller.id, account, left, caller.allowance.budget_usd)

    def _weigh(self, caller_id: str, account: _Account, left: int, budget_usd: float) -> None:
        """Keeps in mind whether the budget is nearly spent. `left`: pico-USD."""
        near = self._near.get(account.window)
        if left <= NEARLY_SPENT * pico(budget_usd):
            self._near.setdefault(account.window, set()).add(caller_id)
        elif near is not None:
            near.discard(caller_id)

    def _account(self, caller: Caller) -> _Account:
        account = self._accounts.get(caller.id)
        if account is None:
            account = self._accounts[caller.id] = _Account()
            if len(self._accounts) > KEPT:
                self._forget(*self._accounts.popitem(last=False))
        self._accounts.move_to_end(caller.id)
        account.enter(window(caller.allowance.window, self._wall_clock())[0])
        return account

    def _forget(self, caller_id: str, account: _Account) -> None:
        self._near.get(account.window, set()).discard(caller_id)

    def _part(self, bound: int | None) -> float | None:
        return None if bound is None else max(1.0, bound / self._share)

    def _left(self, account: _Account, budget_usd: float) -> int:
        return max(0, pico(budget_usd) - account.elsewhere) // self._share - account.spent


class _Taken:
    """What a bucket says: seconds to `wait`, units `left`, seconds until its `reset`, and when it is full again."""

    __slots__ = ("full_at", "left", "reset", "wait")

    def __init__(self, full_at: float, wait: float, left: int, reset: float) -> None:
        self.full_at = full_at
        self.wait = wait
        self.left = left
        self.reset = reset


def _take(full_at: float, limit: float | None, units: int, now: float) -> _Taken:
    """Generic cell rate: the time at which the bucket is full again moves on with each unit taken, at most a minute ahead."""
    if limit is None:
        return _Taken(full_at, 0.0, -1, 0.0)
    interval = MINUTE / limit
    full_at = max(full_at, now)
    after = full_at + min(units, limit) * interval
    if after > now + MINUTE + 1e-6:
        return _Taken(full_at, after - now - MINUTE, max(0, int((now + MINUTE - full_at) / interval)), full_at - now)
    return _Taken(after, 0.0, int((now + MINUTE - after) / interval + 1e-6), after - now)

"""When to try again, and how long to wait: pure rules, and a budget that keeps retries from making an outage worse."""

from __future__ import annotations

import asyncio
import email.utils
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from random import Random
from types import TracebackType
from typing import Self

from msgspec import Struct

from backends.api import FailureKind

RETRYABLE_STATUS = frozenset({408, 429, 500, 502, 503, 504})
UNREACHABLE_STATUS = frozenset({502, 503, 504})
RETRY_AFTER_CAP = 5.0
WINDOW = 10
POLL = 0.2
"""Seconds between two looks of whoever waits for the budget: room comes with time too, not only with those who leave."""


class Outcome(Struct, frozen=True, gc=False):
    """How a call ended: with an HTTP status, with a failure, or cancelled by whoever asked (which says nothing of the backend)."""

    status: int | None = None
    kind: FailureKind | None = None
    cancelled: bool = False

    @property
    def failed(self) -> bool:
        """Whether the backend is to blame. A client's error (4xx) and a full queue (429) are no fault of it."""
        if self.cancelled or self.kind == "stale":
            return False
        return self.kind is not None or (self.status is not None and self.status >= 500)

    @property
    def succeeded(self) -> bool:
        """Whether it speaks for the backend. A client's error speaks neither for nor against it."""
        return not self.cancelled and self.kind is None and self.status is not None and self.status < 400

    @property
    def unreachable(self) -> bool:
        """Whether it failed since nobody was there: no connection, no answer in time, a lost one, or a proxy that says so."""
        return self.failed and (self.status in UNREACHABLE_STATUS if self.kind is None else self.kind != "invalid")

    @property
    def text(self) -> str:
        """In words, for operators."""
        if self.cancelled:
            return "cancelled"
        return f"status {self.status}" if self.kind is None else self.kind.replace("_", " ")


def is_retryable(outcome: Outcome) -> bool:
    """Whether another backend, or the same one later, may do better. Only ever asked before the client's first byte."""
    if outcome.cancelled:
        return False
    return outcome.kind is not None or outcome.status in RETRYABLE_STATUS


def delay(attempt: int, retry_after: float | None, rng: Random) -> float:
    """Seconds before the same backend is tried again after `attempt` attempts (1, 2, …): exponential with full jitter, at most 1 s.

    A backend that says when to come back (`retry_after`, seconds) is obeyed up to RETRY_AFTER_CAP.
    """
    if retry_after is not None:
        return min(max(0.0, retry_after), RETRY_AFTER_CAP)
    return rng.uniform(0.5, 1.0) * min(1.0, 0.05 * float(2 ** (attempt - 1)))


def parse_retry_after(value: str, now: float) -> float | None:
    """Seconds from a Retry-After header (RFC 9110, 10.2.3): a number or an HTTP date. `now`: Unix time. None if it is neither."""
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None


class RetryBudget:
    """How many attempts may follow the first ones. Two bounds hold at the same time:

    - of the active requests, a share of `ratio` may be on a second or later attempt at once, and `minimum` always (Envoy's retry budget);
    - of the last WINDOW seconds' requests, a share of `ratio` may have got one, and `minimum` a second always (Finagle's). The first bound
      alone would let errors that come at once be tried again without end: few at a time, but thousands a second.

    A backend that dies takes many requests along, and all of them can be saved: whoever finds no room waits for it, in a line no longer
    than the budget can serve in time. `clock`: monotonic seconds.
    """

    def __init__(self, ratio: float = 0.2, minimum: int = 3, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._ratio = ratio
        self._minimum = minimum
        self._clock = clock
        self._requests = Recent(WINDOW)
        self._attempts = Recent(WINDOW)
        self._line: deque[asyncio.Event] = deque()
        self.active = 0
        self.retrying = 0

    @property
    def waiting(self) -> int:
        """Requests that wait for room."""
        return len(self._line)

    def request(self) -> Retries:
        """A request looks for an answer. Inside `with`, it counts as active."""
        return Retries(self)

    def begin(self) -> None:
        """One more request is active."""
        self.active += 1
        self._requests.add(self._clock())

    def has_room(self, held: bool = False) -> bool:
        """Whether one more attempt may start now. `held`: by a request that is among those on a later attempt already."""
        if not held and self.retrying >= max(self._minimum, int(self.active * self._ratio)):
            return False
        return self._attempts.count(self._clock()) < self._most()

    def take(self, held: bool) -> None:
        """An attempt starts that is not its request's first."""
        self._attempts.add(self._clock())
        self.retrying += not held

    def leave(self) -> None:
        """A request is done with its later attempts."""
        self.retrying -= 1
        self._call_next()

    async def turn(self, held: bool, seconds: float, worth_it: Callable[[], bool]) -> bool:
        """Waits in line for room, at most so long. Returns whether there is some; false at once if the line is too long already, and as
        soon as it is not worth it any more.
        """
        if len(self._line) + 1 > self._most() * seconds / WINDOW:
            return False
        called, end = asyncio.Event(), self._clock() + seconds
        self._line.append(called)
        try:
            while not (self._line[0] is called and self.has_room(held)):
                left = end - self._clock()
                if left <= 0 or not worth_it():
                    return False
                called.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(left, POLL)):
                        await called.wait()
            return True
        finally:
            self._line.remove(called)
            self._call_next()

    def _most(self) -> float:
        """Attempts in a window that may follow first ones."""
        return max(self._minimum * WINDOW, self._ratio * self._requests.count(self._clock()))

    def _call_next(self) -> None:
        if self._line:
            self._line[0].set()


class Retries:
    """One request's share of the budget: its place is taken by its first retry, and held until it is done."""

    __slots__ = ("_budget", "_held")

    def __init__(self, budget: RetryBudget) -> None:
        self._budget = budget
        self._held = False

    def __enter__(self) -> Self:
        self._budget.begin()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._budget.active -= 1
        self.release()

    def acquire(self) -> bool:
        """Whether this request may make one more attempt now. Those who wait come first."""
        if self._budget.waiting or not self._budget.has_room(self._held):
            return False
        self._take()
        return True

    async def wait(self, seconds: float, worth_it: Callable[[], bool] = lambda: True) -> bool:
        """Whether this request may make one more attempt, now or within so many seconds. `worth_it`: asked now and then while it waits."""
        if self.acquire():
            return True
        if seconds <= 0 or not await self._budget.turn(self._held, seconds, worth_it):
            return False
        self._take()
        return True

    def release(self) -> None:
        if self._held:
            self._held = False
            self._budget.leave()

    def _take(self) -> None:
        self._budget.take(self._held)
        self._held = True


class Recent:
    """Counts what happened within the last `window` seconds, second by second."""

    __slots__ = ("_counts", "_newest", "_total")

    def __init__(self, window: int) -> None:
        self._counts = [0] * window
        self._newest = 0
        self._total = 0

    def add(self, now: float) -> None:
        if int(now) != self._newest:
            self._move(now)
        self._counts[self._newest % len(self._counts)] += 1
        self._total += 1

    def count(self, now: float) -> int:
        self._move(now)
        return self._total

    def _move(self, now: float) -> None:
        """Forgets the seconds that are over."""
        second = int(now)
        if second == self._newest:
            return
        size = len(self._counts)
        for old in range(max(self._newest + 1, second - size + 1), second + 1):
            self._total -= self._counts[old % size]
            self._counts[old % size] = 0
        self._newest = max(self._newest, second)

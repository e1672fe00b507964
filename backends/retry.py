"""When to try again, and how long to wait: pure rules, and a budget that keeps retries from making an outage worse."""

from __future__ import annotations

import email.utils
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

from msgspec import Struct

from backends.api import FailureKind

RETRYABLE_STATUS = frozenset({408, 429, 500, 502, 503, 504})
RETRY_AFTER_CAP = 5.0


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
    """Retries may run for a share of the active requests, and for `minimum` of them in any case. (Envoy's retry budget.)"""

    def __init__(self, ratio: float = 0.2, minimum: int = 3) -> None:
        self._ratio = ratio
        self._minimum = minimum
        self.active = 0
        self.retrying = 0

    @contextmanager
    def request(self) -> Iterator[Retries]:
        """Counts a request as active while it looks for an answer."""
        self.active += 1
        retries = Retries(self)
        try:
            yield retries
        finally:
            self.active -= 1
            retries.release()

    def has_room(self) -> bool:
        return self.retrying < max(self._minimum, int(self.active * self._ratio))


class Retries:
    """One request's place in the budget: taken by its first retry, held until it is done."""

    __slots__ = ("_budget", "_held")

    def __init__(self, budget: RetryBudget) -> None:
        self._budget = budget
        self._held = False

    def acquire(self) -> bool:
        """Whether this request may try again."""
        if not self._held and self._budget.has_room():
            self._held = True
            self._budget.retrying += 1
        return self._held

    def release(self) -> None:
        if self._held:
            self._held = False
            self._budget.retrying -= 1

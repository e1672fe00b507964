"""A circuit breaker: a plain state machine with an injected clock, one for each backend."""

from __future__ import annotations

import time
from collections.abc import Callable
from random import Random
from typing import Literal

State = Literal["closed", "half_open", "open"]
LEVEL: dict[State, int] = {"closed": 0, "half_open": 1, "open": 2}


class Breaker:
    """Closed until `failures` calls in a row have failed; then open for a pause that doubles each time (with jitter, at most `cap`
    seconds); then half-open: one call at a time probes, its success closes the breaker, its failure opens it again.
    """

    __slots__ = (
        "_cap",
        "_clock",
        "_first_pause",
        "_in_a_row",
        "_limit",
        "_openings",
        "_probing",
        "_rng",
        "retry_at",
        "since",
        "state",
    )

    def __init__(
        self,
        failures: int = 5,
        *,
        pause: float = 1.0,
        cap: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
        rng: Random | None = None,
    ) -> None:
        self._limit = failures
        self._first_pause = pause
        self._cap = cap
        self._clock = clock
        self._rng = rng or Random()
        self._in_a_row = 0
        self._openings = 0
        self._probing = False
        self.state: State = "closed"
        self.since = clock()
        self.retry_at = 0.0

    @property
    def level(self) -> int:
        """For the gauge: 0 closed, 1 half-open, 2 open."""
        return LEVEL[self.state]

    def allows(self) -> bool:
        """Whether a call may start now. Changes nothing."""
        if self.state == "closed":
            return True
        if self.state == "open":
            return self._clock() >= self.retry_at
        return not self._probing

    def started(self) -> None:
        """A call starts; in an open or half-open breaker it is the probe."""
        if self.state == "open":
            self._enter("half_open")
        if self.state == "half_open":
            self._probing = True

    def succeeded(self) -> None:
        self._in_a_row = 0
        self._probing = False
        if self.state != "closed":
            self._openings = 0
            self._enter("closed")

    def failed(self) -> None:
        self._in_a_row += 1
        self._probing = False
        if self.state == "half_open" or (self.state == "closed" and self._in_a_row >= self._limit):
            pause = min(self._cap, self._first_pause * float(2 ** min(self._openings, 10)))
            self.retry_at = self._clock() + pause * self._rng.uniform(0.8, 1.2)
            self._openings += 1
            self._enter("open")

    def abandoned(self) -> None:
        """A call ended in a way that says nothing of the backend: the probe, if it was one, is free again."""
        self._probing = False

    def _enter(self, state: State) -> None:
        self.state = state
        self.since = self._clock()

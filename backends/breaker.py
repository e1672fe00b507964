"""A circuit breaker: a plain state machine with an injected clock, one for each backend.

It is the one way out of service and the one way back. It opens by itself after some failures in a row; the pool's ejections
(`backends.ejection`) open it for longer. Either way its pause ends with one probe.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from random import Random
from typing import Literal

from backends.retry import RETRY_AFTER_CAP

State = Literal["closed", "half_open", "open"]
LEVEL: dict[State, int] = {"closed": 0, "half_open": 1, "open": 2}
EARLY_SECONDS = 0.2
"""Between two calls to a backend that is tried before its pause is over, since nobody else is left."""


class Breaker:
    """Closed until `failures` calls in a row have failed; then open for a pause that doubles each time (with jitter, at most `cap`
    seconds); then half-open: one call at a time probes, its success closes the breaker, its failure opens it again. A doubling is taken
    back for each `cap` seconds without an opening, so that a backend that flaps stays out for longer and longer.

    A call's `era` is what `started` returned. What calls tell that began before the last opening is old, and changes nothing: an answer
    that was under way when a backend broke down says nothing of it now. Without an era a call counts as a new one.

    `why`: of the last opening. `openings`: how many there were. `answered_at`: when a call was last answered, on the clock. `alarm`: told
    of each failure, so that whoever watches the backend may look at it at once.
    """

    __slots__ = (
        "_calls",
        "_cap",
        "_clock",
        "_era",
        "_failed_at",
        "_first_pause",
        "_limit",
        "_oldest_era",
        "_rests_until",
        "_rng",
        "_soonest",
        "_strikes",
        "alarm",
        "answered_at",
        "in_a_row",
        "openings",
        "retry_at",
        "since",
        "state",
        "why",
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
        self._strikes = 0
        self._era = 0
        self._oldest_era = 0
        self._calls = 0
        self._rests_until = 0.0
        self._failed_at = 0.0
        self.in_a_row = 0
        self.openings = 0
        self.state: State = "closed"
        self.since = clock()
        self.why = ""
        self.retry_at = 0.0
        self._soonest = 0.0
        self.answered_at: float | None = None
        self.alarm: Callable[[], None] | None = None

    @property
    def level(self) -> int:
        """For the gauge: 0 closed, 1 half-open, 2 open."""
        return LEVEL[self.state]

    @property
    def probing(self) -> bool:
        """Whether a call is under way that may close it."""
        return self.state != "closed" and self._calls > 0

    @property
    def rest_left(self) -> float:
        """Seconds for which the backend asked not to be called; 0 if it did not."""
        return max(0.0, self._rests_until - self._clock())

    def allows(self, in_panic: bool = False) -> bool:
        """Whether a call may start now. `in_panic`: only its own pause counts, and no ejection. Changes nothing."""
        if self._rests_until and self._clock() < self._rests_until:
            return False
        if self.state == "closed":
            return True
        return self._calls == 0 and (self.state == "half_open" or self._clock() >= (self._soonest if in_panic else self.retry_at))

    def may_be_tried(self) -> bool:
        """Whether a call may start although it is not over its pause, as nobody else is left: one at a time, and not again at once."""
        return self.state != "closed" and self._calls == 0 and self._clock() >= max(self._rests_until, self._failed_at + EARLY_SECONDS)

    def started(self) -> int:
        """A call starts; after the pause it is the probe. Returns its era."""
        if self.state == "closed":
            return self._era
        if self.state == "open" and self._clock() >= min(self._soonest, self.retry_at):
            self._enter("half_open")
        self._calls += 1
        return self._era

    def answered(self, era: int | None = None) -> None:
        """A call has brought its first bytes: a probe need not last as long as its answer. A failure amid it would open it again."""
        self.answered_at = self._clock()
        if self.state != "closed" and self._is_new(era):
            self.in_a_row = self._limit - 1
            self._enter("closed")

    def succeeded(self, era: int | None = None) -> bool:
        """A call went well. Returns whether that tells something."""
        self.answered_at = self._clock()
        if not self._is_new(era):
            return False
        self.in_a_row = 0
        if self.state != "closed":
            self._enter("closed")
        return True

    def failed(self, era: int | None = None, why: str = "") -> bool:
        """A call failed, and the backend is to blame. Returns whether that tells something new."""
        if self.alarm is not None:
            self.alarm()
        if not self._is_new(era):
            return False
        self._end_call()
        self._failed_at = self._clock()
        self.in_a_row += 1
        if self.state == "half_open" or (self.state == "closed" and self.in_a_row >= self._limit):
            what = "the probe failed: " if self.state == "half_open" else f"{self.in_a_row} failures in a row, the last: "
            self._shut(what + why)
        return True

    def abandoned(self, era: int | None = None) -> None:
        """A call ended in a way that says nothing of the backend: the probe, if it was one, is free again."""
        if self._is_new(era):
            self._end_call()
            if self.state == "half_open" and self._clock() < self.retry_at:
                self.state = "open"  # it was a probe in panic, and the ejection goes on

    def open(self, seconds: float, why: str) -> None:
        """No call for so long, then a probe. Of one that is open already, only the pause changes."""
        if self.state != "open":
            self._shut(why)
        self.retry_at = self._clock() + seconds
        self.why = why

    def look_again(self) -> None:
        """Something else says that the backend is well again: its pause ends now."""
        if self.state == "open":
            self.retry_at = self._soonest = self._clock()

    def rest(self, seconds: float) -> None:
        """The backend asks for no call for so long (`Retry-After`); it is heard up to RETRY_AFTER_CAP."""
        self._rests_until = max(self._rests_until, self._clock() + min(seconds, RETRY_AFTER_CAP))

    def _shut(self, why: str) -> None:
        strikes = min(20, self._strikes_left())
        pause = min(self._cap, self._first_pause * 2.0**strikes) * self._rng.uniform(0.8, 1.2)
        self.retry_at = self._soonest = self._clock() + pause
        self.why = why
        self.openings += 1
        self._enter("open")
        self._strikes = strikes + 1
        self._oldest_era = self._era

    def _is_new(self, era: int | None) -> bool:
        return era is None or era >= self._oldest_era

    def _end_call(self) -> None:
        if self.state != "closed":
            self._calls = max(0, self._calls - 1)

    def _strikes_left(self) -> int:
        forgiven = int((self._clock() - self.since) / self._cap) if self.state == "closed" else 0
        return max(0, self._strikes - forgiven)

    def _enter(self, state: State) -> None:
        self._strikes = self._strikes_left()
        self._era += 1
        if state != "half_open":
            self._calls = 0
        self.state = state
        self.since = self._clock()

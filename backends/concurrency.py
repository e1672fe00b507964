"""How many calls one backend gets at a time: a fixed number, or one that follows how fast its first tokens come.

The adaptive limit follows Gradient2 of Netflix's concurrency-limits, with three changes that a model server asks for:

- What is measured is the time to the first token. The time of a whole answer says how long the answer is; the first token waits for a
  place in the server's batch, and that wait is what too many calls make longer.
- The long-term time rises only where the limit cannot be the cause: while it holds nobody back, and at its minimum. An average that
  always follows takes a queue that lasts for the normal state after some minutes, and the limit climbs on it without end.
- After each step only calls that started since then count: an answer to the old limit says nothing of the new one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Protocol

SAMPLES = (3, 10)
MIN_SECONDS = 0.25
DROP = 0.8
_FLOOR = 0.5
_FASTER = 0.2
_SLOWER = 1 / 40
_AT_MINIMUM = 0.5


class Limit(Protocol):
    """How many calls a backend may have in flight. One for each backend."""

    @property
    def limit(self) -> float | None:
        """For the gauge; None: unlimited."""
        ...

    def has_room(self, inflight: int) -> bool:
        """Whether a backend with so many calls in flight may take one more."""
        ...

    def finished(self, seconds: float | None, inflight: int, dropped: bool) -> None:
        """A call's first token is there, or it came to nothing. Tell it at once, not when the answer is complete.

        `seconds`: from the call's start to its first token; None where it is unknown, as in answers that come whole. `inflight`: calls in
        flight, this one included. `dropped`: the backend refused it for its load (429, 503), or a timeout ended it.
        """
        ...


class StaticLimit:
    """So many, whatever happens. None: unlimited."""

    __slots__ = ("_calls",)

    def __init__(self, calls: int | None = None) -> None:
        self._calls = calls

    @property
    def limit(self) -> float | None:
        return self._calls

    def has_room(self, inflight: int) -> bool:
        return self._calls is None or inflight < self._calls

    def finished(self, seconds: float | None, inflight: int, dropped: bool) -> None:
        """Nothing is learned."""


class GradientLimit:
    """Between `minimum` and `maximum`, from `initial` on.

    The limit falls when first tokens take more than `tolerance` times their long-term time (by up to 40 % a step when they take more than
    twice that), and by a fifth when the backend drops a call. It grows by up to `smoothing` times its square root a step, but only where at
    least half of it is used. A step takes MIN_SECONDS and SAMPLES calls at least, fewer at a small limit. `clock`: monotonic seconds.
    """

    def __init__(
        self,
        initial: int = 32,
        minimum: int = 4,
        maximum: int = 1024,
        *,
        tolerance: float = 2.0,
        smoothing: float = 0.25,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._minimum = minimum
        self._maximum = maximum
        self._tolerance = tolerance
        self._smoothing = smoothing
        self._clock = clock
        self._limit = float(min(maximum, max(minimum, initial)))
        self._long: float | None = None
        self._since = clock()
        self._peak = 0
        self._total = 0.0
        self._count = 0

    @property
    def limit(self) -> float | None:
        return self._limit

    @property
    def usual_seconds(self) -> float | None:
        """The long-term time to the first token; None before the first step."""
        return self._long

    def has_room(self, inflight: int) -> bool:
        return inflight < int(self._limit)

    def finished(self, seconds: float | None, inflight: int, dropped: bool) -> None:
        now = self._clock()
        self._peak = max(self._peak, inflight)
        if dropped:
            self._drop(now)
        elif seconds is not None and now - seconds >= self._since:
            self._total += seconds
            self._count += 1
            if self._count >= min(SAMPLES[1], max(SAMPLES[0], self._limit / 2)) and now - self._since >= MIN_SECONDS:
                self._step(self._total / self._count)
                self._start_step(now)

    def _start_step(self, now: float) -> None:
        self._since = now
        self._peak = 0
        self._total = 0.0
        self._count = 0

    def _drop(self, now: float) -> None:
        """Once for all calls that are dropped together."""
        if now - self._since >= MIN_SECONDS:
            self._set(self._limit * DROP)
            self._start_step(now)

    def _step(self, short: float) -> None:
        self._learn(short)
        if self._peak * 2 < self._limit:
            return
        gradient = 1.0 if short <= 0 else min(1.0, self._tolerance * (self._long or short) / short)
        smoothing = self._smoothing if gradient > _FLOOR else 2 * self._smoothing
        target = self._limit * max(_FLOOR, gradient) + math.sqrt(self._limit)
        self._set(self._limit + smoothing * (target - self._limit))

    def _learn(self, short: float) -> None:
        if self._long is None:
            self._long = short
            return
        held_back = self._peak >= int(self._limit)
        at_minimum = int(self._limit) <= self._minimum
        share = _FASTER if short < self._long else _AT_MINIMUM if at_minimum else 0.0 if held_back else _SLOWER
        self._long += share * (short - self._long)

    def _set(self, limit: float) -> None:
        self._limit = min(float(self._maximum), max(float(self._minimum), limit))

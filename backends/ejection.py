"""Passive outlier detection, after Envoy's: a backend that does worse than it may is taken out of its pool for a while.

What it does, and what the breaker does: the pool's `Ejections` judge, and the backend's breaker carries it out; so there is one state for
each backend and one way back, the probe. A breaker opens by itself after failures in a row, for a second or some, whatever the others do:
that keeps calls from where they fail. An ejection is for longer and grows each time, and it is a judgement among peers: at most a share of
the pool is out, and when so much of the pool is unwell that the fault is likely elsewhere, ejections are ignored (panic).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from backends.breaker import Breaker
from backends.retry import Outcome

SLICES = 6
"""Parts of the window: so often a success rate is looked at, and so finely its oldest calls are forgotten."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """`failures`, `unreachable`: so many in a row, of any kind, or such as say that nobody is there. 0 turns one off.

    `seconds`: an ejection's time is this times their number, at most `cap`; one is taken back for each `seconds` in service. `share`: of
    the pool that may be out at a time; one may always, if there is another. `panic`: below this share of the pool in service ejections
    are ignored. Success rates: within `window` seconds, of backends with at least `volume` calls, if there are `hosts` of these; out is
    who is `factor` standard deviations below the mean of the others.
    """

    failures: int = 5
    unreachable: int = 3
    seconds: float = 30.0
    cap: float = 300.0
    share: float = 0.1
    panic: float = 0.5
    window: float = 60.0
    volume: int = 20
    hosts: int = 2
    factor: float = 1.9


LEAST_DEVIATION = 0.1
"""Where all others do equally well, chance alone puts a backend some deviations below them: theirs counts as this at least."""


class Ejection:
    """One backend's standing among its peers. `number`: how often it was ejected, less what was taken back. `total`: without that."""

    __slots__ = ("_back_at", "_breaker", "_pool", "_told", "_unreachable", "_until", "_window", "ejected", "number", "total")

    def __init__(self, pool: Ejections, breaker: Breaker, window: Window, told: Callable[[], None]) -> None:
        self._pool = pool
        self._told = told
        self._breaker = breaker
        self._window = window
        self._unreachable = 0
        self._back_at = pool.now()
        self._until = 0.0
        self.ejected = False
        self.number = 0
        self.total = 0

    def answered(self, era: int | None = None) -> None:
        """A call has brought its first bytes. `era`: what the breaker's `started` returned."""
        self._breaker.answered(era)
        if self.ejected:
            self._settle()

    def finished(self, outcome: Outcome, era: int | None = None) -> None:
        """A call is over. Tells the breaker too."""
        if outcome.succeeded:
            if self._breaker.succeeded(era):
                self._unreachable = 0
                self._pool.look(self._count(True))
        elif outcome.failed:
            probing = self._breaker.state == "half_open"
            if self._breaker.failed(era, outcome.text):
                now = self._count(False)
                self._unreachable = self._unreachable + 1 if outcome.unreachable else 0
                self._judge(outcome, probing, now)
                self._pool.look(now)
        else:
            self._breaker.abandoned(era)

    def offend(self, reason: str) -> bool:
        """It has earned an ejection, and gets it if the pool has room for one more. Returns whether it is out now."""
        if not self.ejected and self._pool.has_room():
            self._eject(reason)
        return self.ejected

    def rate(self, now: float) -> tuple[int, int]:
        """Calls that went well within the window, and all that tell something."""
        return self._window.count(now)

    def _settle(self) -> None:
        if self.ejected and self._breaker.state == "closed":
            self.ejected = False
            self._back_at = self._pool.now()
            self._unreachable = 0
            self._window.clear()

    def _count(self, good: bool) -> float:
        """Adds a call to the window, and returns the time."""
        if self.ejected:
            self._settle()
        now = self._pool.now()
        self._window.add(good, now)
        return now

    def _judge(self, outcome: Outcome, probing: bool, now: float) -> None:
        """What a failure leads to."""
        if self.ejected and probing and self._breaker.state == "open":
            self._go_on(now)
        elif (reason := self._too_many(outcome)) is not None:
            self.offend(reason)

    def _too_many(self, outcome: Outcome) -> str | None:
        bounds, in_a_row = self._pool.bounds, self._breaker.in_a_row
        if bounds.failures and in_a_row >= bounds.failures:
            return f"{in_a_row} failures in a row, the last: {outcome.text}"
        if bounds.unreachable and self._unreachable >= bounds.unreachable:
            return f"out of reach {self._unreachable} times in a row, the last: {outcome.text}"
        return None

    def _go_on(self, now: float) -> None:
        """Its probe failed. One that was called before its time, in panic, has not become worse for that."""
        if now >= self._until:
            self._eject(self._breaker.why)
        elif self._until > self._breaker.retry_at:
            self._breaker.open(self._until - now, self._breaker.why)

    def _eject(self, reason: str) -> None:
        bounds = self._pool.bounds
        if not self.ejected:
            self.number = max(0, self.number - int((self._pool.now() - self._back_at) / bounds.seconds))
        self.number += 1
        self.total += 1
        self.ejected = True
        self._unreachable = 0
        self._breaker.open(self._pool.pause(self.number), reason)
        self._until = self._breaker.retry_at
        self._told()


class Ejections:
    """The ejections of one pool. `clock`: monotonic seconds, that of the breakers."""

    def __init__(self, bounds: Bounds | None = None, *, clock: Callable[[], float] = time.monotonic, rng: Random | None = None) -> None:
        self.bounds = bounds or Bounds()
        self.now = clock
        self._rng = rng or Random()
        self._members: list[Ejection] = []
        self._looked = clock()

    def join(self, breaker: Breaker, told: Callable[[], None] = lambda: None) -> Ejection:
        """A backend joins the pool. `told`: called each time that it is ejected."""
        member = Ejection(self, breaker, Window(self.bounds.window), told)
        self._members.append(member)
        return member

    def follow(self, members: Sequence[Ejection]) -> None:
        """The pool has these members now, all of whom have joined once; others count no more."""
        self._members = list(members)

    @property
    def most(self) -> int:
        """How many may be out at a time. A backend alone is never out: there is nobody else, and its breaker looks after it."""
        size = len(self._members)
        return 0 if size < 2 else max(1, int(size * self.bounds.share))

    @property
    def count(self) -> int:
        """How many are out now."""
        return sum(member.ejected for member in self._members)

    def has_room(self) -> bool:
        """Whether one more may go out."""
        return self.count < self.most

    def panics(self, in_service: int) -> bool:
        """Whether ejections are to be ignored, when so many of the pool are in service: up, and with a closed breaker.

        What is left of an ejection then is the breaker's own pause, and its probe (`Breaker.allows(in_panic=True)`): an outlier that is
        well comes back with its first answer, and one that is not takes no share of the calls with it.
        """
        return in_service < self.bounds.panic * len(self._members)

    def pause(self, number: int) -> float:
        """Seconds of an ejection, by its number (1, 2, …): a little longer than asked for, so that not all come back together."""
        return min(self.bounds.cap, self.bounds.seconds * number) * self._rng.uniform(1.0, 1.1)

    def look(self, now: float) -> None:
        """Compares success rates, if it is time to."""
        if now - self._looked < self.bounds.window / SLICES:
            return
        self._looked = now
        for member, reason in self._outliers(now):
            member.offend(reason)

    def _outliers(self, now: float) -> list[tuple[Ejection, str]]:
        """Those whose success rate is too low, the worst first.

        A suspect's own rate is left out of the mean and the deviation that it is held against. With it, as Envoy reckons, one of n can be
        at most sqrt(n - 1) deviations off, so that among fewer than five nobody is ever an outlier; and pools of model servers are small.
        """
        counted = [(member, *member.rate(now)) for member in self._members if not member.ejected]
        rates = [(good / total, member) for member, good, total in counted if total >= self.bounds.volume]
        if len(rates) < max(2, self.bounds.hosts):
            return []
        found = []
        for rate, member in sorted(rates, key=lambda one: one[0]):
            others = [other for other, whose in rates if whose is not member]
            mean = sum(others) / len(others)
            deviation = math.sqrt(sum((other - mean) ** 2 for other in others) / len(others))
            if rate < mean - self.bounds.factor * max(deviation, LEAST_DEVIATION):
                found.append((member, f"success rate {rate:.0%} where the others have {mean:.0%}"))
        return found


class Window:
    """Good and all calls of the last `seconds`, in SLICES parts."""

    __slots__ = ("_all", "_good", "_newest", "_seconds")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds / SLICES
        self._newest = 0
        self._good = [0] * SLICES
        self._all = [0] * SLICES

    def add(self, good: bool, now: float) -> None:
        place = self._move(now)
        self._good[place] += good
        self._all[place] += 1

    def count(self, now: float) -> tuple[int, int]:
        """Good ones, all."""
        self._move(now)
        return sum(self._good), sum(self._all)

    def clear(self) -> None:
        self._good = [0] * SLICES
        self._all = [0] * SLICES

    def _move(self, now: float) -> int:
        newest = int(now / self._seconds)
        if newest == self._newest:
            return newest % SLICES
        for old in range(max(self._newest + 1, newest - SLICES + 1), newest + 1):
            self._good[old % SLICES] = self._all[old % SLICES] = 0
        self._newest = max(self._newest, newest)
        return self._newest % SLICES

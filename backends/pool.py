"""The backends of one model, and which of them takes the next call."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from random import Random
from typing import Literal, Protocol
from urllib.parse import urlsplit

from backends.api import Header, Transport
from backends.breaker import Breaker
from backends.retry import Outcome
from backends.work import NOTHING, Work

Health = Literal["unknown", "up", "loading", "down"]


class Limit(Protocol):
    """How many calls a backend may have in flight."""

    def has_room(self, inflight: int) -> bool: ...

    def finished(self, seconds: float, inflight: int, dropped: bool) -> None:
        """A call's first byte came after `seconds`; or it was `dropped`: refused for load, or timed out."""


class Backend:
    """One endpoint that serves a model. `name`: host and port, for metrics and logs. `headers`: sent with each call to it.

    `health`: set by the health checker; `unknown` until its first verdict, and usable, so that a start is no gap in the service. `why` and
    `since` (on the clock) tell of it. `inflight_tokens`: of the prompts of the calls in flight. `freed`: told whenever a call may start.
    """

    __slots__ = (
        "breaker",
        "freed",
        "headers",
        "health",
        "inflight",
        "inflight_tokens",
        "limit",
        "model",
        "name",
        "served_as",
        "since",
        "transport",
        "url",
        "why",
    )

    def __init__(
        self,
        model: str,
        url: str,
        served_as: str,
        transport: Transport,
        breaker: Breaker,
        headers: Sequence[Header] = (),
        limit: Limit | None = None,
    ) -> None:
        self.model = model
        self.url = url
        self.name = urlsplit(url).netloc
        self.served_as = served_as
        self.transport = transport
        self.breaker = breaker
        self.headers = tuple(headers)
        self.limit = limit
        self.freed: Callable[[], None] | None = None
        self.health: Health = "unknown"
        self.why = ""
        self.since = time.monotonic()
        self.inflight = 0
        self.inflight_tokens = 0

    def usable(self) -> bool:
        """Whether it is well enough for a call."""
        return self.health in ("up", "unknown") and self.breaker.allows()

    def has_room(self) -> bool:
        """Whether one more call is within its limit."""
        return self.limit is None or self.limit.has_room(self.inflight)

    def started(self, work: Work = NOTHING) -> None:
        """A call starts. `finished` must follow."""
        self.inflight += 1
        self.inflight_tokens += work.tokens
        self.breaker.started()

    def answered(self, seconds: float, outcome: Outcome) -> None:
        """A call brought its first byte, or failed, so long after its start."""
        if self.limit is not None and not outcome.cancelled:
            self.limit.finished(seconds, self.inflight, _is_overload(outcome))

    def finished(self, outcome: Outcome, work: Work = NOTHING) -> None:
        """The call is over, in whatever way."""
        self.inflight -= 1
        self.inflight_tokens -= work.tokens
        if outcome.failed:
            self.breaker.failed()
        elif outcome.cancelled or outcome.kind is not None:
            self.breaker.abandoned()
        else:
            self.breaker.succeeded()
        self.notify()

    def notify(self) -> None:
        """Tells whoever waits that a call may be possible now."""
        if self.freed is not None:
            self.freed()


def _is_overload(outcome: Outcome) -> bool:
    return outcome.status in (429, 503) or (outcome.kind is not None and outcome.kind.endswith("timeout"))


class Chooser(Protocol):
    """Picks one of several backends, all of which can take the call."""

    def choose(self, work: Work, backends: Sequence[Backend]) -> Backend: ...


class TwoChoices:
    """Power of two choices: of two backends drawn at random, the one with fewer calls in flight."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng

    def choose(self, work: Work, backends: Sequence[Backend]) -> Backend:
        first, second = self._rng.sample(backends, 2)
        return first if first.inflight <= second.inflight else second


class Pool:
    """The backends of one model. `waits_for_loading`: a call may wait while the only backends are loading."""

    __slots__ = ("_chooser", "backends", "waits_for_loading")

    def __init__(self, backends: Sequence[Backend], chooser: Chooser, waits_for_loading: bool = False) -> None:
        self.backends = tuple(backends)
        self.waits_for_loading = waits_for_loading
        self._chooser = chooser

    def replace(self, backends: Sequence[Backend]) -> None:
        """Other members. Whoever has left gets no new call; its calls in flight go on."""
        self.backends = tuple(backends)
        for backend in self.backends:
            backend.notify()

    def pick(self, work: Work = NOTHING, excluded: Collection[Backend] = ()) -> Backend | None:
        """The backend for the next call, or None if no usable one with room is left.

        When every backend of the model has an open breaker, the one whose pause ends first is tried all the same: a pool that
        refuses itself while nothing else says that it is down would turn a hiccup into an outage.
        """
        free = [backend for backend in self.backends if backend not in excluded and backend.usable() and backend.has_room()]
        if len(free) > 1:
            return self._chooser.choose(work, free)
        if free:
            return free[0]
        return self._least_bad(excluded)

    def _least_bad(self, excluded: Collection[Backend]) -> Backend | None:
        if any(backend.usable() for backend in self.backends):
            return None
        ejected = [
            b for b in self.backends if b not in excluded and b.health in ("up", "unknown") and b.breaker.state == "open" and b.has_room()
        ]
        return min(ejected, key=lambda backend: backend.breaker.retry_at, default=None)

    def may_wait(self, excluded: Collection[Backend] = ()) -> bool:
        """Whether a backend that cannot take a call now can probably do so soon: it is full, or it is loading."""
        return any(
            (backend.usable() and not backend.has_room()) or (self.waits_for_loading and backend.health == "loading")
            for backend in self.backends
            if backend not in excluded
        )

    def usable(self) -> bool:
        """Whether some backend can take a call, now or after a wait."""
        return any(backend.usable() for backend in self.backends) or self._least_bad(()) is not None or self.may_wait()

    def load(self) -> float | None:
        """Calls in flight for each usable backend; None if there is none."""
        usable = [backend.inflight for backend in self.backends if backend.usable()]
        return sum(usable) / len(usable) if usable else None

"""The backends of one model, and which of them takes the next call."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from random import Random
from typing import Literal
from urllib.parse import urlsplit

from backends.api import Header, Transport
from backends.breaker import Breaker
from backends.retry import Outcome

Health = Literal["unknown", "up", "loading", "down"]


class Backend:
    """One endpoint that serves a model. `name`: host and port, for metrics and logs. `headers`: sent with each call to it.

    `health`: set by the health checker; `unknown` until its first verdict, and usable, so that a start is no gap in the service.
    """

    __slots__ = ("breaker", "headers", "health", "inflight", "model", "name", "served_as", "transport", "url", "why")

    def __init__(
        self, model: str, url: str, served_as: str, transport: Transport, breaker: Breaker, headers: Sequence[Header] = ()
    ) -> None:
        self.model = model
        self.url = url
        self.name = urlsplit(url).netloc
        self.served_as = served_as
        self.transport = transport
        self.breaker = breaker
        self.headers = tuple(headers)
        self.health: Health = "unknown"
        self.why = ""
        self.inflight = 0

    def usable(self) -> bool:
        return self.health in ("up", "unknown") and self.breaker.allows()

    def started(self) -> None:
        """A call starts. `finished` must follow."""
        self.inflight += 1
        self.breaker.started()

    def finished(self, outcome: Outcome) -> None:
        """The call is over, in whatever way."""
        self.inflight -= 1
        if outcome.failed:
            self.breaker.failed()
        elif outcome.cancelled or outcome.kind is not None:
            self.breaker.abandoned()
        else:
            self.breaker.succeeded()


class Pool:
    """Picks by power of two choices: of two usable backends drawn at random, the one with fewer calls in flight."""

    __slots__ = ("_rng", "backends")

    def __init__(self, backends: Sequence[Backend], rng: Random) -> None:
        self.backends = tuple(backends)
        self._rng = rng

    def pick(self, excluded: Collection[Backend] = ()) -> Backend | None:
        """The backend for the next call, or None if no usable one is left.

        When every backend of the model has an open breaker, the one whose pause ends first is tried all the same: a pool that
        refuses itself while nothing else says that it is down would turn a hiccup into an outage.
        """
        usable = [backend for backend in self.backends if backend not in excluded and backend.usable()]
        if len(usable) > 1:
            first, second = self._rng.sample(usable, 2)
            return first if first.inflight <= second.inflight else second
        if usable:
            return usable[0]
        return self._least_bad(excluded)

    def _least_bad(self, excluded: Collection[Backend]) -> Backend | None:
        if any(backend.usable() for backend in self.backends):
            return None
        ejected = [b for b in self.backends if b not in excluded and b.health in ("up", "unknown") and b.breaker.state == "open"]
        return min(ejected, key=lambda backend: backend.breaker.retry_at, default=None)

    def usable(self) -> bool:
        """Whether some backend can take a call."""
        return any(backend.usable() for backend in self.backends) or self._least_bad(()) is not None

    def load(self) -> float | None:
        """Calls in flight for each usable backend; None if there is none."""
        usable = [backend.inflight for backend in self.backends if backend.usable()]
        return sum(usable) / len(usable) if usable else None

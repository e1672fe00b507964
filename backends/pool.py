"""The backends of one model, and which of them takes the next call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from typing import Literal, Protocol
from urllib.parse import urlsplit

from backends.api import Header, Transport
from backends.breaker import EARLY_SECONDS, Breaker
from backends.chooser import Chooser
from backends.concurrency import Limit
from backends.ejection import Ejection, Ejections
from backends.load import Load
from backends.retry import Outcome
from backends.work import NOTHING, Work

TICK = 0.005
"""Timers may fire so many seconds early."""

Health = Literal["unknown", "up", "loading", "down"]


class Checks(Protocol):
    """Who checks a backend's health."""

    next_at: float
    """When it is looked at next, on the clock."""


class Residence(Protocol):
    """One of the models that share GPUs and take turns on them. (`backends.residency`.)"""

    def arrived(self) -> None:
        """A request looks for a place; `left` must follow."""

    def left(self) -> None: ...

    def started(self) -> None:
        """A call starts; `finished` must follow."""

    def finished(self) -> None: ...

    def serves(self) -> bool:
        """Whether it is awake."""

    def may_wait(self) -> bool:
        """Whether it is not, and will probably be if a request waits for it."""

    def wake_seconds(self) -> float:
        """Until it can serve; infinity if nobody knows."""


class Backend:
    """One endpoint that serves a model. `name`: host and port, for metrics and logs. `headers`: sent with each call to it.

    `standing`: among the pool's other backends; alone if none is given. `health`: set by the health checker; `unknown` until its first
    verdict, and usable, so that a start is no gap in the service. `why` and `since` (on the clock) tell of it. `inflight_tokens`: of the
    prompts of the calls in flight. `load`: of its server. `checks`: who watches its health. `residence`:
    of its model, None if that takes no turns. `freed`: told whenever a call may start.
    """

    __slots__ = (
        "breaker",
        "checks",
        "freed",
        "headers",
        "health",
        "inflight",
        "inflight_tokens",
        "limit",
        "load",
        "model",
        "name",
        "residence",
        "served_as",
        "since",
        "standing",
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
        standing: Ejection | None = None,
        load: Load | None = None,
    ) -> None:
        self.model = model
        self.url = url
        self.name = urlsplit(url).netloc
        self.served_as = served_as
        self.transport = transport
        self.breaker = breaker
        self.headers = tuple(headers)
        self.limit = limit
        self.standing = standing or Ejections().join(breaker)
        self.load = load or Load()
        self.checks: Checks | None = None
        self.residence: Residence | None = None
        self.freed: Callable[[], None] | None = None
        self.health: Health = "unknown"
        self.why = ""
        self.since = time.monotonic()
        self.inflight = 0
        self.inflight_tokens = 0

    def usable(self) -> bool:
        """Whether it is well enough for a call."""
        return self.is_well() and self.breaker.allows()

    def is_well(self) -> bool:
        """Whether its health checks have nothing against it."""
        return self.health in ("up", "unknown")

    def has_room(self) -> bool:
        """Whether one more call is within its limit."""
        return self.limit is None or self.limit.has_room(self.inflight)

    def started(self, work: Work = NOTHING) -> int:
        """A call starts; `finished` must follow. Returns the breaker's era, in which it started."""
        self.inflight += 1
        self.load.started()
        if self.residence is not None:
            self.residence.started()
        self.inflight_tokens += work.tokens
        return self.breaker.started()

    def answered(self, seconds: float | None, outcome: Outcome, era: int | None = None) -> bool:
        """A call brought its first token so long after its start (None: its whole answer), or it failed. Returns whether it went well."""
        well = outcome.succeeded
        if well:
            was_out = self.breaker.state != "closed"
            self.standing.answered(era)
            if was_out:
                self.notify()
        if self.limit is not None and not outcome.cancelled:
            self.limit.finished(seconds if well else None, self.inflight, _is_overload(outcome))
        return well

    def finished(self, outcome: Outcome, work: Work = NOTHING, era: int | None = None) -> None:
        """The call is over, in whatever way."""
        self.inflight -= 1
        self.load.finished()
        if self.residence is not None:
            self.residence.finished()
        self.inflight_tokens -= work.tokens
        self.standing.finished(outcome, era)
        self.notify()
        if self.breaker.state != "closed" and self.freed is not None and outcome.failed:
            asyncio.get_running_loop().call_later(EARLY_SECONDS + TICK, self.notify)

    def rest(self, seconds: float) -> None:
        """It asks for no call for so long."""
        self.breaker.rest(seconds)
        asyncio.get_running_loop().call_later(self.breaker.rest_left + TICK, self.notify)

    def notify(self) -> None:
        """Tells whoever waits that a call may be possible now."""
        if self.freed is not None:
            self.freed()


def _is_overload(outcome: Outcome) -> bool:
    return outcome.status in (429, 503) or (outcome.kind is not None and outcome.kind.endswith("timeout"))


class Pool:
    """The backends of one model. `ejections`: of its backends. `residence`: None if the model takes no turns with others.

    `waits_for_loading`: a call may wait while the only backends are loading.
    """

    __slots__ = ("_chooser", "_freed", "backends", "ejections", "residence", "waits_for_loading")

    def __init__(
        self, backends: Sequence[Backend], chooser: Chooser, ejections: Ejections | None = None, waits_for_loading: bool = False
    ) -> None:
        self.backends = tuple(backends)
        self.ejections = ejections or Ejections()
        self.waits_for_loading = waits_for_loading
        self._chooser = chooser
        self._freed: Callable[[], None] | None = None
        self.residence: Residence | None = None
        self.ejections.follow([backend.standing for backend in self.backends])

    def take_turns(self, residence: Residence | None) -> None:
        """The model is one of those that share GPUs; None: it is not. A new residence hears of the calls that are under way."""
        if residence is self.residence:
            return
        self.residence = residence
        for backend in self.backends:
            backend.residence = residence
            if residence is not None:
                for _ in range(backend.inflight):
                    residence.started()

    @property
    def remembered(self) -> int:
        """Entries in the memory of whoever chooses among its backends."""
        return self._chooser.remembered

    def tell(self, freed: Callable[[], None]) -> None:
        """`freed` is called from now on whenever a call may have become possible."""
        self._freed = freed
        for backend in self.backends:
            backend.freed = freed

    def replace(self, backends: Sequence[Backend]) -> None:
        """Other members. Whoever has left gets no new call; its calls in flight go on."""
        self.backends = tuple(backends)
        self.ejections.follow([backend.standing for backend in self.backends])
        for backend in self.backends:
            backend.freed = self._freed
        if self._freed is not None:
            self._freed()

    def pick(self, work: Work = NOTHING, excluded: Collection[Backend] = ()) -> Backend | None:
        """The backend for the next call, or None if none that is in service has room."""
        if self._sleeps():
            return None
        if len(self.backends) == 1 and (only := self.backends[0]).usable():
            return only if only not in excluded and only.has_room() else None
        free = [backend for backend in self._in_service() if backend not in excluded and backend.has_room()]
        if not free:
            return None
        return free[0] if len(self.backends) == 1 else self._chooser.choose(work, free)

    def least_bad(self, excluded: Collection[Backend] = ()) -> Backend | None:
        """Whom to ask when nobody of any model is in service: to refuse all, while nothing else says that the backends are down, would turn
        a hiccup into an outage. Of those who may well be alive the one whose pause ends first; each is asked by one call at a time.
        """
        if self._sleeps():
            return None
        out = [b for b in self.backends if b not in excluded and b.is_well() and b.breaker.may_be_tried() and b.has_room()]
        return min(out, key=lambda backend: backend.breaker.retry_at, default=None)

    def in_service(self) -> bool:
        """Whether some backend takes a call, if it is not full: as one among many, or as a probe."""
        return self.serves() or bool(self._in_service())

    def serves(self, excluded: Collection[Backend] = ()) -> bool:
        """Whether a backend is worth waiting for: well, if full or at rest, to be woken, or loading where calls wait for that."""
        if self.residence is not None and not self.residence.serves():
            return self.residence.may_wait()
        for backend in self.backends:  # the first one mostly: half the time of `any`
            if backend not in excluded:
                if backend.breaker.state == "closed" and backend.is_well():
                    return True
                if self.waits_for_loading and backend.health == "loading":
                    return True
        return False

    def _sleeps(self) -> bool:
        return self.residence is not None and not self.residence.serves()

    def _in_service(self) -> list[Backend]:
        """With most of the pool out of service the fault is likely elsewhere, and ejections are ignored (panic)."""
        usable = [backend for backend in self.backends if backend.usable()]
        if len(usable) < len(self.backends) and self.ejections.panics(len(usable)):
            ejected = [b for b in self.backends if b.standing.ejected and b not in usable]
            usable += [b for b in ejected if b.is_well() and b.breaker.allows(in_panic=True)]
        return usable

    def may_wait(self, excluded: Collection[Backend] = ()) -> bool:
        """Whether a backend can probably take a call soon, or now, as a pause may have ended since the last look.

        It is full, it asked for a pause, a call finds out whether it is well again, it is loading, or its model is to be woken.
        """
        if self.residence is not None and not self.residence.serves():
            return self.residence.may_wait()
        return any(
            backend.usable()
            or (backend.is_well() and (backend.breaker.rest_left > 0 or backend.breaker.state != "closed"))
            or (self.waits_for_loading and backend.health == "loading")
            for backend in self.backends
            if backend not in excluded
        )

    def usable(self) -> bool:
        """Whether some backend may answer a call, now or after a wait, be it the least bad."""
        if self.residence is not None and self.residence.may_wait():
            return True
        return bool(self._in_service()) or any(b.is_well() and b.breaker.state != "closed" for b in self.backends) or self.may_wait()

    def load(self) -> float | None:
        """Calls in flight for each usable backend; None if there is none."""
        usable = [backend.inflight for backend in self.backends if backend.usable()]
        return sum(usable) / len(usable) if usable else None

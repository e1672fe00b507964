"""Watches backends: do they live, and do they list the model that they should serve?"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from random import Random

import msgspec
from msgspec import Struct

from backends.api import BackendError, Call, TimedOut, Timeouts
from backends.ejection import Ejection
from backends.pool import Backend, Health

MAX_BODY_BYTES = 4_000_000
PATIENCE = 3
"""Checks in a row that a server which was up may leave unanswered in time: a busy one is slow to answer, and is not down for that."""

SOON_SECONDS = 1.0
"""Between two checks, at most, while a backend is not up; and between a check and one that a failed call asks for."""

_log = logging.getLogger("pointsman.backends")


class _Model(Struct):
    id: str = ""


class _Models(Struct):
    data: list[_Model] = []


_MODELS = msgspec.json.Decoder(_Models)


def judge(health_status: int | None, models_status: int | None, models: bytes, served_as: str) -> tuple[Health, str]:
    """The state of a backend and why, from its answers to `GET /health` and `GET /v1/models` (None: no answer).

    A server without /health (404) counts by its models alone, since not every OpenAI-style server has one. A server that lives but
    does not list the model yet is loading.
    """
    if health_status is None or models_status is None:
        return "down", "no answer"
    if health_status not in (200, 404):
        return "down", f"/health says {health_status}"
    if models_status != 200:
        return ("loading" if health_status == 200 else "down"), f"/models says {models_status}"
    try:
        listed = [model.id for model in _MODELS.decode(models).data]
    except msgspec.DecodeError:
        return "down", "/models is no list of models"
    return ("up", "") if served_as in listed else ("loading", f"{served_as!r} is not among its models")


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Checks in a row: `late`, that a backend which is up may leave unanswered in time; `down`, that must fail in any other way before it
    counts as down or loading; `up`, that must go well before it counts as up again. The first check of all counts at once.
    """

    late: int = PATIENCE
    down: int = 1
    up: int = 1


class Vitals:
    """What a backend's checks amount to: a plain state machine."""

    __slots__ = ("_bad", "_good", "_late", "_thresholds", "state", "why")

    def __init__(self, thresholds: Thresholds, state: Health = "unknown", why: str = "") -> None:
        self._thresholds = thresholds
        self._good = self._bad = self._late = 0
        self.state: Health = state
        self.why = why

    def hear(self, found: Health, why: str, late: bool) -> bool:
        """One check's result. `late`: it was not answered in time. Returns whether the backend is back: up after trouble of any kind."""
        was, was_late = self.state, self._late
        self._late = self._late + 1 if late else 0
        if found == "up":
            self._good, self._bad = self._good + 1, 0
            if was in ("up", "unknown") or self._good >= self._thresholds.up:
                self.state, self.why = "up", ""
            return self.state == "up" and (was not in ("up", "unknown") or was_late > 0)
        self._good, self._bad = 0, self._bad + (not late)
        if was != "up" or self._late >= self._thresholds.late or self._bad >= self._thresholds.down:
            self.state, self.why = found, why
        return False


class HealthChecker:
    """Checks one backend every `interval` seconds, give or take a fifth, each check within `timeout` seconds.

    While it is not up, and after a call to it has failed, it is looked at sooner. `next_at`: when, on the clock.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        interval: float,
        timeout: float,
        rng: Random,
        thresholds: Thresholds | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._backend = backend
        self._interval = interval
        self._soon = min(interval, SOON_SECONDS)
        self._timeouts = Timeouts(timeout, timeout, timeout, timeout)
        self._rng = rng
        self._clock = clock
        self._vitals = Vitals(thresholds or Thresholds(), backend.health, backend.why)
        self._alarmed = asyncio.Event()
        self._was_late = False
        self.next_at = clock()

    async def run(self) -> None:
        """Checks until it is cancelled."""
        self._backend.breaker.alarm = self._alarmed.set
        while True:
            started = self._clock()
            self._alarmed.clear()
            try:
                await self.check()
            except Exception:
                _log.exception("the health check of %s broke", self._backend.name)
            await self._pause(started, self._rng.uniform(0.8, 1.2))

    async def _pause(self, started: float, jitter: float) -> None:
        """Until the next check. A failed call brings it forward, but not so far that failing calls bring a check each."""
        self.next_at = self._clock() + jitter * (self._interval if self._vitals.state == "up" else self._soon)
        with suppress(TimeoutError):
            async with asyncio.timeout(self.next_at - self._clock()):
                await self._alarmed.wait()
        self.next_at = max(self._clock(), min(self.next_at, started + jitter * self._soon))
        await asyncio.sleep(self.next_at - self._clock())

    async def check(self) -> None:
        """One check; sets the backend's health and logs it if it changed."""
        backend, started = self._backend, self._clock()
        self._was_late = False
        (health_status, _), (models_status, models) = await asyncio.gather(self._get("/health", root=True), self._get("/models"))
        found, why = judge(health_status, models_status, models, backend.served_as)
        answered_at = backend.breaker.answered_at
        if self._was_late and backend.health == "up" and answered_at is not None and answered_at >= started:
            return  # it has answered a call meanwhile: it is busy
        is_back = self._vitals.hear(found, why, self._was_late)
        self._tell()
        if is_back:
            backend.breaker.look_again()
            backend.notify()

    def _tell(self) -> None:
        backend, state, why = self._backend, self._vitals.state, self._vitals.why
        if state != backend.health:
            level = logging.INFO if state == "up" else logging.WARNING
            _log.log(level, "backend %s of %s is %s%s", backend.name, backend.model, state, f": {why}" if why else "")
            backend.since = self._clock()
        backend.health, backend.why = state, why

    async def _get(self, path: str, root: bool = False) -> tuple[int | None, bytes]:
        call = Call("GET", path, (*self._backend.headers, (b"accept-encoding", b"identity")), b"", self._timeouts, root)
        try:
            response = await self._backend.transport.send(call)
        except BackendError as error:
            self._was_late = self._was_late or isinstance(error, TimedOut)
            return None, b""
        parts: list[bytes] = []
        try:
            while data := await response.read():
                parts.append(data)
                if sum(map(len, parts)) > MAX_BODY_BYTES:
                    return None, b""
        except BackendError:
            return None, b""
        finally:
            response.close()
        return response.status, b"".join(parts)


@dataclass(frozen=True, slots=True)
class Condition:
    """How a backend is, for operators. `since`, `next_probe`: on the clock; None: none is planned.

    `state`: up, unknown, loading or down as its health checks say; ejected, open or half_open if its breaker keeps calls away, which it
    does after failed calls; resting if it asked for no calls for a moment.
    """

    state: str
    why: str
    since: float
    ejections: int
    next_probe: float | None


def condition(backend: Backend, ejection: Ejection, next_check: float | None, now: float) -> Condition:
    """`next_check`: when its health is checked next, on the clock."""
    breaker = backend.breaker
    if backend.health in ("down", "loading"):
        return Condition(backend.health, backend.why, backend.since, ejection.total, next_check)
    if breaker.state != "closed":
        state = "ejected" if ejection.ejected and breaker.state == "open" else breaker.state
        return Condition(state, breaker.why, breaker.since, ejection.total, max(now, breaker.retry_at))
    if breaker.rest_left > 0:
        return Condition("resting", "it asked for no calls for a moment", now, ejection.total, now + breaker.rest_left)
    return Condition(backend.health, backend.why, max(backend.since, breaker.since), ejection.total, next_check)

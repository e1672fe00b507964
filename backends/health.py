"""Watches backends: do they live, and do they list the model that they should serve?"""

from __future__ import annotations

import asyncio
import logging
from random import Random

import msgspec
from msgspec import Struct

from backends.api import BackendError, Call, TimedOut, Timeouts
from backends.pool import Backend, Health

MAX_BODY_BYTES = 4_000_000
PATIENCE = 3
"""Checks in a row that a server which was up may leave unanswered in time: a busy one is slow to answer, and is not down for that."""
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


class HealthChecker:
    """Checks one backend every `interval` seconds, give or take a fifth, each check within `timeout` seconds."""

    def __init__(self, backend: Backend, *, interval: float, timeout: float, rng: Random) -> None:
        self._backend = backend
        self._interval = interval
        self._timeouts = Timeouts(timeout, timeout, timeout, timeout)
        self._rng = rng
        self._late = 0
        self._was_late = False

    async def run(self) -> None:
        """Checks until it is cancelled."""
        while True:
            try:
                await self.check()
            except Exception:
                _log.exception("the health check of %s broke", self._backend.name)
            await asyncio.sleep(self._interval * self._rng.uniform(0.8, 1.2))

    async def check(self) -> None:
        """One check; sets the backend's health and logs it if it changed."""
        self._was_late = False
        (health_status, _), (models_status, models) = await asyncio.gather(self._get("/health", root=True), self._get("/models"))
        state, why = judge(health_status, models_status, models, self._backend.served_as)
        self._late = self._late + 1 if self._was_late else 0
        if self._was_late and self._backend.health == "up" and self._late < PATIENCE:
            return
        if state != self._backend.health:
            level = logging.INFO if state == "up" else logging.WARNING
            _log.log(level, "backend %s of %s is %s%s", self._backend.name, self._backend.model, state, f": {why}" if why else "")
        self._backend.health, self._backend.why = state, why

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

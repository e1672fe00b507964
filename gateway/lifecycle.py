"""What goes on beside the requests, from the start to the end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from gateway.account.metrics import Metrics
from gateway.parts import Service, closes, runs

LAG_SECONDS = 0.25
STOP_SECONDS = 8.0
"""So long may a service take for its end; more than the ledger allows itself for its last write."""
_log = logging.getLogger("pointsman")


class Life:
    """How near its end this process is. `leaving`: it should be sent no more requests. `refusing`: it takes none."""

    __slots__ = ("leaving", "refusing")

    def __init__(self) -> None:
        self.leaving = False
        self.refusing = False


class Services:
    """Runs services, each one once, however many gateways it is a part of."""

    def __init__(self) -> None:
        self._running: dict[int, tuple[Service, asyncio.Task[None] | None]] = {}

    def __len__(self) -> int:
        return len(self._running)

    def start(self, services: Iterable[Service]) -> None:
        """Those that run already go on."""
        for service in services:
            if id(service) not in self._running:
                task = asyncio.create_task(service.run()) if runs(service) else None
                if task is not None:
                    task.add_done_callback(_report)
                self._running[id(service)] = (service, task)

    async def stop(self, services: Iterable[Service]) -> None:
        """Ends what they do and gives back what they hold. The last one first, since each may need those before it."""
        for service in reversed(tuple(services)):
            found = self._running.pop(id(service), None)
            if found is not None:
                await _end(*found)

    async def stop_all(self) -> None:
        await self.stop([service for service, _ in self._running.values()])


async def _end(service: Service, task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()
        await asyncio.wait({task}, timeout=STOP_SECONDS)
    if closes(service):
        closing = asyncio.create_task(service.aclose())
        closing.add_done_callback(_report)
        _, late = await asyncio.wait({closing}, timeout=STOP_SECONDS)
        if late:
            closing.cancel()
            _log.error("%s did not close within %g s", type(service).__name__, STOP_SECONDS)


def _report(task: asyncio.Task[None]) -> None:
    """A service that breaks costs its own work alone, and the log says so."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("%s broke: %s", getattr(task.get_coro(), "__qualname__", "a service"), type(error).__name__)


class Pulse:
    """Measures how late the event loop is, and brings the watched gauges up to date."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    async def run(self) -> None:
        """Beats until it is cancelled."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                due = loop.time() + LAG_SECONDS
                await asyncio.sleep(LAG_SECONDS)
                self._metrics.event_loop_lag.set(max(0.0, loop.time() - due))
                self._metrics.refresh()
        finally:
            self._metrics.refresh()

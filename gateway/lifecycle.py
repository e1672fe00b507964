"""What goes on beside the requests, from the start to the end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine, Iterator
from random import Random
from typing import TYPE_CHECKING, Any

from backends.health import HealthChecker
from gateway.account.metrics import Metrics

if TYPE_CHECKING:
    from gateway.app import Gateway

LAG_SECONDS = 0.25


@contextlib.asynccontextmanager
async def running(gateway: Gateway) -> AsyncIterator[None]:
    """Does what goes on beside the requests; at the end closes every connection."""
    settings = gateway.config.health
    checkers = [
        HealthChecker(backend, interval=settings.interval_seconds, timeout=settings.timeout_seconds, rng=Random())
        for served in gateway.fleet
        for backend in served.pool.backends
    ]
    tasks = [asyncio.create_task(work) for work in (*(checker.run() for checker in checkers), *_background(gateway))]
    try:
        yield
    finally:
        await gateway.ledger.aclose()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await gateway.snapshots.aclose()
        for served in gateway.fleet:
            for backend in served.pool.backends:
                await backend.transport.aclose()
        if gateway.memory.store is not None:
            await gateway.memory.store.aclose()
        if gateway.guard.tokens is not None:
            await gateway.guard.tokens.close()
        gateway.threads.shutdown(wait=False, cancel_futures=True)
        gateway.journal.flush()


def _background(gateway: Gateway) -> Iterator[Coroutine[Any, Any, None]]:
    """What goes on beside the requests."""
    yield _measure(gateway.metrics)
    yield gateway.ledger.run()
    yield gateway.feedback.run()
    yield gateway.snapshots.run()
    if gateway.memory.store is not None:
        yield gateway.memory.store.run()
    if gateway.guard.keys is not None:
        yield gateway.guard.keys.watch()
    if gateway.guard.tokens is not None:
        yield gateway.guard.tokens.run()


async def _measure(metrics: Metrics) -> None:
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + LAG_SECONDS
        await asyncio.sleep(LAG_SECONDS)
        metrics.event_loop_lag.set(max(0.0, loop.time() - due))
        metrics.refresh()

"""What the gauges show: the state of the gateway that is in force."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from gateway import __version__
from gateway.account.metrics import BackendState
from gateway.fleet import Fleet

if TYPE_CHECKING:
    from gateway.app import Gateway


def show(gateway: Gateway, living: Sequence[Gateway]) -> None:
    """Points every gauge at `gateway`. `living`: those that still have requests, which may be named in labels as well."""
    metrics = gateway.metrics
    models = {model.name for one in living for model in one.config.models}
    routes = {route.name for one in living for route in one.config.routes}
    metrics.follow(models, routes, gateway.config.hash, __version__)
    metrics.watch_backends(lambda: _states(gateway.fleet))
    for name, size in _sizes(gateway).items():
        metrics.watch(metrics.sizes.labels(name), size)
    for name, count in _failures(gateway).items():
        metrics.watch_count(metrics.failures.labels(name), count)
    metrics.watch_count(metrics.dropped.labels("ledger"), lambda: gateway.ledger.dropped)
    metrics.watch_count(metrics.dropped.labels("watchers"), lambda: gateway.memory.feed.dropped)
    metrics.watch_count(metrics.dropped.labels("log"), lambda: gateway.journal.dropped)
    if gateway.config.tracing.endpoint is not None:
        metrics.watch_count(metrics.dropped.labels("spans"), lambda: gateway.tracing.dropped)
    metrics.watch(metrics.budgets, lambda: gateway.guard.buckets.nearly_spent)
    for served in gateway.fleet:
        for backend in served.pool.backends:
            metrics.backend_ejected(served.model.name, backend.name, times=0)
    store = gateway.memory.store
    if store is not None:
        metrics.watch_redis(lambda: store.up, lambda: store.changes)
        metrics.watch_count(metrics.dropped.labels("redis_writes"), lambda: store.dropped)


def _sizes(gateway: Gateway) -> Mapping[str, Callable[[], int]]:
    memory, guard = gateway.memory, gateway.guard
    sizes: dict[str, Callable[[], int]] = {
        "decision_cache": lambda: len(memory.choices),
        "sessions": lambda: len(memory.sessions),
        "decisions": lambda: len(memory.decisions),
        "idempotency": lambda: len(memory.repeats),
        "allowances": lambda: len(guard.buckets),
        "feedback": lambda: len(gateway.feedback),
        "ledger": lambda: len(gateway.ledger),
        "log": lambda: len(gateway.journal),
        "watchers": lambda: len(memory.feed),
        "waiting_interactive": lambda: gateway.admission.waiting["interactive"],
        "waiting_batch": lambda: gateway.admission.waiting["batch"],
        "prefix_blocks": lambda: sum(served.pool.remembered for served in gateway.fleet),
        "tasks": lambda: len(asyncio.all_tasks()),
    }
    if gateway.config.tracing.endpoint is not None:
        sizes["spans"] = lambda: len(gateway.tracing)
    rosters = [served.roster for served in gateway.fleet if served.roster is not None]
    if rosters:
        sizes["backends_leaving"] = lambda: sum(roster.leaving for roster in rosters)
    if gateway.fleet.drivers:
        sizes["experts_awake"] = lambda: sum(one.state == "awake" for driver in gateway.fleet.drivers for one in driver.report())
    tokens, store = guard.tokens, memory.store
    if tokens is not None:
        sizes["verified_tokens"] = lambda: len(tokens)
    if store is not None:
        sizes["redis_writes"] = lambda: store.pending
    return sizes


def _failures(gateway: Gateway) -> Mapping[str, Callable[[], int]]:
    failures: dict[str, Callable[[], int]] = {
        "ledger": lambda: gateway.ledger.failures,
        "artifacts": lambda: sum(one.failures for one in gateway.snapshots),
    }
    rosters = [served.roster for served in gateway.fleet if served.roster is not None]
    if rosters:
        failures["discovery"] = lambda: sum(roster.standing.failures for roster in rosters)
    if gateway.fleet.drivers:
        failures["residency"] = lambda: sum(one.failures for driver in gateway.fleet.drivers for one in driver.report())
    keys, tokens = gateway.guard.keys, gateway.guard.tokens
    if tokens is not None:
        failures["jwks"] = lambda: tokens.keys.failures
    if keys is not None:
        failures["keys_file"] = lambda: keys.failures
    return failures


def _states(fleet: Fleet) -> Iterator[BackendState]:
    for served in fleet:
        for backend in served.pool.backends:
            waiting = backend.load.waiting if backend.load.is_fresh(time.monotonic()) else None
            limit = None if backend.limit is None else backend.limit.limit
            up, level = backend.usable(), backend.breaker.level
            yield BackendState(served.model.name, backend.name, up, backend.inflight, level, waiting, limit)

"""The composition root: the only place that builds things, from one configuration."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TextIO

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from starlette.routing import Route as PathRoute
from starlette.types import Receive, Scope, Send

from backends.deadlines import Deadlines
from backends.retry import RetryBudget
from gateway import __version__
from gateway.account.bookkeeper import Bookkeeper
from gateway.account.feedback import Feedback
from gateway.account.journal import Journal
from gateway.account.ledger import Ledger
from gateway.account.ledger_files import LedgerFile
from gateway.account.metrics import BackendState, Metrics
from gateway.account.snapshots import Snapshots
from gateway.api import admin, errors, health, models, openapi, routing
from gateway.api.callers import identify, identify_admin
from gateway.api.completions import Completions, Settings
from gateway.build_fleet import build_fleet
from gateway.config import Config
from gateway.fleet import Fleet
from gateway.flow.decide import Decider, Route, Stickiness
from gateway.flow.execute import Executor
from gateway.guard.auth import Gate
from gateway.guard.buckets import Buckets
from gateway.guard.keys import KeysFile
from gateway.guard.limits import Limits
from gateway.guard.tokens import TokenSettings, TokenVerifier
from gateway.lifecycle import running
from gateway.memory.cache import ChoiceCache, Choices
from gateway.memory.decisions import Decisions
from gateway.memory.idempotency import Repeats
from gateway.memory.sessions import Sessions
from gateway.memory.store import Store
from routers.api import Endpoint

PATHS: dict[str, Endpoint] = {"/v1/chat/completions": "chat", "/v1/completions": "completions", "/v1/embeddings": "embeddings"}
THINKING_THREADS = 4


class Ids:
    """Random ids of 96 bits, so that nobody guesses the id of someone else's decision.

    Reads randomness for 256 ids at a time: a system call for each id cost 6 % of a cached request.
    """

    def __init__(self) -> None:
        self._pool = ""

    def __call__(self) -> str:
        if not self._pool:
            self._pool = os.urandom(12 * 256).hex()
        found, self._pool = self._pool[:24], self._pool[24:]
        return found


class App(FastAPI):
    """FastAPI, with the three proxy endpoints in front of its middleware.

    Its own way to a handler costs a third of a cached request (telemetry, body limit, exit stacks), and none of it is for them.
    """

    proxies: Mapping[str, Completions] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        proxy = self.proxies.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        await (super().__call__ if proxy is None else proxy)(scope, receive, send)


@dataclass(frozen=True, slots=True)
class Guard:
    """Who is let in, and how much each may use. `keys`, `tokens`: None where the configuration names none."""

    gate: Gate
    limits: Limits
    keys: KeysFile | None
    tokens: TokenVerifier | None


@dataclass(frozen=True, slots=True)
class Memory:
    """What is remembered of requests, here and in the store; `store` is None without Redis."""

    store: Store | None
    choices: Choices
    sessions: Sessions
    decisions: Decisions
    repeats: Repeats


@dataclass(frozen=True, slots=True)
class Gateway:
    """What was built for one configuration."""

    config: Config
    fleet: Fleet
    guard: Guard
    memory: Memory
    decider: Decider
    executor: Executor
    bookkeeper: Bookkeeper
    feedback: Feedback
    snapshots: Snapshots
    deadlines: Deadlines
    journal: Journal
    ledger: Ledger
    metrics: Metrics
    threads: ThreadPoolExecutor
    ids: Callable[[], str]


def build(
    config: Config, routes: Mapping[str, Route], out: TextIO | None = None, plain: bool = False, keys: KeysFile | None = None
) -> Gateway:
    """Builds everything but the HTTP app. `routes`: from `policies.build_routes`. `out`: where log lines go; `plain`: for a terminal.

    `keys`: the keys file, if the configuration names one.
    """
    rng, ids, deadlines = Random(), Ids(), Deadlines()
    fleet = build_fleet(config, deadlines, rng)
    metrics = Metrics([m.name for m in config.models], list(routes))
    metrics.config_info.labels(config.hash, __version__).set(1)
    metrics.watch_backends(lambda: _states(fleet))
    memory = _memory(config, metrics, ids)
    guard = _guard(config, keys, memory.store, metrics, ids)
    journal = Journal(out, plain)
    ledger = _ledger(config, memory.store, metrics)
    threads = ThreadPoolExecutor(THINKING_THREADS, "pointsman-think")
    decider = Decider(
        fleet,
        routes,
        memory.choices,
        memory.sessions,
        Stickiness(config.sessions.prefill_tokens_per_second, config.sessions.second_weight, config.sessions.inertia),
        threads,
        metrics,
        clock=time.perf_counter,
        wall_clock=time.time,
        new_id=lambda: f"dec-{ids()}",
        rng=rng,
    )
    candidates = {name: route.models for name, route in routes.items()}
    bookkeeper = Bookkeeper(fleet, candidates, metrics, journal, ledger, memory.decisions, guard.limits)
    feedback, snapshots = _learning(config, routes, memory, ledger, metrics, ids())
    return Gateway(
        config=config,
        fleet=fleet,
        guard=guard,
        memory=memory,
        decider=decider,
        executor=_executor(config, fleet, rng),
        bookkeeper=bookkeeper,
        feedback=feedback,
        snapshots=snapshots,
        deadlines=deadlines,
        journal=journal,
        ledger=ledger,
        metrics=metrics,
        threads=threads,
        ids=ids,
    )


def _learning(
    config: Config, routes: Mapping[str, Route], memory: Memory, ledger: Ledger, metrics: Metrics, origin: str
) -> tuple[Feedback, Snapshots]:
    """Who tells learners of feedback, and who keeps what they learn: in a thread of their own, so that no decision waits for them."""
    thread = ThreadPoolExecutor(1, "pointsman-learn")
    policies = {name: route.policy for name, route in routes.items()}
    feedback = Feedback(
        memory.decisions,
        policies,
        ledger,
        metrics,
        thread,
        memory.store,
        ttl_seconds=config.decisions.ttl_seconds,
        origin=origin,
        wall_clock=time.time,
    )
    keepers = [keeper for policy in policies.values() for keeper in policy.keepers]
    snapshots = Snapshots(keepers, thread, clock=time.monotonic, wall_clock=time.time)
    metrics.watch(metrics.failures.labels("artifacts"), lambda: snapshots.failures)
    return feedback, snapshots


def _memory(config: Config, metrics: Metrics, ids: Callable[[], str]) -> Memory:
    store = None
    if config.redis is not None:
        url, timeout, failures = config.redis.url.get_secret_value(), config.redis.timeout_ms / 1000, metrics.redis_failures
        store = Store(url, timeout=timeout, prefix=config.redis.prefix, failed=lambda reason: metrics.count(failures, reason))
        metrics.watch_redis(lambda: store.up, lambda: store.changes)
        metrics.watch(metrics.sizes.labels("redis_writes"), lambda: store.pending)
        metrics.watch(metrics.dropped.labels("redis_writes"), lambda: store.dropped)
    cache = ChoiceCache(config.cache.size, config.cache.ttl_seconds, time.monotonic)
    memory = Memory(
        store,
        Choices(cache, store, config.cache.ttl_seconds),
        Sessions(config.sessions.size, config.sessions.ttl_seconds, store, time.monotonic),
        Decisions(config.decisions.kept, store, config.decisions.ttl_seconds),
        Repeats(config.idempotency.size, config.idempotency.ttl_seconds, store, time.monotonic, ids),
    )
    metrics.watch(metrics.sizes.labels("decision_cache"), lambda: len(memory.choices))
    metrics.watch(metrics.sizes.labels("sessions"), lambda: len(memory.sessions))
    metrics.watch(metrics.sizes.labels("decisions"), lambda: len(memory.decisions))
    metrics.watch(metrics.sizes.labels("idempotency"), lambda: len(memory.repeats))
    return memory


def _guard(config: Config, keys: KeysFile | None, store: Store | None, metrics: Metrics, ids: Callable[[], str]) -> Guard:
    section = None if config.auth is None else config.auth.jwt
    tokens = None
    if section is not None:
        algorithms = tuple(section.algorithms)
        settings = TokenSettings(**{**section.model_dump(), "algorithms": algorithms})
        tokens = TokenVerifier(settings)
        metrics.watch(metrics.sizes.labels("verified_tokens"), lambda: len(tokens))
        metrics.watch(metrics.failures.labels("jwks"), lambda: tokens.keys.failures)
    if keys is not None:
        metrics.watch(metrics.failures.labels("keys_file"), lambda: keys.failures)
    buckets = Buckets(config.limits.expected_replicas * workers(), time.monotonic, time.time)
    metrics.watch(metrics.sizes.labels("allowances"), lambda: len(buckets))
    limits = Limits(
        store,
        buckets,
        hold_seconds=config.limits.hold_seconds,
        clock=time.monotonic,
        wall_clock=time.time,
        new_id=ids,
        local_used=metrics.limits_local.inc,
    )
    return Guard(Gate(keys, tokens), limits, keys, tokens)


def _ledger(config: Config, store: Store | None, metrics: Metrics) -> Ledger:
    section, publish = config.ledger, None
    if section.redis and store is not None:
        stream = f"{config.redis.prefix if config.redis else 'pointsman'}:1:ledger"

        def publish(line: bytes) -> None:
            store.later("XADD", stream, "MAXLEN", "~", section.stream_length, "*", "line", line)

    ledger = Ledger(None if section.path is None else LedgerFile(Path(section.path), section.max_bytes, section.keep), publish)
    metrics.watch(metrics.sizes.labels("ledger"), lambda: len(ledger))
    metrics.watch(metrics.dropped.labels("ledger"), lambda: ledger.dropped)
    metrics.watch(metrics.failures.labels("ledger"), lambda: ledger.failures)
    return ledger


def workers() -> int:
    """How many processes share this gateway's port. The supervisor says so."""
    return int(os.environ.get("POINTSMAN_WORKERS", "1"))


def _executor(config: Config, fleet: Fleet, rng: Random) -> Executor:
    return Executor(
        fleet,
        RetryBudget(config.retries.budget_ratio, config.retries.budget_minimum),
        config.retries.max_attempts,
        config.server.max_answer_bytes,
        clock=time.perf_counter,
        wall_clock=time.time,
        rng=rng,
    )


def create_app(gateway: Gateway) -> FastAPI:
    """The HTTP app: control endpoints by FastAPI, the three proxy endpoints as plain ASGI handlers within it."""
    config = gateway.config
    routes = {route.name: route.models for route in config.routes}

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with running(gateway):
            yield

    # FastAPI's own telemetry would wrap every request, and it sees nothing of what matters here.
    silent: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}
    app = App(title="Pointsman", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None, telemetry=silent)
    errors.install(app)
    app.proxies = {path: _proxy(gateway, endpoint) for path, endpoint in PATHS.items()}
    for path, proxy in app.proxies.items():
        app.router.routes.append(PathRoute(path, proxy, methods=["POST"]))
    caller = identify(gateway.guard.gate)
    app.include_router(models.router(caller, gateway.fleet, routes, int(time.time())))
    app.include_router(admin.router(identify_admin(gateway.guard.gate), config, gateway.fleet))
    app.include_router(
        routing.router(
            caller,
            gateway.guard.limits,
            gateway.decider,
            gateway.memory.decisions,
            gateway.feedback,
            max_body_bytes=config.server.max_body_bytes,
            clock=time.perf_counter,
            new_id=gateway.ids,
        )
    )
    app.include_router(health.router(gateway.fleet, routes, gateway.metrics))
    openapi.install(app, [*routes, *(model.name for model in config.models)])
    return app


def _proxy(gateway: Gateway, endpoint: Endpoint) -> Completions:
    config = gateway.config
    return Completions(
        endpoint,
        gateway.guard.gate,
        gateway.guard.limits,
        gateway.memory.repeats,
        gateway.decider,
        gateway.executor,
        gateway.bookkeeper,
        gateway.deadlines,
        Settings(config.server.max_body_bytes, config.server.write_seconds, config.ledger.prompts),
        clock=time.perf_counter,
        new_id=gateway.ids,
    )


def _states(fleet: Fleet) -> Iterable[BackendState]:
    for served in fleet:
        for backend in served.pool.backends:
            yield BackendState(served.model.name, backend.name, backend.usable(), backend.inflight, backend.breaker.level)

"""The composition root: the only place that builds things, from one configuration."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from random import Random
from typing import TextIO

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from starlette.routing import Route as PathRoute
from starlette.types import Receive, Scope, Send

from backends.api import Header, Timeouts, Transport
from backends.breaker import Breaker
from backends.deadlines import Deadlines
from backends.health import HealthChecker
from backends.http1 import Http1Transport
from backends.pool import Backend, Pool
from backends.retry import RetryBudget
from gateway import __version__
from gateway.account.bookkeeper import Bookkeeper
from gateway.account.journal import Journal
from gateway.account.metrics import BackendState, Metrics
from gateway.api import errors, health, models, openapi, routing
from gateway.api.completions import Completions
from gateway.config import Config, ModelSection, TimeoutsSection
from gateway.fleet import Fleet, Served
from gateway.flow.decide import Decider, Route
from gateway.flow.execute import Executor
from gateway.memory.cache import ChoiceCache
from gateway.memory.decisions import Decisions
from routers.api import Endpoint, Model, Price

PATHS: dict[str, Endpoint] = {"/v1/chat/completions": "chat", "/v1/completions": "completions", "/v1/embeddings": "embeddings"}
LAG_SECONDS = 0.25
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
class Gateway:
    """What was built for one configuration."""

    config: Config
    fleet: Fleet
    decider: Decider
    executor: Executor
    bookkeeper: Bookkeeper
    decisions: Decisions
    deadlines: Deadlines
    journal: Journal
    metrics: Metrics
    threads: ThreadPoolExecutor
    ids: Callable[[], str]


def build(config: Config, routes: Mapping[str, Route], out: TextIO | None = None, plain: bool = False) -> Gateway:
    """Builds everything but the HTTP app. `routes`: from `policies.build_routes`. `out`: where log lines go; `plain`: for a terminal."""
    rng = Random()
    ids = Ids()
    deadlines = Deadlines()
    fleet = Fleet({m.name: _served(m, config, deadlines, rng) for m in config.models})
    metrics = Metrics([m.name for m in config.models], list(routes))
    metrics.config_info.labels(config.hash, __version__).set(1)
    metrics.watch_backends(lambda: _states(fleet))
    decisions = Decisions(config.decisions.kept)
    cache = ChoiceCache(config.cache.size, config.cache.ttl_seconds, time.monotonic)
    metrics.sizes.labels("decision_cache").set_function(lambda: len(cache))
    metrics.sizes.labels("decisions").set_function(lambda: len(decisions))
    journal = Journal(out, plain)
    threads = ThreadPoolExecutor(THINKING_THREADS, "pointsman-think")
    decider = Decider(
        fleet,
        routes,
        cache,
        threads,
        metrics,
        fingerprint=config.hash,
        clock=time.perf_counter,
        wall_clock=time.time,
        new_id=lambda: f"dec-{ids()}",
        rng=rng,
    )
    budget = RetryBudget(config.retries.budget_ratio, config.retries.budget_minimum)
    executor = Executor(
        fleet,
        budget,
        config.retries.max_attempts,
        config.server.max_answer_bytes,
        clock=time.perf_counter,
        wall_clock=time.time,
        rng=rng,
    )
    bookkeeper = Bookkeeper(fleet, {name: route.models for name, route in routes.items()}, metrics, journal, decisions)
    return Gateway(config, fleet, decider, executor, bookkeeper, decisions, deadlines, journal, metrics, threads, ids)


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
    app.include_router(models.router(gateway.fleet, routes, int(time.time())))
    app.include_router(
        routing.router(
            gateway.decider,
            gateway.decisions,
            max_body_bytes=config.server.max_body_bytes,
            clock=time.perf_counter,
            new_id=gateway.ids,
        )
    )
    app.include_router(health.router(gateway.fleet, routes, gateway.metrics))
    openapi.install(app, [*routes, *(model.name for model in config.models)])
    return app


@contextlib.asynccontextmanager
async def running(gateway: Gateway) -> AsyncIterator[None]:
    """Watches the backends and the event loop; at the end closes every connection."""
    settings = gateway.config.health
    checkers = [
        HealthChecker(backend, interval=settings.interval_seconds, timeout=settings.timeout_seconds, rng=Random())
        for served in gateway.fleet
        for backend in served.pool.backends
    ]
    tasks = [asyncio.create_task(checker.run()) for checker in checkers]
    tasks.append(asyncio.create_task(_measure_lag(gateway.metrics.event_loop_lag.set)))
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for served in gateway.fleet:
            for backend in served.pool.backends:
                await backend.transport.aclose()
        gateway.threads.shutdown(wait=False, cancel_futures=True)
        gateway.journal.flush()


async def _measure_lag(report: Callable[[float], None]) -> None:
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + LAG_SECONDS
        await asyncio.sleep(LAG_SECONDS)
        report(max(0.0, loop.time() - due))


def _proxy(gateway: Gateway, endpoint: Endpoint) -> Completions:
    server = gateway.config.server
    return Completions(
        endpoint,
        gateway.decider,
        gateway.executor,
        gateway.bookkeeper,
        gateway.deadlines,
        max_body_bytes=server.max_body_bytes,
        write_seconds=server.write_seconds,
        clock=time.perf_counter,
        new_id=gateway.ids,
    )


def _served(section: ModelSection, config: Config, deadlines: Deadlines, rng: Random) -> Served:
    price = None if section.price is None else Price(section.price.input, section.price.output)
    model = Model(section.name, price, section.context_window, frozenset(section.capabilities), section.description)
    served_as = section.served_as or section.name
    headers: tuple[Header, ...] = ()
    if section.api_key is not None:
        headers = ((b"authorization", b"Bearer " + section.api_key.get_secret_value().encode()),)
    backends = [
        Backend(
            model.name,
            url,
            served_as,
            _transport(section, url, deadlines),
            Breaker(config.health.failures, rng=rng),
            headers=headers,
        )
        for url in section.backends
    ]
    return Served(model, served_as, Pool(backends, rng), headers, _timeouts(section.timeouts or config.timeouts))


def _transport(section: ModelSection, url: str, deadlines: Deadlines) -> Transport:
    if section.transport == "httpx":
        from backends.httpx_transport import HttpxTransport

        return HttpxTransport(url)
    return Http1Transport(url, deadlines=deadlines)


def _timeouts(section: TimeoutsSection) -> Timeouts:
    return Timeouts(section.connect, section.first_byte, section.idle, section.total)


def _states(fleet: Fleet) -> Iterable[BackendState]:
    for served in fleet:
        for backend in served.pool.backends:
            yield BackendState(served.model.name, backend.name, backend.usable(), backend.inflight, backend.breaker.level)

"""The composition root: the only place that builds things, from one configuration."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import TextIO

from fastapi import FastAPI, Request, Response
from fastapi.telemetry import TelemetryConfig
from starlette.routing import Route as PathRoute

from backends.deadlines import Deadlines
from backends.retry import RetryBudget
from gateway import __version__
from gateway.account.bookkeeper import Bookkeeper
from gateway.account.feedback import Feedback
from gateway.account.journal import Journal
from gateway.account.ledger import Ledger
from gateway.account.metrics import Metrics
from gateway.account.snapshots import Snapshots
from gateway.account.tracing import Tracing
from gateway.api import admin, console, errors, health, models, openapi, routing, watching
from gateway.api.completions import Completions, Settings
from gateway.build_fleet import HERE, build_admission, build_fleet, connect
from gateway.build_guard import Guard, build_guard
from gateway.build_memory import Memory, build_feedback, build_ledger, build_memory
from gateway.build_tracing import build_tracing
from gateway.config import Config
from gateway.errors import GatewayError
from gateway.fleet import Fleet
from gateway.flow.decide import Decider, Route, Stickiness
from gateway.flow.execute import Executor, Place
from gateway.flow.planning import Plans
from gateway.flow.rounds import Rounds
from gateway.gauges import show
from gateway.guard.admission import Admission
from gateway.guard.keys import KeysFile
from gateway.lifecycle import Life, Pulse
from gateway.parts import Parts
from routers.api import Endpoint, Keeper

PATHS: dict[str, Endpoint] = {"/v1/chat/completions": "chat", "/v1/completions": "completions", "/v1/embeddings": "embeddings"}
THINKING_THREADS = 4


class Ids:
    """Random ids of 96 bits, so that nobody guesses the id of someone else's decision.

    Reads randomness for 256 ids at a time: a system call for each id cost 6 % of a cached request.
    """

    def __init__(self) -> None:
        self._made: list[str] = []

    def __call__(self) -> str:
        if not self._made:
            digits = os.urandom(12 * 256).hex()
            self._made = [digits[start : start + 24] for start in range(0, len(digits), 24)]
        return self._made.pop()


@dataclass(frozen=True, slots=True)
class Gateway:
    """What was built for one configuration, much of it taken over from the one before (`parts`)."""

    config: Config
    routes: Mapping[str, Route]
    fleet: Fleet
    admission: Admission[Place]
    guard: Guard
    memory: Memory
    decider: Decider
    executor: Executor
    bookkeeper: Bookkeeper
    feedback: Feedback
    snapshots: tuple[Snapshots, ...]
    deadlines: Deadlines
    journal: Journal
    ledger: Ledger
    metrics: Metrics
    tracing: Tracing
    life: Life
    threads: ThreadPoolExecutor
    learning: ThreadPoolExecutor
    ids: Callable[[], str]
    parts: Parts


def build(
    config: Config,
    routes: Mapping[str, Route],
    out: TextIO | None = None,
    plain: bool = False,
    keys: KeysFile | None = None,
    parts: Parts | None = None,
    folder: Path = HERE,
) -> Gateway:
    """Builds everything but the HTTP app. `routes`: from `policies.build_routes`. `out`: where log lines go; `plain`: for a terminal.

    `keys`: the keys file. `parts`: those that the routes and the keys are among, and that a gateway before may have left. `folder`: where
    files are looked for. Starts nothing and changes nothing of what runs, so that it may be done in a thread; see `take_over`.
    """
    parts = parts or Parts()
    rng, ids, deadlines = parts.get("rng", None, Random), parts.get("ids", None, Ids), parts.get("deadlines", None, Deadlines)
    metrics = parts.get("metrics", None, Metrics)
    parts.get("pulse", None, lambda: Pulse(metrics))
    threads, learning = _threads(parts)
    fleet = build_fleet(config, deadlines, rng, parts, folder, metrics.backend_ejected)
    memory = build_memory(config, metrics, ids, parts)
    guard = build_guard(config, keys, memory.store, metrics, ids, parts)
    journal, ledger = parts.get("journal", None, lambda: Journal(out, plain, time.time)), build_ledger(config, memory.store, parts)
    admission = build_admission(config, time.perf_counter, parts)
    candidates = {name: route.models for name, route in routes.items()}
    gateway = Gateway(
        config=config,
        routes=routes,
        fleet=fleet,
        admission=admission,
        guard=guard,
        memory=memory,
        decider=_decider(config, routes, fleet, memory, threads, metrics, ids, rng),
        executor=_executor(config, fleet, admission, rng, parts),
        bookkeeper=Bookkeeper(fleet, candidates, metrics, journal, ledger, memory.decisions, guard.limits, memory.feed),
        feedback=build_feedback(config, memory, ledger, metrics, learning, ids, parts),
        snapshots=_snapshots(routes, learning, parts),
        deadlines=deadlines,
        journal=journal,
        ledger=ledger,
        metrics=metrics,
        tracing=parts.get("tracing", config.tracing, lambda: build_tracing(config.tracing)),
        life=parts.get("life", None, Life),
        threads=threads,
        learning=learning,
        ids=ids,
        parts=parts,
    )
    parts.finish()
    return gateway


def _threads(parts: Parts) -> tuple[ThreadPoolExecutor, ThreadPoolExecutor]:
    """Where policies think, and where learners learn."""
    threads = parts.get("threads", None, lambda: ThreadPoolExecutor(THINKING_THREADS, "pointsman-think"))
    return threads, parts.get("learning", None, lambda: ThreadPoolExecutor(1, "pointsman-learn"))


def take_over(gateway: Gateway, living: tuple[Gateway, ...]) -> None:
    """From now on this gateway is the one in force. `living`: all that have requests, this one included."""
    show(gateway, living)
    gateway.feedback.follow({name: route.policy for name, route in gateway.routes.items()})
    for feed in {id(one.memory.feed): one.memory.feed for one in living}.values():
        feed.follow(gateway)
    connect([one.fleet for one in living], {id(one.admission): one.admission for one in living}.values())


def _decider(
    config: Config,
    routes: Mapping[str, Route],
    fleet: Fleet,
    memory: Memory,
    threads: ThreadPoolExecutor,
    metrics: Metrics,
    ids: Callable[[], str],
    rng: Random,
) -> Decider:
    sessions = config.sessions
    return Decider(
        fleet,
        routes,
        memory.choices,
        memory.sessions,
        Stickiness(sessions.prefill_tokens_per_second, sessions.second_weight, sessions.inertia),
        threads,
        metrics,
        clock=time.perf_counter,
        wall_clock=time.time,
        new_id=lambda: f"dec-{ids()}",
        rng=rng,
    )


def _snapshots(routes: Mapping[str, Route], learning: ThreadPoolExecutor, parts: Parts) -> tuple[Snapshots, ...]:
    """Who keeps what learners learn, in the thread in which they learn: one for each, since each comes and goes with its learner."""

    def keeping(name: str, keeper: Keeper) -> Snapshots:
        return Snapshots([(name, keeper)], learning, clock=time.monotonic, wall_clock=time.time)

    return tuple(
        parts.get(("keeper", route.name, name), keeper, partial(keeping, name, keeper))
        for route in routes.values()
        for name, keeper in route.policy.keepers
    )


def _executor(config: Config, fleet: Fleet, admission: Admission[Place], rng: Random, parts: Parts) -> Executor:
    section = config.retries
    budget = parts.get(
        "retry budget",
        (section.budget_ratio, section.budget_minimum),
        lambda: RetryBudget(section.budget_ratio, section.budget_minimum),
    )
    return Executor(
        fleet,
        admission,
        budget,
        section.max_attempts,
        section.wait_seconds,
        config.server.max_answer_bytes,
        clock=time.perf_counter,
        wall_clock=time.time,
        rng=rng,
    )


def create_app(in_force: Callable[[], Gateway], reload: Callable[[], Awaitable[str]]) -> FastAPI:
    """The control endpoints: one app for the whole process, as FastAPI remembers every handler that it has seen.

    The gateway that serves a request stands in its scope, see `api.callers`. `in_force`: that of the newest configuration. `reload`: puts
    the configuration as it stands now in force, and returns its hash.
    """
    # FastAPI's own telemetry would wrap every request, and it sees nothing of what matters here.
    silent: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}
    app = FastAPI(title="Pointsman", version=__version__, docs_url=None, redoc_url=None, telemetry=silent)
    errors.install(app)
    for path in PATHS:
        app.router.routes.append(PathRoute(path, _passed_on, methods=["POST"]))
    app.include_router(models.router(int(time.time())))
    app.include_router(admin.router(reload))
    app.include_router(watching.router())
    app.include_router(console.router())
    app.include_router(routing.router(time.perf_counter))
    app.include_router(health.router())
    openapi.install(app, lambda: [*in_force().routes, *(served.model.name for served in in_force().fleet)])
    return app


async def _passed_on(request: Request) -> Response:
    """Stands for the proxy endpoints, which the switch serves before FastAPI sees them; other methods are refused here."""
    raise GatewayError("not_found", "there is nothing at this path")


def build_proxies(gateway: Gateway) -> Mapping[bytes, Completions]:
    """The proxy endpoints by path.

    FastAPI's own way to a handler costs a third of a cached request (telemetry, body limit, exit stacks), and none of it is for them.
    """
    return {path.encode(): _proxy(gateway, endpoint) for path, endpoint in PATHS.items()}


def _proxy(gateway: Gateway, endpoint: Endpoint) -> Completions:
    config = gateway.config
    return Completions(
        endpoint,
        gateway.guard.gate,
        gateway.guard.limits,
        gateway.memory.repeats,
        gateway.decider,
        gateway.executor,
        Plans(gateway.fleet, gateway.routes, gateway.threads, gateway.metrics),
        Rounds(gateway.executor, gateway.fleet, clock=time.perf_counter),
        gateway.bookkeeper,
        gateway.deadlines,
        Settings(config.server.max_body_bytes, config.server.write_seconds, config.ledger.prompts),
        gateway.tracing,
        clock=time.perf_counter,
        new_id=gateway.ids,
    )

"""From the models of a configuration to the fleet: pools, backends, how these are called, watched and found."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

from backends.api import Header, Timeouts, Transport
from backends.breaker import Breaker
from backends.concurrency import GradientLimit, Limit, StaticLimit
from backends.deadlines import Deadlines
from backends.ejection import Bounds as EjectionBounds
from backends.ejection import Ejections
from backends.health import HealthChecker, Thresholds
from backends.http1 import Http1Transport
from backends.load import Loads
from backends.pool import Backend, Pool
from backends.residency.driver import Driver
from backends.roster import Found, Roster
from backends.scrape import Scrapers
from gateway.build_residency import build_driver
from gateway.config import Config
from gateway.fleet import Fleet, Hedge, RunningMean, Served, TokenEstimate
from gateway.flow.execute import Place
from gateway.guard.admission import Admission
from gateway.guard.callers import Priority
from gateway.guard.lines import Bounds
from gateway.parts import Parts
from gateway.sections.admission import AdmissionSection
from gateway.sections.balancing import build_chooser
from gateway.sections.containment import EjectionSection, HedgingSection
from gateway.sections.discovery import build_source
from gateway.sections.models import ModelSection, TimeoutsSection
from routers.api import Model, Price

HERE = Path()
Ejected = Callable[[str, str], None]


def _untold(model: str, backend: str) -> None:
    """Nobody wants to know of ejections."""


def build_fleet(
    config: Config, deadlines: Deadlines, rng: Random, parts: Parts | None = None, folder: Path = HERE, ejected: Ejected = _untold
) -> Fleet:
    """All models of a configuration. `deadlines`: one timer for all their calls. `parts`: what a fleet before may leave to this one.

    `folder`: where files that the configuration names are looked for. `ejected`: called with the model and the backend's name each time
    that one is ejected from its pool.
    """
    parts = parts or Parts()
    loads = parts.get("loads", config.balancing.stale_seconds, lambda: Loads(config.balancing.stale_seconds))
    builder = _Builder(config, deadlines, rng, parts, folder, loads, ejected)
    served = {section.name: builder.served(section) for section in config.models}
    pools = tuple(one.pool for one in served.values())
    parts.get("scrapers", (pools, config.balancing.scrape_seconds, config.health.timeout_seconds), partial(_scrapers, pools, config, rng))
    drivers = tuple(_drivers(config, served, rng, parts))
    return Fleet(served, parts.get("answers", None, RunningMean), parts.get("token estimate", None, TokenEstimate), drivers)


def _drivers(config: Config, served: Mapping[str, Served], rng: Random, parts: Parts) -> Iterator[Driver]:
    """Who wakes and puts to sleep the models that share GPUs."""
    for section in config.residency:
        backends = {name: served[name].pool.backends for name in section.models}
        make = partial(build_driver, section, backends, time.monotonic, rng)
        yield parts.get(("residency", *section.models), (section, tuple(backends.values())), make)


@asynccontextmanager
async def discovered(fleet: Fleet, seconds: float = 10) -> AsyncIterator[None]:
    """Within this, backends are found, and models that take turns are woken. Begins when every roster has heard of its source, or after
    so long.

    For commands; in a gateway rosters run as services.
    """
    fleet.take_turns()
    rosters = [served.roster for served in fleet if served.roster is not None]
    tasks = [asyncio.create_task(work) for work in [*(one.run() for one in rosters), *(one.run() for one in fleet.drivers)]]
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.gather(*(roster.spoken() for roster in rosters))
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _scrapers(pools: Collection[Pool], config: Config, rng: Random) -> Scrapers:
    def backends() -> list[Backend]:
        return [backend for pool in pools for backend in pool.backends]

    interval, timeout = config.balancing.scrape_seconds, config.health.timeout_seconds
    return Scrapers(backends, interval=interval, timeout=timeout, rng=rng, clock=time.monotonic)


def build_admission(config: Config, clock: Callable[[], float], parts: Parts) -> Admission[Place]:
    """The lines before the backends. They hear of free places from `connect`."""
    queue, share = config.admission.queue, config.admission.batch_share
    bounds: dict[Priority, Bounds] = {
        "interactive": Bounds(queue.interactive.size, queue.interactive.max_wait_seconds),
        "batch": Bounds(queue.batch.size, queue.batch.max_wait_seconds),
    }
    return parts.get("admission", (queue, share), lambda: Admission[Place](bounds, share, clock=clock))


def connect(fleets: Collection[Fleet], admissions: Collection[Admission[Place]]) -> None:
    """Whoever waits in one of the admissions hears of each backend of the fleets that has become free."""
    for fleet in fleets:
        fleet.take_turns()
        for served in fleet:
            served.pool.tell(_bell(served.model.name, tuple(admissions)))


def _bell(model: str, admissions: Collection[Admission[Place]]) -> Callable[[], None]:
    def ring() -> None:
        for admission in admissions:
            admission.freed(model)

    return ring


@dataclass(frozen=True, slots=True)
class _Builder:
    config: Config
    deadlines: Deadlines
    rng: Random
    parts: Parts
    folder: Path
    loads: Loads
    ejected: Ejected

    def served(self, section: ModelSection) -> Served:
        config, parts = self.config, self.parts
        price = None if section.price is None else Price(**section.price.model_dump())
        model = Model(section.name, price, section.context_window, frozenset(section.capabilities), section.description)
        headers: tuple[Header, ...] = ()
        if section.api_key is not None:
            headers = ((b"authorization", b"Bearer " + section.api_key.get_secret_value().encode()),)
        pool, roster = self.pool(section, headers)
        answers = parts.get(("answers", model.name), None, RunningMean)
        hedge = parts.get(("hedge", model.name), config.hedging, lambda: _hedge(config.hedging))
        timeouts = _timeouts(section.timeouts or config.timeouts)
        return Served(model, section.served_as or section.name, pool, headers, timeouts, answers, hedge, roster)

    def pool(self, section: ModelSection, headers: tuple[Header, ...]) -> tuple[Pool, Roster | None]:
        """The backends that the file names, and whoever finds more of them."""
        config, parts, name = self.config, self.parts, section.name
        ejections = parts.get(("ejections", name), config.ejection, lambda: _ejections(config.ejection, self.rng))

        def make(url: str) -> Backend:
            transport = self.transport(section, url)
            breaker = Breaker(
                config.breaker.failures, pause=config.breaker.pause_seconds, cap=config.breaker.max_pause_seconds, rng=self.rng
            )
            standing = ejections.join(breaker, partial(self.ejected, name, urlsplit(url).netloc))
            limit, load = _limit(config.admission), self.loads.of(url)
            return Backend(name, url, section.served_as or name, transport, breaker, headers, limit, standing, load)

        admission = (config.admission.max_inflight, config.admission.adaptive)
        settings = (section.served_as, section.transport, headers, config.breaker, ejections, admission, self.loads)
        backends = tuple(parts.get(("backend", name, url), settings, partial(make, url)) for url in section.backends)
        for backend in backends:
            checker = parts.get(("health", name, backend.url), (backend, config.health), partial(self.checker, backend))
            backend.checks = checker
        scorers = section.balancing.scorers if section.balancing is not None else config.balancing.scorers
        chooser = parts.get(("chooser", name), scorers, lambda: build_chooser(scorers, self.rng, time.monotonic))
        waits = config.health.wait_while_loading
        found = (section.discovery, settings, config.health) if section.discovery is not None else None
        pool = parts.get(("pool", name), (backends, chooser, ejections, waits, found), lambda: Pool(backends, chooser, ejections, waits))
        if section.discovery is None:
            return pool, None
        return pool, parts.get(("roster", name), (pool, self.folder), lambda: self.roster(section, pool, make))

    def roster(self, section: ModelSection, pool: Pool, make: Callable[[str], Backend]) -> Roster:
        assert section.discovery is not None
        source = build_source(section.discovery, section.name, self.folder, self.rng)
        found = self.parts.get(("found", section.name), (section.discovery, self.folder), Found)

        async def watch(backend: Backend) -> None:
            checker = self.checker(backend)
            backend.checks = checker
            await checker.run()

        return Roster(pool, source, make, watch, found=found)

    def checker(self, backend: Backend) -> HealthChecker:
        health = self.config.health
        thresholds = Thresholds(health.late_checks, health.down_checks, health.up_checks)
        interval, timeout = health.interval_seconds, health.timeout_seconds
        return HealthChecker(backend, interval=interval, timeout=timeout, rng=self.rng, thresholds=thresholds)

    def transport(self, section: ModelSection, url: str) -> Transport:
        def make() -> Transport:
            if section.transport == "httpx":
                from backends.httpx_transport import HttpxTransport

                return HttpxTransport(url)
            return Http1Transport(url, deadlines=self.deadlines)

        if url in section.backends:
            return self.parts.get(("transport", section.name, url), section.transport, make)
        return make()  # found: its roster closes it


def _limit(section: AdmissionSection) -> Limit | None:
    if section.max_inflight == "adaptive":
        adaptive = section.adaptive
        return GradientLimit(initial=adaptive.initial, minimum=adaptive.min, maximum=adaptive.max, tolerance=adaptive.tolerance)
    return None if section.max_inflight is None else StaticLimit(section.max_inflight)


def _ejections(section: EjectionSection, rng: Random) -> Ejections:
    bounds = EjectionBounds(
        failures=section.failures,
        unreachable=section.unreachable,
        seconds=section.seconds,
        cap=section.max_seconds,
        share=section.max_percent / 100,
        panic=section.panic_percent / 100,
        window=section.window_seconds,
        volume=section.min_requests,
        hosts=section.min_backends,
        factor=section.deviations,
    )
    return Ejections(bounds, rng=rng)


def _hedge(section: HedgingSection) -> Hedge | None:
    return Hedge(section.quantile, section.min_delay_ms / 1000, section.whole_answers) if section.enabled else None


def _timeouts(section: TimeoutsSection) -> Timeouts:
    return Timeouts(section.connect, section.first_byte, section.idle, section.total)

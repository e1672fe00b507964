"""What a backend's checks amount to, and when it is looked at."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from random import Random

import pytest

from backends.breaker import Breaker
from backends.ejection import Ejections
from backends.fake.server import FakeServer
from backends.health import Health, HealthChecker, Thresholds, Vitals, condition
from backends.http1 import Http1Transport
from backends.pool import Backend
from backends.retry import Outcome
from tests.gateways import fake, until

Heard = tuple[Health, bool]
UP: Heard = ("up", False)
DOWN: Heard = ("down", False)
LOADING: Heard = ("loading", False)
LATE: Heard = ("down", True)


@pytest.mark.parametrize(
    ("heard", "states"),
    [
        ([UP, DOWN, UP], ["up", "down", "up"]),
        ([LOADING, LOADING, UP], ["loading", "loading", "up"]),
        ([UP, LATE, LATE, LATE, UP], ["up", "up", "up", "down", "up"]),
        ([UP, LATE, LATE, UP, LATE, LATE, UP], ["up"] * 7),
        ([LATE], ["down"]),
        ([DOWN, LOADING, DOWN], ["down", "loading", "down"]),
        ([UP, LOADING], ["up", "loading"]),
        ([LOADING, LATE, LATE], ["loading", "down", "down"]),
    ],
)
def test_one_plain_failure_counts_and_lateness_needs_three(heard: Sequence[Heard], states: list[Health]) -> None:
    vitals, found = Vitals(Thresholds()), []
    for state, late in heard:
        vitals.hear(state, "", late)
        found.append(vitals.state)
    assert found == states


def test_thresholds_in_a_row() -> None:
    vitals, found = Vitals(Thresholds(down=2, up=3)), []
    for state in ["up", "down", "up", "down", "down", "up", "up", "down", "up", "up", "up", "up"]:
        vitals.hear(state, "", False)  # type: ignore[arg-type]
        found.append(vitals.state)
    assert found == ["up", "up", "up", "up", "down", "down", "down", "down", "down", "down", "up", "up"]


def test_it_is_back_after_trouble_of_any_kind_and_only_then() -> None:
    vitals = Vitals(Thresholds())
    heard = [UP, UP, LATE, UP, UP, DOWN, UP, LOADING, UP]
    assert [vitals.hear(state, "", late) for state, late in heard] == [False, False, False, True, False, False, True, False, True]


@asynccontextmanager
async def watched(*faults: str, interval: float = 30.0, timeout: float = 0.3) -> AsyncIterator[tuple[FakeServer, Backend, HealthChecker]]:
    async with fake("small", *faults) as expert:
        backend = Backend("small", expert.url, "small", Http1Transport(expert.url), Breaker(1, pause=60.0))
        try:
            yield expert, backend, HealthChecker(backend, interval=interval, timeout=timeout, rng=Random(0))
        finally:
            await backend.transport.aclose()


async def test_a_failed_call_has_it_looked_at_soon_and_not_for_each_call() -> None:
    async with watched() as (expert, backend, checker):
        task = asyncio.create_task(checker.run())
        assert await until(lambda: backend.health == "up", 10)
        checks = len(expert.records)
        await expert.stop()
        for _ in range(50):
            backend.breaker.failed(backend.breaker.started(), "lost")
            await asyncio.sleep(0.01)
        assert await until(lambda: backend.health == "down", 10)
        assert len(expert.records) <= checks + 2
        task.cancel()


async def test_what_is_not_up_is_looked_at_each_second_whatever_the_interval() -> None:
    async with watched("loading:0.5", interval=3600) as (_, backend, checker):
        task = asyncio.create_task(checker.run())
        assert await until(lambda: backend.health == "loading", 10)
        assert await until(lambda: backend.health == "up", 10)
        assert await until(lambda: checker.next_at > asyncio.get_running_loop().time() + 1000, 10)
        task.cancel()


async def test_back_in_health_it_is_probed_at_once() -> None:
    async with watched() as (expert, backend, checker):
        told: list[bool] = []
        await checker.check()
        backend.freed = lambda: told.append(backend.usable())
        expert.free.clear()
        for _ in range(3):
            backend.breaker.failed(backend.breaker.started(), "first byte timeout")
            await checker.check()
        assert (backend.health, backend.usable()) == ("down", False)
        expert.free.set()
        await checker.check()
        assert (backend.health, backend.breaker.state) == ("up", "open")
        assert told[-1], "whoever waits hears of it"
        backend.breaker.started()
        assert backend.breaker.state == "half_open"
        assert not backend.usable(), "one probe, and no herd"


async def test_a_server_that_answers_calls_is_busy_and_not_down() -> None:
    async with watched() as (expert, backend, checker):
        await checker.check()
        expert.free.clear()

        async def work() -> None:
            await asyncio.sleep(0.1)
            backend.breaker.answered(backend.breaker.started())

        for _ in range(6):
            await asyncio.gather(checker.check(), work())
            assert backend.health == "up"
        expert.free.set()


def test_its_condition_in_one_word() -> None:
    now = 100.0

    def clock() -> float:
        return now

    pool = Ejections(clock=clock, rng=Random(0))
    backends = []
    for port in (1, 2):
        url = f"http://127.0.0.1:{port}/v1"
        backends.append(Backend("small", url, "small", Http1Transport(url), Breaker(5, clock=clock, rng=Random(0))))
    members = [pool.join(backend.breaker) for backend in backends]

    def look(place: int) -> tuple[str, str, int, float | None]:
        found = condition(backends[place], members[place], 105.0, now)
        return found.state, found.why, found.ejections, found.next_probe

    for backend in backends:
        backend.since = 50.0
    assert look(0) == ("unknown", "", 0, 105.0)
    backends[0].health = "up"
    assert condition(backends[0], members[0], 105.0, now).since == 100.0
    backends[0].breaker.rest(3.0)
    assert look(0)[0] == "resting"
    assert look(0)[3] == 103.0
    now = 104.0
    for place in (0, 1):
        for _ in range(5):
            members[place].finished(Outcome(status=500), backends[place].breaker.started())
    assert look(0)[:3] == ("ejected", "5 failures in a row, the last: status 500", 1)
    assert look(1)[0] == "open"
    assert 134.0 <= (look(0)[3] or 0) <= 137.0
    assert 104.8 <= (look(1)[3] or 0) <= 105.2
    backends[1].health, backends[1].why = "down", "no answer"
    assert look(1) == ("down", "no answer", 0, 105.0)
    now = 200.0
    era = backends[0].breaker.started()
    assert look(0)[0] == "half_open"
    members[0].finished(Outcome(status=200), era)
    assert look(0) == ("up", "", 1, 105.0)

"""The rules of allowances: in this process with a clock of the test's own, and the same in Redis."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.errors import GatewayError
from gateway.guard.buckets import KEPT, Buckets
from gateway.guard.callers import Allowance, Caller
from gateway.guard.limits import Grant, Limits
from gateway.guard.verdicts import pico
from gateway.memory.store import Store
from tests.gateways import pair, until
from tests.redis_servers import KINDS, RedisServer, redis_server


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def caller(**bounds: float) -> Caller:
    return Caller("key_1", "test", allowance=Allowance(**bounds))  # type: ignore[arg-type]


@given(st.integers(1, 100), st.lists(st.floats(0, 30), min_size=1, max_size=200))
def test_no_minute_sees_more_than_the_bucket_and_what_fills_it(rpm: int, pauses: list[float]) -> None:
    clock, who = Clock(), caller(rpm=rpm)
    buckets = Buckets(1, clock, lambda: 0.0)
    admitted: list[float] = []
    for number, pause in enumerate(pauses):
        clock.now += pause
        verdict = buckets.reserve(who, 1, 0, str(number))
        if verdict.refused is None:
            admitted.append(clock.now)
        else:
            assert verdict.retry_after > 0
            clock.now += verdict.retry_after
            assert buckets.reserve(who, 1, 0, f"{number}b").refused is None, "Retry-After tells the truth"
            admitted.append(clock.now)
    for start in admitted:
        within = sum(start <= moment < start + 60 for moment in admitted)
        assert within <= 2 * rpm
        assert sum(start <= moment < start + 1e-6 for moment in admitted) <= rpm


@given(st.integers(1, 10), st.floats(0.001, 10), st.lists(st.floats(0.0001, 5), max_size=50))
def test_a_budget_is_never_exceeded(share: int, budget: float, costs: list[float]) -> None:
    who = caller(budget_usd=budget)
    buckets = Buckets(share, Clock(), lambda: 0.0)
    spent = 0
    for number, cost in enumerate(costs):
        verdict = buckets.reserve(who, 1, pico(cost), str(number))
        if verdict.refused is None:
            buckets.settle(who, str(number), 1, 1, pico(cost) // 2)
            spent += pico(cost) // 2
        else:
            assert verdict.refused == "budget"
            assert pico(cost) > verdict.left
    assert spent <= pico(budget) // share


def test_the_clock_of_the_wall_may_jump() -> None:
    clock, wall, who = Clock(), Clock(), caller(rpm=1)
    buckets = Buckets(1, clock, wall)
    assert buckets.reserve(who, 1, 0, "a").refused is None
    for jump in (10**9, -(10**9)):
        wall.now += jump
        assert buckets.reserve(who, 1, 0, "b").refused == "requests", "only the monotonic clock counts"
    clock.now += 60
    assert buckets.reserve(who, 1, 0, "c").refused is None


def test_a_new_window_starts_anew() -> None:
    wall, who = Clock(), caller(budget_usd=1.0)
    buckets = Buckets(1, Clock(), wall)
    assert buckets.reserve(who, 1, pico(0.9), "a").refused is None
    buckets.settle(who, "a", 1, 1, pico(0.9))
    assert buckets.reserve(who, 1, pico(0.9), "b").refused == "budget"
    wall.now += 40 * 86_400
    assert buckets.reserve(who, 1, pico(0.9), "c").refused is None


def of(name: str, budget: float, window: str = "month") -> Caller:
    return Caller(name, "test", allowance=Allowance(budget_usd=budget, window=window))  # type: ignore[arg-type]


@pytest.mark.parametrize("share", [1, 4])
def test_a_budget_is_nearly_spent_when_a_tenth_is_left(share: int) -> None:
    buckets, who = Buckets(share, Clock(), lambda: 0.0), of("ann", 1.0)
    part = pico(1.0) // share
    buckets.reserve(who, 1, part, "a")
    assert buckets.nearly_spent == 0, "what is only held counts as left"
    buckets.settle(who, "a", 1, 1, part * 8 // 10)
    assert buckets.nearly_spent == 0
    buckets.reserve(who, 1, part // 10, "b")
    buckets.settle(who, "b", 1, 1, part // 10)
    assert buckets.nearly_spent == 1
    buckets.reserve(who, 1, part // 10, "c")
    buckets.settle(who, "c", 1, 1, part // 10)
    assert buckets.nearly_spent == 1, "spent is nearly spent"
    raised = of("ann", 10.0)
    buckets.reserve(raised, 1, 0, "d")
    buckets.settle(raised, "d", 1, 1, 0)
    assert buckets.nearly_spent == 0


def test_what_redis_says_of_a_budget_counts() -> None:
    buckets, who = Buckets(2, Clock(), lambda: 0.0), of("ann", 1.0)
    buckets.learn(who, pico(0.05), pico(0.5))
    assert buckets.nearly_spent == 0
    buckets.learn(who, pico(0.05), pico(0.05))
    assert buckets.nearly_spent == 1
    buckets.learn(who, pico(0.9), 0)
    assert buckets.nearly_spent == 0
    buckets.learn(caller(rpm=1), -1)
    assert buckets.nearly_spent == 0


def test_budgets_of_a_window_that_is_over_are_nearly_spent_no_more() -> None:
    wall = Clock()
    buckets = Buckets(1, Clock(), wall)
    for name, kind in (("ann", "day"), ("bob", "month")):
        buckets.learn(of(name, 1.0, kind), 0)
    assert buckets.nearly_spent == 2
    wall.now += 86_400
    assert buckets.nearly_spent == 1
    wall.now += 40 * 86_400
    assert buckets.nearly_spent == 0


def test_budgets_of_forgotten_callers_are_not_counted() -> None:
    buckets = Buckets(1, Clock(), lambda: 0.0)
    for number in range(KEPT + 10):
        buckets.learn(of(f"key_{number}", 1.0), 0)
    assert (len(buckets), buckets.nearly_spent) == (KEPT, KEPT)


async def test_prometheus_sees_how_many_budgets_are_nearly_spent() -> None:
    async with pair() as running:
        assert "pointsman_budgets_nearly_spent 0.0" in (await running.client.get("/metrics")).text
        running.gateway.guard.buckets.learn(of("ann", 1.0), 0)
        assert "pointsman_budgets_nearly_spent 1.0" in (await running.client.get("/metrics")).text


@pytest.fixture(scope="module", params=KINDS)
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    with redis_server(request.param) as found:
        yield found


def limits(store: Store | None) -> Limits:
    ids = iter(range(10**9))
    clock = Clock()
    buckets = Buckets(1, clock, lambda: 0.0)
    return Limits(
        store,
        buckets,
        hold_seconds=900,
        clock=clock,
        wall_clock=lambda: 0.0,
        new_id=lambda: f"r{next(ids)}",
        local_used=lambda: None,
    )


FIFTIES = st.integers(0, 10).map(lambda count: 50 * count)
"""Redis' clock goes on while a test runs: of whole fifties, what comes back in three seconds decides nothing."""

STEPS = st.lists(st.tuples(FIFTIES.filter(bool), FIFTIES, st.sampled_from(["keep", "settle", "release"])), max_size=25)


async def run(found: Limits, who: Caller, steps: list[tuple[int, int, str]], store: Store | None) -> list[str]:
    """What becomes of each step: `ok`, or the bound that refused it."""
    said = []
    for tokens, used, then in steps:
        try:
            grant: Grant = await found.reserve(who, tokens, tokens / 1000)
        except GatewayError as error:
            said.append(error.message.split(";")[0])
            continue
        said.append("ok")
        if then == "settle":
            found.settle(grant, used, used / 1000)
        elif then == "release":
            found.release(grant)
        assert store is None or await until(lambda: store.pending == 0)
    return said


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_redis_and_this_process_keep_the_same_rules(server: RedisServer, steps: list[tuple[int, int, str]]) -> None:
    async def both() -> None:
        server.command("FLUSHALL")
        store = Store(server.url, timeout=2)
        work = asyncio.create_task(store.run())
        who = caller(rpm=12, tpm=900, budget_usd=1.2)
        assert await run(limits(store), who, steps, store) == await run(limits(None), who, steps, None)
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        await store.aclose()

    asyncio.run(both())


async def test_a_settlement_that_is_sent_twice_counts_once(server: RedisServer) -> None:
    server.command("FLUSHALL")
    store = Store(server.url, timeout=2)
    found, who = limits(store), caller(budget_usd=1.0, tpm=1000)
    grant = await found.reserve(who, 10, 0.5)
    work = asyncio.create_task(store.run())
    for _ in range(3):
        found.settle(grant, 5, 0.25)
    assert await until(lambda: store.pending == 0)
    (name,) = server.command("KEYS", "*:budget:*")
    assert [int(v) for v in server.command("HMGET", name, "spent", "held")] == [pico(0.25), 0]
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    await store.aclose()


async def test_the_clock_of_the_server_was_set_back(server: RedisServer) -> None:
    server.command("FLUSHALL")
    store = Store(server.url, timeout=2)
    found, who = limits(store), caller(rpm=60)
    far = (int(server.command("TIME")[0]) + 10**6) * 10**6
    server.command("SET", store.tagged(who.id, "requests"), str(far))
    with pytest.raises(GatewayError) as refused:
        await found.reserve(who, 1, None)
    assert refused.value.retry_after is not None
    assert math.ceil(refused.value.retry_after) <= 1, "at most a full bucket is owed"
    await store.aclose()

"""Who takes the next call; when to try again; what a health check means."""

from __future__ import annotations

import json
from random import Random

import pytest

from backends.breaker import Breaker
from backends.chooser import Chooser
from backends.ejection import Ejections
from backends.health import judge
from backends.http1 import Http1Transport
from backends.pool import Backend, Pool
from backends.retry import Outcome, RetryBudget, delay, is_retryable, parse_retry_after


def backend(port: int, failures: int = 2) -> Backend:
    url = f"http://127.0.0.1:{port}/v1"
    return Backend("small", url, "small", Http1Transport(url), Breaker(failures, clock=lambda: 0.0, rng=Random(0)))


def test_the_less_busy_of_two_takes_it() -> None:
    pool = Pool([backend(1), backend(2), backend(3)], Chooser([], Random(0)))
    pool.backends[0].inflight = 100
    picked = [pool.pick() for _ in range(300)]
    assert pool.backends[0] not in picked
    assert set(picked) == {pool.backends[1], pool.backends[2]}
    assert pool.load() == pytest.approx(100 / 3)


def test_the_unusable_and_the_excluded_are_left_out() -> None:
    pool = Pool([backend(1), backend(2)], Chooser([], Random(0)))
    pool.backends[0].health = "loading"
    assert {pool.pick() for _ in range(20)} == {pool.backends[1]}
    assert pool.pick(excluded={pool.backends[1]}) is None
    pool.backends[1].health = "down"
    assert pool.pick() is None
    assert not pool.usable()
    assert pool.load() is None


class Failing:
    """Backends that share a pool and a clock."""

    def __init__(self, size: int) -> None:
        self.now = 0.0
        ejections = Ejections(clock=self.clock, rng=Random(0))
        self.backends = [self._backend(port, ejections) for port in range(1, size + 1)]
        self.pool = Pool(self.backends, Chooser([], Random(0)), ejections)

    def clock(self) -> float:
        return self.now

    def _backend(self, port: int, ejections: Ejections) -> Backend:
        url = f"http://127.0.0.1:{port}/v1"
        breaker = Breaker(5, clock=self.clock, rng=Random(port))
        return Backend("small", url, "small", Http1Transport(url), breaker, standing=ejections.join(breaker))

    def fail(self, *places: int) -> None:
        for place in places:
            for _ in range(5):
                era = self.backends[place].started()
                self.backends[place].finished(Outcome(kind="lost"), era=era)


def test_when_every_breaker_is_open_the_least_bad_is_tried_now_and_then() -> None:
    failing = Failing(2)
    pool = failing.pool
    failing.fail(0, 1)
    assert [one.breaker.state for one in pool.backends] == ["open", "open"]
    assert (pool.pick(), pool.least_bad(), pool.in_service(), pool.serves()) == (None, None, False, False)
    assert pool.usable(), "some answer may come yet"
    failing.now = 0.3
    least_bad = min(pool.backends, key=lambda one: one.breaker.retry_at)
    assert pool.least_bad() is least_bad
    era = least_bad.started()
    other = pool.least_bad()
    assert other is not least_bad, "one call at a time"
    least_bad.answered(0.1, Outcome(status=200), era)
    assert (pool.pick(), pool.serves()) == (least_bad, True)


def test_in_panic_ejections_are_probed_early() -> None:
    failing = Failing(3)
    failing.fail(0)
    failing.now = 3.0
    assert failing.backends[0].standing.ejected
    assert {failing.pool.pick() for _ in range(50)} == set(failing.backends[1:])
    failing.backends[1].health = failing.backends[2].health = "down"
    assert failing.pool.pick() is failing.backends[0]
    era = failing.backends[0].started()
    assert failing.pool.pick() is None, "one probe"
    failing.backends[0].finished(Outcome(status=200), era=era)
    assert failing.pool.pick() is failing.backends[0]


def test_a_client_error_neither_blames_nor_acquits() -> None:
    failing = Failing(2)
    failing.fail(0)
    failing.now = failing.backends[0].breaker.retry_at
    for status in (400, 429):
        era = failing.backends[0].started()
        failing.backends[0].answered(0.1, Outcome(status=status), era)
        assert failing.backends[0].breaker.state == "half_open"
        failing.backends[0].finished(Outcome(status=status), era=era)
        assert failing.backends[0].usable(), "the next one probes"


@pytest.mark.parametrize(
    ("outcome", "blamed", "retryable"),
    [
        (Outcome(status=200), False, False),
        (Outcome(status=400), False, False),
        (Outcome(status=404), False, False),
        (Outcome(status=408), False, True),
        (Outcome(status=429), False, True),
        (Outcome(status=500), True, True),
        (Outcome(status=501), True, False),
        (Outcome(status=503), True, True),
        (Outcome(kind="connect"), True, True),
        (Outcome(kind="first_byte_timeout"), True, True),
        (Outcome(kind="stale"), False, True),
        (Outcome(cancelled=True), False, False),
    ],
)
def test_who_is_to_blame_and_what_may_be_tried_again(outcome: Outcome, blamed: bool, retryable: bool) -> None:
    assert outcome.failed == blamed
    assert is_retryable(outcome) == retryable
    one = backend(1, failures=1)
    one.started()
    one.finished(outcome)
    assert one.inflight == 0
    assert (one.breaker.state == "open") == blamed


def test_delays_grow_within_bounds_and_obey_the_backend_up_to_a_cap() -> None:
    rng = Random(0)
    for attempt in range(1, 12):
        assert 0 < delay(attempt, None, rng) <= 1.0
    assert delay(1, 2.0, rng) == 2.0
    assert delay(1, 3600.0, rng) == 5.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("3", 3.0), (" 0 ", 0.0), ("", None), ("-1", None), ("soon", None), ("Thu, 01 Jan 1970 00:01:40 GMT", 90.0), ("9" * 400, 999999999.0)],
)
def test_retry_after(value: str, seconds: float | None) -> None:
    assert parse_retry_after(value, 10.0) == seconds


def test_the_budget_bounds_retries_and_is_given_back() -> None:
    budget = RetryBudget(0.2, 1)
    with budget.request() as one, budget.request() as two:
        assert one.acquire()
        assert one.acquire(), "a request that has its place keeps it"
        assert not two.acquire()
    assert (budget.active, budget.retrying) == (0, 0)
    with budget.request() as three:
        assert three.acquire()


@pytest.mark.parametrize(
    ("health", "models", "body", "state"),
    [
        (200, 200, {"data": [{"id": "small"}]}, "up"),
        (404, 200, {"data": [{"id": "small"}]}, "up"),
        (200, 200, {"data": [{"id": "other"}]}, "loading"),
        (200, 200, {"data": []}, "loading"),
        (200, 503, {}, "loading"),
        (200, 200, [], "down"),
        (503, 200, {"data": [{"id": "small"}]}, "down"),
        (None, 200, {}, "down"),
        (200, None, {}, "down"),
    ],
)
def test_what_a_check_means(health: int | None, models: int | None, body: object, state: str) -> None:
    assert judge(health, models, json.dumps(body).encode(), "small")[0] == state


async def test_a_busy_server_is_not_down_for_one_late_answer() -> None:
    from backends.health import PATIENCE, HealthChecker
    from tests.gateways import fake

    async with fake("small") as expert:
        one = Backend("small", expert.url, "small", Http1Transport(expert.url), Breaker())
        checker = HealthChecker(one, interval=1, timeout=0.1, rng=Random(0))
        await checker.check()
        assert one.health == "up"
        stopped = Backend("small", "http://127.0.0.1:1/v1", "small", Http1Transport("http://127.0.0.1:1/v1"), Breaker())
        await HealthChecker(stopped, interval=1, timeout=0.1, rng=Random(0)).check()
        assert stopped.health == "down", "a refused connection is plain"
        expert.free.clear()
        for _ in range(PATIENCE - 1):
            await checker.check()
            assert one.health == "up"
        await checker.check()
        assert one.health == "down"
        expert.free.set()
        await checker.check()
        assert one.health == "up"
        await one.transport.aclose()

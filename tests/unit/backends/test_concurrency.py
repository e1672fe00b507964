"""Limits: hypothesis feeds them anything, and a simulated server shows where they settle."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.concurrency import MIN_SECONDS, SAMPLES, GradientLimit, Limit, StaticLimit


class Server:
    """`places` calls run at once, the others wait in line; a call's first token comes `first` seconds after its start, its last one
    after `whole` on average. Calls come at random, `rate` a second; one that finds no room goes away.
    """

    def __init__(self, places: int, first: float, whole: float, rate: float, initial: int = 32) -> None:
        self.places, self.first, self.whole, self.rate = places, first, whole, rate
        self.now = 0.0
        self.done = 0
        self.limits: list[float] = []
        self.waits: deque[float] = deque(maxlen=200)
        self.limit = GradientLimit(initial, 4, 256, clock=lambda: self.now)
        self._rng = Random(1)
        self._events: list[tuple[float, int, str, float]] = []
        self._numbers = itertools.count()
        self._line: deque[float] = deque()
        self._running = 0
        self._inflight = 0
        self._later(0.0, "arrive")

    def run(self, seconds: float) -> Server:
        end = self.now + seconds
        while self._events[0][0] < end:
            self.now, _, kind, came = heapq.heappop(self._events)
            getattr(self, f"_{kind}")(came)
        self.now = end
        return self

    def _later(self, seconds: float, kind: str, came: float = 0.0) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._numbers), kind, came))

    def _arrive(self, came: float) -> None:
        self._later(self._rng.expovariate(self.rate), "arrive")
        if self.limit.has_room(self._inflight):
            self._inflight += 1
            self._line.append(self.now)
            self._start()

    def _start(self) -> None:
        while self._line and self._running < self.places:
            self._running += 1
            first = self.first * self._rng.uniform(0.8, 1.2)
            self._later(first, "token", self._line.popleft())
            self._later(first + (self.whole - self.first) * self._rng.uniform(0.5, 1.5), "end")

    def _token(self, came: float) -> None:
        self.waits.append(self.now - came)
        self.limit.finished(self.now - came, self._inflight, False)
        self.limits.append(self.limit.limit or 0.0)

    def _end(self, came: float) -> None:
        self._running -= 1
        self._inflight -= 1
        self.done += 1
        self._start()

    @property
    def settled(self) -> float:
        """The mean limit of late."""
        return sum(self.limits[-300:]) / len(self.limits[-300:])


def test_a_fixed_limit() -> None:
    limit: Limit = StaticLimit(2)
    assert [limit.has_room(inflight) for inflight in (0, 1, 2, 3)] == [True, True, False, False]
    limit.finished(1.0, 1, True)
    assert limit.limit == 2
    assert StaticLimit().has_room(10**9)
    assert StaticLimit().limit is None


calls = st.tuples(st.floats(0, 10), st.none() | st.floats(0, 100), st.integers(0, 10_000), st.booleans())


@given(st.integers(1, 50), st.integers(0, 50), st.integers(1, 200), st.lists(calls, max_size=200))
def test_it_stays_within_its_bounds_whatever_comes(
    minimum: int, more: int, initial: int, heard: list[tuple[float, float | None, int, bool]]
) -> None:
    now = 0.0
    limit = GradientLimit(initial, minimum, minimum + more, clock=lambda: now)
    for pause, seconds, inflight, dropped in heard:
        now += pause
        limit.finished(seconds, inflight, dropped)
        assert limit.limit is not None
        assert minimum <= limit.limit <= minimum + more
        assert limit.has_room(minimum - 1)
        assert not limit.has_room(minimum + more)


@pytest.mark.parametrize(("places", "first", "whole"), [(16, 0.05, 0.45), (64, 0.2, 8.0), (100, 0.5, 5.0)])
def test_it_settles_where_the_server_is_full_and_hardly_anybody_waits_in_it(places: int, first: float, whole: float) -> None:
    server = Server(places, first, whole, rate=2 * places / whole).run(60 * whole)
    before = server.done
    server.run(60 * whole)
    assert 0.75 * places <= server.settled <= 1.5 * places
    assert server.done - before >= 0.85 * 60 * places
    assert sum(server.waits) / len(server.waits) <= 6 * first


def test_without_need_it_does_not_grow() -> None:
    server = Server(64, 0.05, 0.5, rate=8).run(120)
    assert server.settled == pytest.approx(32)


def test_it_finds_room_again_after_a_slow_time() -> None:
    server = Server(32, 0.1, 1.0, rate=64).run(60)
    healthy = server.settled
    server.places = 8
    server.run(60)
    assert server.settled <= 16
    server.places = 32
    server.run(120)
    assert server.settled >= 0.75 * healthy


def test_first_tokens_that_are_slower_for_good_become_the_usual_ones() -> None:
    server = Server(32, 0.1, 2.0, rate=32).run(60)
    server.first = 0.6
    server.run(300)
    before = server.done
    server.run(60)
    assert server.limit.usual_seconds == pytest.approx(0.6, rel=0.5)
    assert server.done - before >= 0.8 * 60 * 16


def test_refusals_that_come_together_count_once() -> None:
    now = 0.0
    limit = GradientLimit(100, 4, 200, clock=lambda: now)
    now = 1.0
    for _ in range(20):
        limit.finished(None, 100, True)
    assert limit.limit == pytest.approx(80)
    now += MIN_SECONDS
    limit.finished(0.1, 100, True)
    assert limit.limit == pytest.approx(64)


def test_calls_from_before_a_step_and_whole_answers_teach_nothing() -> None:
    now = 10.0
    limit = GradientLimit(8, 4, 200, clock=lambda: now)
    for _ in range(SAMPLES[1]):
        limit.finished(5.0, 8, False)
        limit.finished(None, 8, False)
    assert limit.usual_seconds is None
    now = 15.0
    for _ in range(SAMPLES[1]):
        limit.finished(4.0, 8, False)
    assert limit.usual_seconds == pytest.approx(4.0)
    assert limit.limit is not None
    assert limit.limit > 8

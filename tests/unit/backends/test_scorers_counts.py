"""Scorers that count: calls, requests, tokens, turns, adapters; and what holds for every scorer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backends.scorers.adapter import ResidentAdapter
from backends.scorers.api import Scorer, by_excess
from backends.scorers.in_flight import InFlight
from backends.scorers.load import ServerLoad
from backends.scorers.prefix import PrefixAffinity
from backends.scorers.round_robin import RoundRobin
from backends.scorers.session import StickySession
from backends.scorers.tokens import TokenWork
from backends.work import NOTHING, Work
from gateway.sections.balancing import AnyScorer
from tests.unit.backends.standins import Clock, StandIn, pools, several

ALL: dict[str, Callable[[Clock], Scorer]] = {
    "adapter": lambda clock: ResidentAdapter(clock=clock),
    "in_flight": lambda _: InFlight(),
    "load": lambda clock: ServerLoad(clock=clock),
    "prefix": lambda clock: PrefixAffinity(64, 16, clock=clock),
    "round_robin": lambda _: RoundRobin(),
    "session": lambda _: StickySession(),
    "tokens": lambda _: TokenWork(long=500),
}
WORKS = st.builds(
    Work, st.binary(max_size=400), st.integers(0, 10**6), st.integers(0, 10**5), st.none() | st.text(st.characters(), max_size=8)
)


def test_the_configuration_knows_them_all() -> None:
    sections = get_args(get_args(AnyScorer)[0])
    assert {get_args(section.model_fields["type"].annotation)[0] for section in sections} == set(ALL)


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=25)
@given(seen=st.lists(st.tuples(pools(), WORKS), min_size=1, max_size=4))
def test_an_opinion_for_each_in_0_to_1(name: str, seen: list[tuple[list[StandIn], Work]]) -> None:
    scorer = ALL[name](Clock())
    for backends, work in seen:
        opinions = scorer.score(work, backends)
        assert len(opinions) == len(backends)
        assert all(opinion is None or 0.0 <= opinion <= 1.0 for opinion in opinions)
        if isinstance(scorer, PrefixAffinity):
            scorer.chosen(work, backends[0])


def test_by_excess_only_differences_count() -> None:
    assert by_excess([0, 1, 3], 1) == [1.0, 0.5, 0.25]
    assert by_excess([100, 101, 103], 1) == [1.0, 0.5, 0.25]


def test_fewer_calls_are_better() -> None:
    assert InFlight(half=2).score(NOTHING, several(3, 4, 6, 4)) == [1.0, 0.5, 1.0]


def test_round_robin_takes_turns() -> None:
    scorer, backends = RoundRobin(), several(3)
    turns = [list(scorer.score(NOTHING, backends)).index(1.0) for _ in range(9)]
    assert Counter(turns) == {0: 3, 1: 3, 2: 3}
    assert turns[:3] == turns[3:6]


def test_requests_of_others_count_and_those_that_wait_count_more() -> None:
    clock = Clock()
    idle, running, waiting = several(3)
    idle.says(running=0, waiting=0)
    running.says(running=2, waiting=0)
    waiting.says(running=2, waiting=2)
    opinions = ServerLoad(half=2, clock=clock).score(NOTHING, [idle, running, waiting])
    assert opinions == [1.0, 0.5, 0.2]


def test_what_was_sent_since_the_reading_is_added() -> None:
    one, two = several(2)
    one.says(running=0, waiting=0)
    two.says(running=3, waiting=0)
    for _ in range(5):
        one.load.started()
    assert ServerLoad(half=2, clock=Clock()).score(NOTHING, [one, two]) == [0.5, 1.0]
    for _ in range(9):
        two.load.finished()
    assert ServerLoad(half=2, clock=Clock()).score(NOTHING, [one, two]) == [pytest.approx(2 / 7), 1.0], "fewer than none are none"


def test_a_full_cache_is_avoided() -> None:
    one, two = several(2)
    one.says(running=5, waiting=0, kv_cache=1.0)
    two.says(running=9, waiting=0, kv_cache=0.5)
    opinions = ServerLoad(clock=Clock()).score(NOTHING, [one, two])
    assert opinions[0] == 0.0
    assert opinions[1] is not None
    assert opinions[1] > 0


def test_no_reading_and_a_stale_one_are_no_opinion() -> None:
    clock = Clock()
    fresh, stale, silent, partial = several(4)
    stale.says(0.0, running=0, waiting=0)
    clock.now = 20.0
    fresh.says(20.0, running=9, waiting=0)
    partial.says(20.0, kv_cache=0.1)
    scorer = ServerLoad(clock=clock)
    assert scorer.score(NOTHING, [fresh, stale, silent, partial]) == [1.0, None, None, None]
    assert scorer.score(NOTHING, [stale, silent]) == [None, None]


def test_a_resident_adapter_before_a_free_place_before_a_full_server() -> None:
    clock = Clock()
    there, free, full, coming, silent, plain = (StandIn(name, served_as="sql") for name in "abcdef")
    there.says(adapters=frozenset({"sql", "law"}), adapter_slots=2)
    free.says(adapters=frozenset({"law"}), adapter_slots=2)
    full.says(adapters=frozenset({"law", "chat"}), adapter_slots=2)
    coming.says(adapters=frozenset({"law", "chat"}), adapter_slots=2)
    coming.inflight = 1
    plain.says(running=1)
    scorer = ResidentAdapter(clock=clock)
    assert scorer.score(NOTHING, [there, free, full, coming, silent, plain]) == [1.0, 0.5, 0.0, 1.0, None, None]
    clock.now = 60.0
    assert scorer.score(NOTHING, [there, free]) == [None, None]


def test_tokens_count_instead_of_calls() -> None:
    one, two = several(2, 1, 8)
    one.inflight_tokens, two.inflight_tokens = 12_000, 800
    opinions = TokenWork(half=2000, lane=0).score(Work(tokens=100), [one, two])
    assert opinions[0] < 0.2  # type: ignore[operator]
    assert opinions[1] == 1.0


def lane(scorer: TokenWork, backends: list[StandIn]) -> list[str]:
    """Who takes long prompts."""
    opinions = scorer.score(Work(tokens=10**6), backends)
    return [backend.name for backend, opinion in zip(backends, opinions, strict=True) if opinion]


@given(st.integers(2, 20), st.integers(1, 25), st.randoms(use_true_random=False))
def test_long_prompts_have_a_lane_that_is_the_same_everywhere_and_never_the_whole_pool(count: int, size: int, rng: object) -> None:
    backends = several(count)
    found = lane(TokenWork(lane=size), backends)
    assert len(found) == min(size, count - 1)
    shuffled = list(backends)
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    assert set(lane(TokenWork(lane=size), shuffled)) == set(found)
    left = [backend for backend in backends if backend.name != found[0]]
    if len(left) > size:
        assert set(found[1:]) <= set(lane(TokenWork(lane=size), left)), "the others stay in it when one leaves"


def test_short_prompts_take_the_lane_only_while_it_has_least_work() -> None:
    scorer, backends = TokenWork(long=1000, lane=1), several(3)
    reserved = lane(scorer, backends)[0]
    short = Work(tokens=10)
    assert set(scorer.score(short, backends)) == {1.0}
    for backend in backends:
        backend.inflight_tokens = 50_000 if backend.name == reserved else 100
    opinions = scorer.score(short, backends)
    assert [opinion == 1.0 for opinion in opinions] == [backend.name != reserved for backend in backends]
    opinions = scorer.score(Work(tokens=5000), backends)
    assert [opinion == 0.0 for opinion in opinions] == [backend.name != reserved for backend in backends]

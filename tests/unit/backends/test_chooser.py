"""Opinions weighed, ties broken by calls in flight, and learners told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.chooser import Chooser
from backends.scorers.api import Eligible, Scorer
from backends.scorers.in_flight import InFlight
from backends.scorers.prefix import PrefixAffinity
from backends.scorers.round_robin import RoundRobin
from backends.work import NOTHING, Work
from tests.unit.backends.standins import Clock, StandIn, pools, several


class Says:
    """The same opinions each time; counts how often it is asked, and keeps who was chosen."""

    def __init__(self, *opinions: float | None) -> None:
        self.opinions = opinions
        self.asked = 0
        self.told: list[str] = []

    def score(self, work: Work, backends: Sequence[Eligible]) -> Sequence[float | None]:
        self.asked += 1
        return self.opinions[: len(backends)]

    def chosen(self, work: Work, backend: Eligible) -> None:
        self.told.append(backend.name)


def chooser(*weighted: tuple[Scorer, float], seed: int = 0) -> Chooser:
    return Chooser(weighted, Random(seed))


def test_the_highest_sum_wins() -> None:
    backends = several(3)
    found = chooser((Says(1.0, 0.0, 0.6), 1.0), (Says(0.0, 1.0, 0.6), 1.0)).choose(NOTHING, backends)
    assert found is backends[2]
    found = chooser((Says(1.0, 0.0, 0.6), 3.0), (Says(0.0, 1.0, 0.6), 1.0)).choose(NOTHING, backends)
    assert found is backends[0]


def test_no_opinion_is_neither_good_nor_bad() -> None:
    backends = several(3)
    one = chooser((Says(0.2, None, 0.6), 1.0), (Says(0.5, 0.6, 0.5), 1.0))
    assert one.choose(NOTHING, backends) is backends[2], "0.4 + 0.6 for the second, 0.6 + 0.5 for the third"
    one = chooser((Says(None, None, None), 5.0), (Says(0.0, 1.0, 0.0), 1.0))
    assert one.choose(NOTHING, backends) is backends[1]


def test_of_equal_ones_the_one_with_fewer_calls_takes_it() -> None:
    backends = several(4, 3, 1, 0, 9)
    one = chooser((Says(1.0, 1.0, 0.0, 0.99), 1.0))
    found = Counter(one.choose(NOTHING, backends).name for _ in range(300))
    assert set(found) == {backends[0].name, backends[1].name}, "two of the three near ones are drawn; the busiest never wins"
    assert found[backends[1].name] > found[backends[0].name]


@pytest.mark.parametrize("weighted", [(), ((InFlight(), 1.0),), ((InFlight(), 2.0), (RoundRobin(), 0.0))])
def test_calls_in_flight_alone_are_the_power_of_two_choices(weighted: tuple[tuple[Scorer, float], ...]) -> None:
    backends = several(3, 0, 5, 9)
    one = chooser(*weighted)
    found = Counter(one.choose(NOTHING, backends).name for _ in range(3000))
    assert backends[2].name not in found, "the busiest loses each comparison"
    assert found[backends[0].name] / 3000 == pytest.approx(2 / 3, abs=0.04), "two of the three pairs have the idle one in them"
    even = several(4)
    found = Counter(one.choose(NOTHING, even).name for _ in range(4000))
    assert all(abs(count - 1000) < 150 for count in found.values())


@given(pools(), st.integers(0, 2**32))
def test_two_choices_never_take_the_busiest(backends: list[StandIn], seed: int) -> None:
    found = chooser((InFlight(), 1.0), seed=seed).choose(NOTHING, backends)
    calls = sorted(backend.inflight for backend in backends)
    assert found in backends
    assert found.inflight < calls[-1] or calls[-1] == calls[-2]


def test_the_spread_of_two_choices_is_narrow() -> None:
    backends, one = several(10), chooser((InFlight(), 1.0))
    for _ in range(1000):
        one.choose(NOTHING, backends).inflight += 1
    assert max(b.inflight for b in backends) - min(b.inflight for b in backends) <= 8


def test_a_pool_of_one_asks_nobody() -> None:
    scorer = Says(1.0, 0.0)
    one, backends = chooser((scorer, 1.0)), several(2)
    assert one.choose(NOTHING, backends[:1]) is backends[0]
    assert (scorer.asked, scorer.told) == (0, [])
    one.choose(NOTHING, backends)
    assert one.choose(NOTHING, backends[1:]) is backends[1]
    assert (scorer.asked, scorer.told) == (1, [backends[0].name, backends[1].name]), "what one of several gets for now is learned"


def test_affinity_holds_a_conversation_and_lets_go_of_a_busy_backend() -> None:
    prefix = PrefixAffinity(64, busy_calls=4, clock=Clock())
    one, backends = chooser((prefix, 2.0), (InFlight(), 1.0)), several(4)
    talk = Random(5).randbytes(4096)
    home = one.choose(Work(talk), backends)
    home.inflight = 2
    assert {one.choose(Work(talk + b"x" * 100 * turn), backends).name for turn in range(20)} == {home.name}
    assert one.remembered == len(prefix) > 0
    home.inflight = 5
    assert one.choose(Work(talk), backends) is not home


def test_new_conversations_with_one_opening_are_spread() -> None:
    prefix = PrefixAffinity(64, clock=Clock())
    one, backends = chooser((prefix, 2.0), (InFlight(), 1.0)), several(4)
    opening, rng = Random(5).randbytes(2048), Random(6)
    for _ in range(200):
        one.choose(Work(opening + rng.randbytes(2048)), backends).inflight += 1
    counts = [backend.inflight for backend in backends]
    assert max(counts) - min(counts) <= 8, counts

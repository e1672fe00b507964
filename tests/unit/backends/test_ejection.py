"""Ejections and breakers together: hypothesis drives a pool of them, a clock of our own times it."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from backends.breaker import Breaker
from backends.ejection import Bounds, Ejections
from backends.retry import Outcome

GOOD = [Outcome(status=200)]
BAD = [Outcome(status=500), Outcome(status=503), Outcome(kind="connect"), Outcome(kind="first_byte_timeout"), Outcome(kind="lost")]
NEUTRAL = [Outcome(status=400), Outcome(status=404), Outcome(status=429), Outcome(kind="stale"), Outcome(cancelled=True)]


class Peers:
    """A pool without the calls."""

    def __init__(self, size: int, bounds: Bounds | None = None) -> None:
        self.now = 1000.0
        self.pool = Ejections(bounds, clock=lambda: self.now, rng=Random(0))
        self.breakers = [Breaker(5, clock=lambda: self.now, rng=Random(place)) for place in range(size)]
        self.members = [self.pool.join(breaker) for breaker in self.breakers]

    def call(self, place: int, outcome: Outcome, times: int = 1) -> None:
        for _ in range(times):
            self.members[place].finished(outcome, self.breakers[place].started())

    @property
    def out(self) -> list[int]:
        return [place for place, member in enumerate(self.members) if member.ejected]

    @property
    def in_service(self) -> int:
        return sum(breaker.state == "closed" for breaker in self.breakers)

    def callable(self, place: int) -> bool:
        """As the pool sees it: panic ignores ejections, and nothing else."""
        in_panic = self.pool.panics(self.in_service) and self.members[place].ejected
        return self.breakers[place].allows(in_panic)


def test_whoever_wants_to_know_hears_of_each_ejection() -> None:
    peers, heard = Peers(2), []
    one = peers.pool.join(Breaker(5, clock=lambda: peers.now, rng=Random(0)), lambda: heard.append(peers.now))
    for _ in range(5):
        one.finished(Outcome(status=500))
    assert (heard, one.total) == ([1000.0], 1)
    assert not one.offend("again") or heard == [1000.0]


class Driven(RuleBasedStateMachine):
    @initialize(size=st.integers(1, 25), share=st.sampled_from([0.0, 0.1, 0.4]))
    def begin(self, size: int, share: float) -> None:
        self.peers = Peers(size, Bounds(share=share, volume=5))
        self.calls: list[tuple[int, int, bool]] = []
        self.probes: dict[int, int] = {}

    @rule(seconds=st.floats(0, 100))
    def wait(self, seconds: float) -> None:
        self.peers.now += seconds

    @rule(where=st.integers(0, 24))
    def start(self, where: int) -> None:
        place = where % len(self.peers.members)
        breaker = self.peers.breakers[place]
        if not self.peers.callable(place):
            return
        era = breaker.started()
        probe = breaker.state != "closed"
        if probe:
            assert breaker.state == "half_open"
            assert not self.peers.callable(place), "one probe at a time"
        self.calls.append((place, era, probe))

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), outcome=st.sampled_from(GOOD + BAD + NEUTRAL))
    def finish(self, data: st.DataObject, outcome: Outcome) -> None:
        place, era, probe = self.calls.pop(data.draw(st.integers(0, len(self.calls) - 1)))
        breaker, member = self.peers.breakers[place], self.peers.members[place]
        before, was_out, openings = breaker.state, member.ejected, breaker.openings
        member.finished(outcome, era)
        if outcome in NEUTRAL:
            assert (member.ejected, breaker.openings) == (was_out, openings), "no fault of the backend"
            assert breaker.state in (before, "open")
            assert (breaker.state == "closed") == (before == "closed")
        if probe and before == "half_open" and outcome in GOOD and breaker.openings == openings:
            assert breaker.state == "closed"
            assert not member.ejected

    @rule(where=st.integers(0, 24))
    def fail_until_it_is_out(self, where: int) -> None:
        place = where % len(self.peers.members)
        possible = self.peers.breakers[place].state == "closed" and self.peers.pool.has_room()
        if self.peers.breakers[place].state == "closed":
            self.peers.call(place, Outcome(status=500), 5)
            assert self.peers.breakers[place].state == "open", "a breaker opens whatever the others do"
        if possible:
            assert place in self.peers.out

    @invariant()
    def never_more_than_allowed_and_one_always(self) -> None:
        size, pool = len(self.peers.members), self.peers.pool
        assert pool.count <= pool.most <= max(1, pool.bounds.share * size)
        assert pool.count < size
        if size > 1 and pool.count == 0:
            assert pool.has_room()

    @invariant()
    def out_means_shut_for_a_bounded_time(self) -> None:
        for breaker, member in zip(self.peers.breakers, self.peers.members, strict=True):
            if member.ejected:
                assert breaker.state != "closed"
                assert breaker.retry_at - self.peers.now <= 300 * 1.1
            assert member.number <= member.total

    @invariant()
    def in_panic_an_ejection_is_no_more_than_the_breakers_own_pause(self) -> None:
        panics = self.peers.pool.panics(self.peers.in_service)
        assert panics == (self.peers.in_service * 2 < len(self.peers.members))
        self.peers.now += 37
        for place in self.peers.out:
            breaker = self.peers.breakers[place]
            assert breaker.probing or self.peers.callable(place) == (panics or breaker.allows())
        self.peers.now -= 37

    def teardown(self) -> None:
        if hasattr(self, "peers"):
            self._everyone_comes_back()

    def _everyone_comes_back(self) -> None:
        for place, era, _ in self.calls:
            self.peers.members[place].finished(Outcome(cancelled=True), era)
        self.peers.now += 400
        for place in range(len(self.peers.members)):
            assert self.peers.callable(place)
            self.peers.call(place, Outcome(status=200))
            assert self.peers.breakers[place].state == "closed"
        assert self.peers.out == []


TestEjections = Driven.TestCase


@pytest.mark.parametrize(("size", "most"), [(1, 0), (2, 1), (9, 1), (10, 1), (19, 1), (20, 2), (35, 3)])
def test_a_tenth_of_the_pool_and_one_in_any_case(size: int, most: int) -> None:
    peers = Peers(size)
    for place in range(size):
        peers.call(place, Outcome(status=500), 5)
    assert peers.out == list(range(most))
    assert [breaker.state for breaker in peers.breakers] == ["open"] * size, "the others' breakers are open too, but for a moment only"
    assert all((breaker.retry_at - peers.now > 25) == (place < most) for place, breaker in enumerate(peers.breakers))


def test_nobody_there_counts_faster_than_bad_answers() -> None:
    peers = Peers(4)
    peers.call(0, Outcome(kind="connect"), 2)
    peers.call(0, Outcome(status=500))
    peers.call(0, Outcome(kind="first_byte_timeout"))
    assert peers.out == []
    peers.call(0, Outcome(status=200))
    peers.call(0, Outcome(kind="lost"), 3)
    assert peers.out == [0]
    assert peers.breakers[0].why == "out of reach 3 times in a row, the last: lost"


def test_times_grow_with_each_ejection_and_shrink_in_service() -> None:
    peers = Peers(2)

    def eject() -> float:
        peers.call(0, Outcome(status=500), 5)
        return peers.breakers[0].retry_at - peers.now

    def mend() -> None:
        peers.now = peers.breakers[0].retry_at
        peers.call(0, Outcome(status=200))

    times = []
    for _ in range(12):
        times.append(eject())
        mend()
    assert [round(seconds / 33) for seconds in times[:4]] == [1, 2, 3, 4]
    assert all(30 * number <= seconds <= 33 * number for number, seconds in enumerate(times[:10], 1))
    assert max(times) <= 330
    peers.now += 30 * 10
    assert 60 <= eject() <= 100
    mend()
    peers.now += 3600
    assert 30 <= eject() <= 33
    assert peers.members[0].total == 14


def test_a_probe_that_fails_makes_it_longer() -> None:
    peers = Peers(3)
    peers.call(1, Outcome(kind="connect"), 3)
    peers.now = peers.breakers[1].retry_at
    assert peers.breakers[1].allows()
    peers.call(1, Outcome(kind="connect"))
    assert peers.out == [1]
    assert 60 <= peers.breakers[1].retry_at - peers.now <= 66
    assert peers.members[1].total == 2


def test_in_panic_an_outlier_is_probed_early_and_is_no_worse_for_that() -> None:
    peers = Peers(3)
    peers.call(0, Outcome(kind="connect"), 3)
    breaker, until = peers.breakers[0], peers.breakers[0].retry_at
    peers.now += 2
    assert not breaker.allows()
    assert breaker.allows(in_panic=True), "its own pause was a second"
    peers.call(0, Outcome(kind="connect"))
    assert (peers.out, peers.members[0].number, breaker.retry_at) == ([0], 1, until)
    assert not breaker.allows(in_panic=True), "and is two now"
    peers.now += 3
    peers.call(0, Outcome(cancelled=True))
    assert (breaker.state, breaker.allows(), breaker.allows(in_panic=True)) == ("open", False, True)
    peers.call(0, Outcome(status=200))
    assert (peers.out, breaker.state) == ([], "closed")


def test_an_answer_that_has_begun_brings_it_back_and_its_failure_takes_it_out_again() -> None:
    peers = Peers(3)
    peers.call(1, Outcome(status=500), 5)
    peers.now = peers.breakers[1].retry_at
    era = peers.breakers[1].started()
    peers.members[1].answered(era)
    assert (peers.out, peers.breakers[1].state) == ([], "closed")
    peers.members[1].finished(Outcome(kind="lost"), era)
    assert peers.out == [1]


def test_what_began_before_tells_nothing_afterwards() -> None:
    peers = Peers(3)
    eras = [peers.breakers[1].started() for _ in range(20)]
    for era in eras[:5]:
        peers.members[1].finished(Outcome(kind="first_byte_timeout"), era)
    assert peers.out == [1]
    peers.members[1].finished(Outcome(status=200), eras[5])
    assert peers.out == [1], "an answer from before says nothing of the backend now"
    peers.now = peers.breakers[1].retry_at
    peers.call(1, Outcome(status=200))
    for era in eras[6:]:
        peers.members[1].finished(Outcome(kind="first_byte_timeout"), era)
    assert peers.out == [], "calls that were frozen with it are no news"


def rates(peers: Peers, shares: Sequence[float], calls: int = 40) -> None:
    """Calls of which a share goes well; never five failures in a row."""
    for turn in range(calls):
        for place, share in enumerate(shares):
            good = int((turn + 1) * share) > int(turn * share)
            peers.call(place, Outcome(status=200) if good else Outcome(status=500))
    peers.now += 11
    peers.call(0, Outcome(status=200))


@pytest.mark.parametrize(
    ("shares", "out"),
    [
        ([1.0, 1.0], []),
        ([1.0, 0.5], [1]),
        ([0.9, 1.0], []),
        ([0.5, 0.5], []),
        ([1.0, 1.0, 1.0, 1.0, 0.6], [4]),
        ([0.95, 1.0, 0.9, 1.0, 0.85], []),
        ([0.3, 0.4, 0.35, 0.4, 0.3], []),
        ([0.5, 0.6, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0], [0]),
    ],
)
def test_success_rates_are_held_against_the_others(shares: list[float], out: list[int]) -> None:
    peers = Peers(len(shares))
    rates(peers, shares)
    assert peers.out == out


def test_success_rates_need_some_calls_and_forget() -> None:
    peers = Peers(2)
    rates(peers, [1.0, 0.5], calls=15)
    assert peers.out == []
    peers.now += 61
    assert peers.members[1].rate(peers.now) == (0, 0)
    rates(peers, [1.0, 0.5], calls=30)
    assert peers.out == [1]
    assert peers.breakers[1].why == "success rate 50% where the others have 100%"


def test_whoever_leaves_counts_no_more_and_may_come_back() -> None:
    peers = Peers(3)
    peers.call(0, Outcome(kind="lost"), 3)
    assert not peers.pool.has_room()
    peers.pool.follow(peers.members[1:])
    assert (peers.pool.count, peers.pool.has_room()) == (0, True)
    peers.pool.follow(peers.members)
    assert (peers.pool.count, peers.pool.has_room()) == (1, False)

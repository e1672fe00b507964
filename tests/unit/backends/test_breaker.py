"""The breaker as a state machine: hypothesis drives it, a clock of our own times it."""

from __future__ import annotations

import itertools
from random import Random

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from backends.breaker import EARLY_SECONDS, Breaker
from backends.retry import RETRY_AFTER_CAP


class Driven(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.breaker = Breaker(3, pause=1.0, cap=8.0, clock=lambda: self.now, rng=Random(0))
        self.running: list[int] = []
        self.in_a_row = 0
        self.opened_at_era = 0

    @rule(seconds=st.floats(0, 20))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def start(self) -> None:
        if not self.breaker.allows():
            return
        before = self.breaker.state
        self.running.append(self.breaker.started())
        if before != "closed":
            assert self.breaker.state == "half_open"
            assert self.breaker.probing
            assert not self.breaker.allows(), "one probe at a time"

    @precondition(lambda self: self.running)
    @rule(data=st.data(), how=st.sampled_from(["answered", "succeeded", "failed", "abandoned"]))
    def tell(self, data: st.DataObject, how: str) -> None:
        place = data.draw(st.integers(0, len(self.running) - 1))
        era = self.running[place] if how == "answered" else self.running.pop(place)
        before, new = self.breaker.state, era >= self.opened_at_era
        getattr(self.breaker, how)(era)
        state = self.breaker.state
        if not new:
            assert state == before, "calls from before the last opening change nothing"
            return
        if how == "succeeded" or (how == "answered" and before != "closed"):
            assert state == "closed"
            self.in_a_row = 0 if how == "succeeded" else 2
        if how == "failed":
            self.in_a_row += 1
            if before == "half_open" or (before == "closed" and self.in_a_row >= 3):
                assert state == "open"
                self.opened_at_era = self.breaker.started()
                self.breaker.abandoned(self.opened_at_era)
        if how == "abandoned":
            assert state == before

    @invariant()
    def open_means_shut_until_its_time_and_never_longer_than_the_cap(self) -> None:
        if self.breaker.state == "open":
            assert self.breaker.allows() == (self.now >= self.breaker.retry_at)
            assert self.breaker.retry_at - self.breaker.since <= 8.0 * 1.2
        if self.breaker.state == "closed":
            assert self.breaker.allows()

    @invariant()
    def half_open_lets_one_through_at_a_time(self) -> None:
        if self.breaker.state == "half_open":
            assert self.breaker.allows() == (not self.breaker.probing)

    @invariant()
    def the_gauge_says_the_state(self) -> None:
        assert {"closed": 0, "half_open": 1, "open": 2}[self.breaker.state] == self.breaker.level


TestBreaker = Driven.TestCase


class Timed:
    """A breaker and its clock."""

    def __init__(self, failures: int = 1, cap: float = 100.0) -> None:
        self.now = 0.0
        self.breaker = Breaker(failures, pause=1.0, cap=cap, clock=lambda: self.now, rng=Random(1))

    def fail(self) -> float:
        """Returns the pause."""
        self.breaker.failed(self.breaker.started(), "status 500")
        return self.breaker.retry_at - self.now

    def mend(self) -> None:
        self.now = max(self.now, self.breaker.retry_at)
        self.breaker.succeeded(self.breaker.started())


def test_pauses_grow() -> None:
    timed = Timed()
    pauses = []
    for _ in range(5):
        pauses.append(timed.fail())
        timed.now = timed.breaker.retry_at
    assert all(later > earlier * 1.3 for earlier, later in itertools.pairwise(pauses))


def test_a_backend_that_flaps_stays_out_for_longer_and_one_that_stays_well_is_forgiven() -> None:
    timed = Timed(cap=8.0)
    pauses = []
    for _ in range(4):
        pauses.append(timed.fail())
        timed.mend()
    assert [0.8 * 2**n <= pause <= 1.2 * 2**n for n, pause in enumerate(pauses)] == [True] * 4
    timed.now += 2 * 8.0
    assert 0.8 * 4 <= timed.fail() <= 1.2 * 4
    timed.mend()
    timed.now += 100 * 8.0
    assert timed.fail() <= 1.2


def test_an_early_call_neither_lengthens_the_pause_nor_hides_the_probe() -> None:
    timed = Timed(2)
    timed.fail()
    pause = timed.fail()
    until = timed.breaker.retry_at
    timed.now += pause / 2
    timed.fail()
    assert (timed.breaker.state, timed.breaker.retry_at) == ("open", until)
    timed.breaker.succeeded(timed.breaker.started())
    assert timed.breaker.state == "closed"


def test_where_nobody_else_is_left_it_is_tried_by_one_call_at_a_time_and_not_without_end() -> None:
    timed = Timed(1)
    assert not timed.breaker.may_be_tried(), "it needs no trying while it is closed"
    timed.fail()
    assert not timed.breaker.may_be_tried()
    timed.now += EARLY_SECONDS
    assert (timed.breaker.allows(), timed.breaker.may_be_tried()) == (False, True)
    era = timed.breaker.started()
    assert not timed.breaker.may_be_tried()
    timed.breaker.failed(era)
    assert not timed.breaker.may_be_tried()
    timed.now += EARLY_SECONDS
    timed.breaker.abandoned(timed.breaker.started())
    assert timed.breaker.may_be_tried()
    timed.breaker.answered(timed.breaker.started())
    assert timed.breaker.state == "closed"


def test_the_first_bytes_end_a_probe_and_a_failure_amid_the_answer_opens_again() -> None:
    timed = Timed(5)
    for _ in range(5):
        timed.fail()
    timed.now = timed.breaker.retry_at
    era = timed.breaker.started()
    timed.breaker.answered(era)
    assert timed.breaker.allows(), "nobody waits for the end of a long answer"
    timed.breaker.failed(era, "lost")
    assert timed.breaker.state == "open"
    assert timed.breaker.why.endswith("the last: lost")


def test_answers_that_break_off_count_though_they_began_well() -> None:
    timed = Timed(5)
    for _ in range(5):
        era = timed.breaker.started()
        timed.breaker.answered(era)
        timed.breaker.failed(era, "lost")
    assert timed.breaker.state == "open"


def test_a_rest_is_kept_and_bounded() -> None:
    timed = Timed()
    timed.breaker.rest(2.0)
    assert not timed.breaker.allows()
    assert timed.breaker.rest_left == 2.0
    assert timed.breaker.state == "closed"
    timed.now = 2.0
    assert timed.breaker.allows()
    timed.breaker.rest(3600.0)
    assert timed.breaker.rest_left == RETRY_AFTER_CAP


def test_its_health_can_end_a_pause_but_a_probe_decides() -> None:
    timed = Timed()
    timed.fail()
    timed.breaker.open(300.0, "an ejection")
    assert not timed.breaker.allows()
    timed.breaker.look_again()
    assert timed.breaker.allows()
    timed.breaker.started()
    assert timed.breaker.state == "half_open"


def test_each_failure_is_told_to_whoever_watches() -> None:
    timed, told = Timed(3), []
    timed.breaker.alarm = lambda: told.append(timed.now)
    timed.fail()
    timed.breaker.succeeded(timed.breaker.started())
    timed.fail()
    assert len(told) == 2

"""The breaker as a state machine: hypothesis drives it, a clock of our own times it."""

from __future__ import annotations

import itertools
from random import Random

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from backends.breaker import Breaker


class Driven(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.breaker = Breaker(3, pause=1.0, cap=8.0, clock=lambda: self.now, rng=Random(0))
        self.running = 0
        self.probing = False
        self.in_a_row = 0

    @rule(seconds=st.floats(0, 20))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def start(self) -> None:
        if not self.breaker.allows():
            return
        before = self.breaker.state
        self.breaker.started()
        self.running += 1
        if before != "closed":
            assert self.breaker.state == "half_open"
            assert not self.breaker.allows(), "one probe at a time"

    @rule(how=st.sampled_from(["succeeded", "failed", "abandoned"]))
    def finish(self, how: str) -> None:
        if not self.running:
            return
        self.running -= 1
        before = self.breaker.state
        getattr(self.breaker, how)()
        self.in_a_row = self.in_a_row + 1 if how == "failed" else 0 if how == "succeeded" else self.in_a_row
        if how == "succeeded":
            assert self.breaker.state == "closed"
        if how == "failed" and before == "half_open":
            assert self.breaker.state == "open"
        if how == "failed" and before == "closed" and self.in_a_row >= 3:
            assert self.breaker.state == "open"

    @invariant()
    def open_means_shut_until_its_time_and_never_longer_than_the_cap(self) -> None:
        if self.breaker.state == "open":
            assert self.breaker.allows() == (self.now >= self.breaker.retry_at)
            assert self.breaker.retry_at - self.breaker.since <= 8.0 * 1.2
        if self.breaker.state == "closed":
            assert self.breaker.allows()

    @invariant()
    def the_gauge_says_the_state(self) -> None:
        assert {"closed": 0, "half_open": 1, "open": 2}[self.breaker.state] == self.breaker.level


TestBreaker = Driven.TestCase


def test_pauses_grow() -> None:
    now = 0.0
    breaker = Breaker(1, pause=1.0, cap=100.0, clock=lambda: now, rng=Random(1))
    pauses = []
    for _ in range(5):
        breaker.started()
        breaker.failed()
        pauses.append(breaker.retry_at - now)
        now = breaker.retry_at
    assert all(later > earlier * 1.3 for earlier, later in itertools.pairwise(pauses))

"""The lines as a state machine: hypothesis drives them beside a plain record of who waits, who was served and which places are taken."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.guard.callers import Priority
from gateway.guard.lines import HOPELESS, SWEEP_SECONDS, Bounds, Lines, Rejected, Ticket, Waiter

MODELS = ("a", "b")
SIZE = {"interactive": 6, "batch": 4}
EVERY = 4
models = st.sampled_from([("a",), ("b",), ("a", "b"), ("b", "a")])
keys = st.sampled_from(["one", "two", "three"])
classes = st.sampled_from(["interactive", "batch"])


class Driven(RuleBasedStateMachine):
    """Two models with two places each."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        bounds: dict[Priority, Bounds] = {"interactive": Bounds(SIZE["interactive"], 20.0), "batch": Bounds(SIZE["batch"], 100.0)}
        self.lines: Lines[str] = Lines(bounds, 1 / EVERY)
        self.free = Counter(dict.fromkeys(MODELS, 2))
        self.running: list[str] = []
        self.waiting: list[Waiter[str]] = []  # in the order of their arrival
        self.gone: set[Waiter[str]] = set()
        self.in_a_row: Counter[str] = Counter()
        self.served_since: dict[tuple[str, str, str], list[str]] = {}

    def find(self, wanted: tuple[str, ...]) -> str | None:
        for model in wanted:
            if self.free[model]:
                self.free[model] -= 1
                return model
        return None

    def before(self, model: str, priority: str) -> list[Waiter[str]]:
        """Who waits in one line, in the order of arrival."""
        line = self.lines._line(model, priority)  # type: ignore[arg-type]
        return [w for w in self.waiting if line in w.lines]

    def hand_out(self, model: str) -> None:
        while True:
            lines = {(m, p): self.before(m, p) for m in MODELS for p in SIZE}
            given = self.lines.next(model, self.now)
            if given is None:
                break
            waiter, place = given
            self.check_order(model, waiter, {line: [w for w in those if w not in self.gone] for line, those in lines.items()}, place)
            self.waiting.remove(waiter)
            self.running.append(place)
        for waiter, seconds in self.lines.sweep(model, self.now):
            assert seconds > HOPELESS * (waiter.latest - self.now) or waiter.latest <= self.now
            self.waiting.remove(waiter)
        self.forget_who_left()

    def check_order(self, model: str, waiter: Waiter[str], lines: dict[tuple[str, str], list[Waiter[str]]], place: str) -> None:
        """`model`: whose lines were asked. Only those who could have used this very place have a claim on it."""
        mine, key = waiter.ticket.priority, waiter.ticket.key
        able = {line: [w for w in those if place in w.ticket.models] for line, those in lines.items()}
        assert next(w for w in able[model, mine] if w.ticket.key == key) is waiter, "first come, first served within a key"
        if mine == "interactive":
            self.in_a_row[model] = self.in_a_row[model] + 1 if self.before(model, "batch") else 0
            assert self.in_a_row[model] < EVERY or not able[model, "batch"], "batch is not starved"
        else:
            assert self.in_a_row[model] >= EVERY - 1 or not able[model, "interactive"], "interactive comes first"
            self.in_a_row[model] = 0
        for (where, priority), those in able.items():
            if waiter in those:
                self.served_since[where, priority, key] = []
                for other in {w.ticket.key for w in those} - {key}:
                    since = self.served_since.setdefault((where, priority, other), [])
                    since.append(key)
                    assert where != model or since.count(key) == 1, "nobody has two turns before one that waits all along has one"

    def forget_who_left(self) -> None:
        for place, priority, key in list(self.served_since):
            if not any(w.ticket.key == key and w not in self.gone for w in self.before(place, priority)):
                del self.served_since[place, priority, key]

    @rule(wanted=models, key=keys, priority=classes, patience=st.none() | st.floats(0.1, 30), needs=st.sampled_from([0.0, 1.0]))
    def arrive(self, wanted: tuple[str, ...], key: str, priority: Priority, patience: float | None, needs: float) -> None:
        if not self.lines.must_wait(wanted, priority):
            place = self.find(wanted)
            if place is not None:
                self.running.append(place)
                return
        full = all(len(self.before(model, priority)) >= SIZE[priority] for model in wanted)
        deadline = None if patience is None else self.now + patience
        ticket = Ticket(wanted, key, priority, deadline, self.now, needs)
        waiter: Waiter[str]
        try:
            waiter = self.lines.enter(ticket, lambda: self.find(wanted), lambda: waiter in self.gone)
        except Rejected as rejected:
            assert rejected.reason in ("queue_full", "wait_too_long", "deadline")
            assert full == (rejected.reason == "queue_full") or rejected.reason == "deadline"
            assert rejected.reason != "deadline" or (patience is not None and patience <= needs)
            assert (rejected.retry_after is None) == (rejected.status == 504)
            assert rejected.retry_after is None or rejected.retry_after >= 1
            return
        assert not full
        self.waiting.append(waiter)
        for model in wanted:
            self.hand_out(model)

    @precondition(lambda self: self.running)
    @rule(number=st.integers(0, 3))
    def finish(self, number: int) -> None:
        model = self.running.pop(number % len(self.running))
        self.free[model] += 1
        self.hand_out(model)

    @precondition(lambda self: self.waiting)
    @rule(number=st.integers(0, 20))
    def cancel(self, number: int) -> None:
        """It is cancelled, but its own turn to leave the lines has not come yet."""
        self.gone.add(self.waiting[number % len(self.waiting)])

    @rule()
    def the_cancelled_leave(self) -> None:
        for waiter in [w for w in self.waiting if w in self.gone]:
            self.lines.leave(waiter, self.now)
            self.lines.leave(waiter, self.now)
            self.waiting.remove(waiter)
            for model in waiter.ticket.models:
                self.hand_out(model)
        self.forget_who_left()

    @rule(seconds=st.floats(0.01, 5))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        for waiter in [w for w in self.waiting if w.latest <= self.now]:
            assert waiter.latest <= waiter.ticket.arrived + 100
            self.lines.leave(waiter, self.now)
            self.waiting.remove(waiter)
        self.forget_who_left()

    @invariant()
    def no_place_is_lost_or_given_twice(self) -> None:
        for model in MODELS:
            assert self.free[model] >= 0
            assert self.free[model] + self.running.count(model) == 2

    @invariant()
    def no_place_is_free_while_somebody_waits_for_it(self) -> None:
        for waiter in self.waiting:
            assert waiter in self.gone or not any(self.free[model] for model in waiter.ticket.models)

    @invariant()
    def lines_are_bounded_and_counted(self) -> None:
        for priority in SIZE:
            assert self.lines.waiting[priority] == sum(w.ticket.priority == priority for w in self.waiting)  # type: ignore[index]
            for model in MODELS:
                line = self.lines._line(model, priority)  # type: ignore[arg-type]
                assert len(line) == len(self.before(model, priority)) <= SIZE[priority]
                assert {*line} == {*self.before(model, priority)} - self.gone


Driven.TestCase.settings = settings(max_examples=100, stateful_step_count=40)
TestLines = Driven.TestCase


class Simple:
    """Lines before one model `m`, and a clock. `served`: who got a place, in order."""

    def __init__(self, size: int = 100, max_wait: float = 1000.0, share: float = 0.05) -> None:
        bounds: dict[Priority, Bounds] = {"interactive": Bounds(size, max_wait), "batch": Bounds(size, max_wait)}
        self.lines: Lines[str] = Lines(bounds, share)
        self.now = 0.0
        self.places = 0
        self.served: list[Waiter[str]] = []

    def enter(self, key: str = "k", priority: Priority = "interactive", deadline: float | None = None, needs: float = 0.0) -> Waiter[str]:
        return self.lines.enter(Ticket(("m",), key, priority, deadline, self.now, needs), self._find(), lambda: False)

    def _find(self) -> Callable[[], str | None]:
        def find() -> str | None:
            self.places -= 1
            return "place" if self.places >= 0 else None

        return find

    def free(self, seconds: float = 0.0, times: int = 1) -> None:
        for _ in range(times):
            self.now += seconds
            self.places = 1
            given = self.lines.next("m", self.now)
            if given:
                self.served.append(given[0])


def test_batch_gets_its_share_and_no_more() -> None:
    simple = Simple()
    for _ in range(50):
        simple.enter("people")
        simple.enter("jobs", "batch")
    simple.free(times=42)
    turns = [index for index, waiter in enumerate(simple.served, 1) if waiter.ticket.priority == "batch"]
    assert turns == [20, 40]


def test_without_a_share_batch_waits_for_the_very_last() -> None:
    simple = Simple(share=0)
    simple.enter("jobs", "batch")
    for _ in range(60):
        simple.enter("people")
    simple.free(times=61)
    assert simple.served[-1].ticket.priority == "batch"


def test_ten_requests_get_as_many_turns_as_a_thousand() -> None:
    simple = Simple(size=2000)
    for _ in range(1000):
        simple.enter("greedy")
    for _ in range(10):
        simple.enter("modest")
    simple.free(times=21)
    assert Counter(waiter.ticket.key for waiter in simple.served) == {"greedy": 11, "modest": 10}


def test_the_wait_is_known_from_the_pace() -> None:
    simple = Simple(size=30)
    for _ in range(30):
        simple.enter()
    simple.free(0.5, times=20)
    for _ in range(20):
        simple.enter()
    with pytest.raises(Rejected) as caught:
        simple.enter()
    assert caught.value.reason == "queue_full"
    assert caught.value.code == "overloaded"
    assert caught.value.retry_after == pytest.approx(31 * 0.5, rel=0.15)
    assert caught.value.headers == ((b"x-router-reason", b"queue_full"),)


def test_who_would_be_too_late_is_not_let_in() -> None:
    simple = Simple()
    for _ in range(20):
        simple.enter()
    simple.free(0.5, times=10)
    simple.enter(deadline=simple.now + 6)
    with pytest.raises(Rejected) as caught:
        simple.enter(deadline=simple.now + 4)
    assert caught.value.reason == "wait_too_long"
    assert caught.value.retry_after == pytest.approx(12 * 0.5, rel=0.2)
    with pytest.raises(Rejected, match="too late"):
        simple.enter(deadline=simple.now + 6, needs=2)
    assert simple.enter("another", deadline=simple.now + 4)


def test_the_first_in_line_is_let_in_whatever_was_before() -> None:
    simple = Simple()
    for _ in range(10):
        simple.enter()
    simple.free(10.0, times=10)
    assert simple.enter(deadline=simple.now + 1)


def test_a_deadline_that_has_passed_is_told_apart() -> None:
    simple = Simple()
    with pytest.raises(Rejected) as caught:
        simple.enter(deadline=0.5, needs=0.5)
    assert (caught.value.reason, caught.value.code, caught.value.param) == ("deadline", "deadline_exceeded", "router.max_latency_ms")
    assert caught.value.retry_after is None


def test_who_waits_in_vain_is_taken_out_and_the_others_move_up() -> None:
    simple = Simple()
    patient = [simple.enter(deadline=1000.0) for _ in range(10)]
    hasty = [simple.enter(deadline=20.0) for _ in range(10)]
    last = simple.enter(deadline=45.0)
    simple.free(1.0, times=5)
    assert simple.lines.sweep("m", simple.now) == []
    simple.free(7.0)  # slower than it was
    out = [waiter for waiter, _ in simple.lines.sweep("m", simple.now)]
    assert out
    assert set(out) <= set(hasty)
    assert last in simple.lines._line("m", "interactive")
    assert simple.lines.sweep("m", simple.now + SWEEP_SECONDS / 2) == [], "not so often"
    simple.free(times=30)
    assert [w for w in simple.served if w in patient] == patient


def test_the_clock_of_the_pace_stands_still_while_nobody_waits() -> None:
    simple = Simple()
    for _ in range(3):
        for _ in range(5):
            simple.enter()
        simple.free(0.1, times=5)
        simple.now += 30
    simple.enter()
    assert simple.lines.wait(Ticket(("m",), "k", "interactive", None, simple.now), simple.now) == pytest.approx(0.2, rel=0.3)


def test_a_long_silence_makes_the_pace_unknown() -> None:
    simple = Simple()
    for _ in range(10):
        simple.enter()
    simple.free(5.0, times=10)
    simple.now += 3600
    for _ in range(50):
        assert simple.enter(deadline=simple.now + 1)


def test_a_model_whose_line_is_full_does_not_shut_the_others() -> None:
    bounds: dict[Priority, Bounds] = {"interactive": Bounds(1, 10), "batch": Bounds(1, 10)}
    lines: Lines[str] = Lines(bounds, 0.05)
    tickets = [Ticket(wanted, "k", "interactive", None, 0.0) for wanted in (("a",), ("a", "b"), ("a", "b"))]
    waiters = [lines.enter(ticket, lambda: None, lambda: False) for ticket in tickets[:2]]
    assert [len(waiter.lines) for waiter in waiters] == [1, 1]
    with pytest.raises(Rejected):
        lines.enter(tickets[2], lambda: None, lambda: False)
    assert lines.must_wait(("a", "b"), "interactive")
    assert not lines.must_wait(("a", "c"), "interactive")


def test_nobody_passes_those_of_a_higher_class() -> None:
    simple = Simple()
    simple.enter("jobs", "batch")
    assert simple.lines.must_wait(("m",), "batch")
    assert not simple.lines.must_wait(("m",), "interactive")
    simple.enter("people")
    assert simple.lines.must_wait(("m",), "interactive")


def test_who_cannot_use_a_place_is_passed_over_without_losing_its_turn() -> None:
    simple = Simple()
    picky = simple.lines.enter(Ticket(("m",), "picky", "interactive", None, 0.0), lambda: None, lambda: False)
    others = [simple.enter(f"key {number}") for number in range(3)]
    simple.free(times=2)
    assert simple.served == others[:2]
    assert next(iter(simple.lines._line("m", "interactive"))) is picky


def test_retry_after_is_bounded_and_whole_seconds_follow_from_it() -> None:
    assert [Rejected("queue_full", wait).retry_after for wait in (0.0, 2.5, 1e9)] == [1.0, 2.5, 300.0]
    assert math.ceil(Rejected("queue_timeout", 2.5).retry_after or 0) == 3
    assert [Rejected(reason, 1).status for reason in ("queue_full", "wait_too_long", "queue_timeout", "deadline")] == [429, 429, 429, 504]

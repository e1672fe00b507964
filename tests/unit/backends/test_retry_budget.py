"""How many attempts may follow the first ones, and who waits for one."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.retry import WINDOW, Outcome, Recent, Retries, RetryBudget


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(("active", "room"), [(1, 3), (15, 3), (20, 4), (100, 20)])
def test_a_fifth_of_the_active_and_three_always(active: int, room: int) -> None:
    budget = RetryBudget(clock=Clock())
    with contextlib.ExitStack() as stack:
        requests = [stack.enter_context(budget.request()) for _ in range(active)]
        assert sum(retries.acquire() for retries in requests) == min(active, room)
        assert budget.retrying == min(active, room)
    assert (budget.active, budget.retrying) == (0, 0)


@given(st.lists(st.tuples(st.floats(0, 0.2), st.integers(0, 5)), max_size=300))
def test_errors_that_come_at_once_are_not_tried_again_without_end(steps: list[tuple[float, int]]) -> None:
    """Row 12: whatever comes when, in no ten seconds do more than 1.2 attempts fall to a request, but for 3 a second."""
    clock = Clock()
    budget = RetryBudget(0.2, 3, clock=clock)
    first: list[float] = []
    more: list[float] = []
    for pause, wanted in steps:
        clock.now += pause
        first.append(clock.now)
        with budget.request() as retries:
            for _ in range(wanted):
                if retries.acquire():
                    more.append(clock.now)
    for end in more:
        recent = [when for when in more if end - WINDOW + 1 < when <= end]
        asked = [when for when in first if end - WINDOW < when <= end]
        assert len(recent) <= max(3 * WINDOW, 0.2 * len(asked)) + 1


def test_a_storm_that_lasts() -> None:
    clock = Clock()
    budget = RetryBudget(0.2, 3, clock=clock)
    attempts = 0
    for _ in range(200 * 30):
        clock.now += 1 / 200
        with budget.request() as retries:
            attempts += 1
            while attempts < 10**6 and retries.acquire():
                attempts += 1
    assert attempts <= 200 * 30 * 1.2 + 30


async def test_who_finds_no_room_waits_in_line() -> None:
    budget = RetryBudget(0.2, 1)
    turns: list[int] = []

    async def ask(number: int, retries: Retries) -> None:
        assert await retries.wait(5)
        turns.append(number)
        await asyncio.sleep(0.01)
        assert budget.retrying == 1
        retries.release()

    with contextlib.ExitStack() as stack:
        requests = [stack.enter_context(budget.request()) for _ in range(4)]
        await asyncio.gather(*(ask(number, retries) for number, retries in enumerate(requests)))
    assert turns == [0, 1, 2, 3]
    assert (budget.active, budget.retrying, budget.waiting) == (0, 0, 0)


async def test_the_line_is_no_longer_than_can_be_served_and_a_wait_ends() -> None:
    budget = RetryBudget(0.0, 1)
    with contextlib.ExitStack() as stack:
        requests = [stack.enter_context(budget.request()) for _ in range(30)]
        assert requests[0].acquire()
        waiting = [asyncio.create_task(retries.wait(0.5)) for retries in requests[1:]]
        found = await asyncio.gather(*waiting)
        assert found == [False] * 29, "the one that has the place keeps it"
        assert not await requests[1].wait(0)
    assert budget.waiting == 0


async def test_nobody_waits_for_what_has_become_pointless() -> None:
    budget, hope = RetryBudget(0.2, 1), [True]
    with budget.request() as one, budget.request() as two:
        assert one.acquire()
        waiting = asyncio.create_task(two.wait(60, lambda: hope[0]))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        hope.clear()
        hope.append(False)
        assert not await asyncio.wait_for(waiting, 5)
    assert budget.waiting == 0


async def test_whoever_waits_and_leaves_is_out_of_the_line() -> None:
    budget = RetryBudget(0.2, 1)
    with budget.request() as one, budget.request() as two, budget.request() as three:
        assert one.acquire()
        leaving, staying = asyncio.create_task(two.wait(5)), asyncio.create_task(three.wait(5))
        await asyncio.sleep(0.01)
        assert budget.waiting == 2
        assert not one.acquire(), "those who wait come first"
        leaving.cancel()
        await asyncio.wait([leaving])
        one.release()
        assert await staying
    assert (budget.retrying, budget.waiting) == (0, 0)


@given(st.lists(st.floats(0, 3), max_size=100))
def test_recent_counts_what_is_recent(pauses: list[float]) -> None:
    now, recent, all_of_them = 100.0, Recent(10), []
    for pause in pauses:
        now += pause
        recent.add(now)
        all_of_them.append(int(now))
        assert recent.count(now) == sum(second > int(now) - 10 for second in all_of_them)


@pytest.mark.parametrize(
    ("outcome", "succeeded", "unreachable", "text"),
    [
        (Outcome(status=200), True, False, "status 200"),
        (Outcome(status=404), False, False, "status 404"),
        (Outcome(status=429), False, False, "status 429"),
        (Outcome(status=500), False, False, "status 500"),
        (Outcome(status=503), False, True, "status 503"),
        (Outcome(kind="connect"), False, True, "connect"),
        (Outcome(kind="first_byte_timeout"), False, True, "first byte timeout"),
        (Outcome(kind="lost"), False, True, "lost"),
        (Outcome(kind="invalid"), False, False, "invalid"),
        (Outcome(kind="stale"), False, False, "stale"),
        (Outcome(cancelled=True), False, False, "cancelled"),
    ],
)
def test_what_an_outcome_says(outcome: Outcome, succeeded: bool, unreachable: bool, text: str) -> None:
    assert (outcome.succeeded, outcome.unreachable, outcome.text) == (succeeded, unreachable, text)

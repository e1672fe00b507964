"""Waiting in the lines with real tasks: places come, clients leave, time runs out."""

from __future__ import annotations

import asyncio
import time

import pytest

from gateway.guard.admission import Admission, class_of
from gateway.guard.callers import Priority
from gateway.guard.lines import Bounds, Rejected, Ticket
from tests.gateways import until


class Backend:
    """So many places at one model `m`. `taken`: by whom, in order."""

    def __init__(self, places: int, size: int = 100, max_wait: float = 30.0, share: float = 0.05) -> None:
        bounds: dict[Priority, Bounds] = {"interactive": Bounds(size, max_wait), "batch": Bounds(size, max_wait)}
        self.admission: Admission[str] = Admission(bounds, share, clock=time.monotonic)
        self.places = places
        self.taken: list[str] = []

    def give_back(self, place: str) -> None:
        self.places += 1
        self.admission.freed("m")

    def start(self, name: str, priority: Priority = "interactive", deadline: float | None = None) -> asyncio.Task[str]:
        """A request that wants a place."""

        def find() -> str | None:
            if not self.places:
                return None
            self.places -= 1
            return name

        async def ask() -> str:
            place = None if self.admission.must_wait(("m",), priority) else find()
            if place is None:
                now = time.monotonic()
                ticket = Ticket(("m",), name, priority, None if deadline is None else now + deadline, now)
                place = await self.admission.wait(ticket, find, self.give_back)
            self.taken.append(place)
            return place

        return asyncio.create_task(ask(), name=name)

    async def waits(self, count: int) -> None:
        assert await until(lambda: sum(self.admission.waiting.values()) == count)


async def test_places_go_round_by_class() -> None:
    backend = Backend(1)
    tasks = [backend.start("first")]
    await backend.waits(0)
    tasks += [backend.start("batch", "batch"), backend.start("one"), backend.start("two")]
    await backend.waits(3)
    assert backend.admission.waiting == {"interactive": 2, "batch": 1}
    for _ in tasks:
        backend.give_back("")
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    assert backend.taken == ["first", "one", "two", "batch"]
    assert backend.admission.waiting == {"interactive": 0, "batch": 0}


async def test_all_that_is_free_is_handed_out_at_once() -> None:
    backend = Backend(0)
    tasks = [backend.start(f"key {number}") for number in range(10)]
    await backend.waits(10)
    backend.places = 8
    backend.admission.freed("m")
    await backend.waits(2)
    assert backend.places == 0
    for task in tasks[8:]:
        task.cancel()
    await asyncio.wait(tasks)
    assert backend.admission.waiting["interactive"] == 0


async def test_whoever_leaves_the_line_leaves_it_at_once() -> None:
    backend = Backend(0)
    first, second = backend.start("first"), backend.start("second")
    await backend.waits(2)
    first.cancel()
    await asyncio.wait([first])
    await backend.waits(1)
    backend.give_back("")
    assert await second == "second"


async def test_a_place_that_comes_as_its_taker_leaves_goes_to_the_next() -> None:
    backend = Backend(0)
    first, second = backend.start("first"), backend.start("second")
    await backend.waits(2)
    backend.give_back("")
    assert backend.places == 0, "it is first's"
    first.cancel()
    await asyncio.wait([first, second])
    assert first.cancelled()
    assert second.result() == "second"
    assert backend.places == 0


async def test_a_place_is_not_lost_when_everybody_at_the_head_leaves_as_it_comes() -> None:
    backend = Backend(0)
    tasks = [backend.start(f"key {number}") for number in range(20)]
    await backend.waits(20)
    for task in tasks[:19]:
        task.cancel()
    backend.give_back("")
    assert await tasks[19] == "key 19"


async def test_a_full_line_refuses() -> None:
    backend = Backend(0, size=2)
    tasks = [backend.start("one"), backend.start("two")]
    await backend.waits(2)
    with pytest.raises(Rejected) as caught:
        await backend.start("three")
    assert (caught.value.reason, caught.value.status, caught.value.retry_after) == ("queue_full", 429, 1)
    other = backend.start("jobs", "batch")
    await backend.waits(3)
    for task in (*tasks, other):
        task.cancel()


async def test_time_runs_out() -> None:
    backend = Backend(0, max_wait=0.15)
    bounded, hasty = backend.start("bounded"), backend.start("hasty", deadline=0.05)
    await asyncio.wait([bounded, hasty])
    found = {task.get_name(): task.exception() for task in (bounded, hasty)}
    assert {name: (error.reason, error.code) for name, error in found.items() if isinstance(error, Rejected)} == {
        "bounded": ("queue_timeout", "overloaded"),
        "hasty": ("deadline", "deadline_exceeded"),
    }
    assert backend.admission.waiting == {"interactive": 0, "batch": 0}


async def test_whoever_would_be_too_late_hears_of_it_early() -> None:
    backend = Backend(0)
    quick = [backend.start("quick") for _ in range(6)]
    await backend.waits(6)
    for _ in range(6):
        await asyncio.sleep(0.2)
        backend.give_back("")
    await asyncio.wait(quick)
    patient = [backend.start("k") for _ in range(40)]
    await backend.waits(40)
    started = time.monotonic()
    with pytest.raises(Rejected) as caught:
        await backend.start("k", deadline=1.0)
    assert caught.value.reason == "wait_too_long"
    assert 6 < (caught.value.retry_after or 0) < 60, "41 turns of 0.2 s, on a machine that may be slow"
    assert time.monotonic() - started < 1.0
    for task in patient:
        task.cancel()
    await asyncio.wait(patient)


async def test_many_come_and_go_and_nothing_is_left() -> None:
    backend = Backend(3, size=1000)
    freed = 0
    tasks = [backend.start(f"key {number % 7}", "batch" if number % 3 else "interactive") for number in range(300)]
    await backend.waits(297)
    for number, task in enumerate(tasks):
        if number % 5 == 4:
            task.cancel()
        if number % 2:
            await asyncio.sleep(0)
        else:
            backend.give_back("")
            freed += 1
    while not all(task.done() for task in tasks):
        backend.give_back("")
        freed += 1
        await asyncio.sleep(0)
    assert backend.places + len(backend.taken) == 3 + freed, "no place is lost, and none is given twice"
    assert len(backend.taken) == sum(not task.cancelled() for task in tasks)
    assert backend.admission.waiting == {"interactive": 0, "batch": 0}
    assert not backend.admission._turns


@pytest.mark.parametrize(
    ("key", "wish", "found"),
    [
        ("interactive", None, "interactive"),
        ("interactive", "interactive", "interactive"),
        ("interactive", "batch", "batch"),
        ("batch", None, "batch"),
        ("batch", "interactive", "batch"),
    ],
)
def test_the_class_of_a_request(key: Priority, wish: Priority | None, found: Priority) -> None:
    assert class_of(key, wish) == found

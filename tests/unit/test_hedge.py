"""Two attempts race: whoever is cancelled, raises or comes together with the other, nothing is left behind and nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.flow.hedge import race


class Broke(Exception):
    """An attempt's own."""


@dataclass
class Course:
    """Attempts that are watched. A result that is a capital letter wins."""

    running: list[str] = field(default_factory=list)
    started: list[str] = field(default_factory=list)
    discarded: list[str] = field(default_factory=list)

    async def attempt(self, result: str, steps: int = 0, seconds: float = 0.0, stubborn: bool = False) -> str:
        """`steps`: turns of the loop. `stubborn`: it answers though it is cancelled, or raises if its result is "!"."""
        self.started.append(result)
        self.running.append(result)
        try:
            for _ in range(steps):
                await asyncio.sleep(0)
            if seconds:
                await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            if not stubborn:
                raise
        finally:
            self.running.remove(result)
        if result == "!":
            raise Broke
        return result

    async def run(self, first: Coroutine[Any, Any, str], second: Callable[[], Coroutine[Any, Any, str] | None], delay: float = 0) -> str:
        return await race(first, delay, second, wins=str.isupper, discard=self.discarded.append)


def none() -> None:
    return None


async def test_a_quick_first_has_no_rival() -> None:
    course = Course()
    assert await course.run(course.attempt("A"), lambda: course.attempt("B"), delay=5) == "A"
    assert course.started == ["A"]


async def test_the_first_that_answers_wins_and_the_other_is_cancelled() -> None:
    course = Course()
    assert await course.run(course.attempt("A", seconds=60), lambda: course.attempt("B")) == "B"
    assert (course.started, course.running, course.discarded) == (["A", "B"], [], [])
    assert await course.run(course.attempt("A", seconds=0.05), lambda: course.attempt("B", seconds=60)) == "A"
    assert course.running == []


async def test_nobody_may_be_there_for_a_second() -> None:
    course = Course()
    assert await course.run(course.attempt("A", seconds=0.02), none) == "A"


async def test_a_failure_waits_for_the_other() -> None:
    course = Course()
    assert await course.run(course.attempt("a", seconds=0.02), lambda: course.attempt("B", seconds=0.05)) == "B"
    assert await course.run(course.attempt("A", seconds=0.05), lambda: course.attempt("b", seconds=0.02)) == "A"
    assert course.discarded == ["a", "b"]
    assert await course.run(course.attempt("a", seconds=0.05), lambda: course.attempt("b", seconds=0.02)) == "a"


async def test_a_failure_before_the_delay_is_the_callers_to_retry() -> None:
    course = Course()
    assert await course.run(course.attempt("a"), lambda: course.attempt("B"), delay=5) == "a"
    assert course.started == ["a"]


async def test_a_loser_that_answers_all_the_same_is_discarded() -> None:
    course = Course()
    first = course.attempt("A", seconds=60, stubborn=True)
    assert await course.run(first, lambda: course.attempt("B")) == "B"
    assert course.discarded == ["A"]


async def test_what_an_attempt_raises_is_raised_when_the_other_has_ended() -> None:
    course = Course()
    with pytest.raises(Broke):
        await course.run(course.attempt("!", seconds=0.02), lambda: course.attempt("B", seconds=60))
    assert (course.started, course.running) == (["!", "B"], [])


async def test_what_a_loser_raises_is_told_and_takes_nothing_away() -> None:
    course, told = Course(), []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))
    first = course.attempt("!", seconds=60, stubborn=True)
    assert await course.run(first, lambda: course.attempt("B")) == "B"
    assert [type(error) for error in told] == [Broke]


async def test_a_second_that_cannot_be_made_leaves_no_first() -> None:
    course = Course()

    def second() -> Coroutine[Any, Any, str]:
        raise Broke

    with pytest.raises(Broke):
        await course.run(course.attempt("A", seconds=60), second)
    assert course.running == []


async def _cancelled_after(course: Course, steps: int, lengths: tuple[int, int], stubborn: bool, twice: bool) -> str | None:
    first = course.attempt("A", steps=lengths[0], stubborn=stubborn)
    task = asyncio.create_task(course.run(first, lambda: course.attempt("B", steps=lengths[1], stubborn=stubborn)))
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    if twice:
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.wait([task])
    for _ in range(20):
        await asyncio.sleep(0)
    return None if task.cancelled() else task.result()


@given(st.integers(0, 14), st.tuples(st.integers(0, 8), st.integers(0, 8)), st.booleans(), st.booleans())
def test_cancelled_at_any_moment_nothing_is_left_and_every_result_has_its_place(
    steps: int, lengths: tuple[int, int], stubborn: bool, twice: bool
) -> None:
    course = Course()

    async def run() -> tuple[str | None, int]:
        # `steps` 0 ends the task before it has begun: then nothing was begun either.
        result = await _cancelled_after(course, steps + 1, lengths, stubborn, twice)
        return result, len(asyncio.all_tasks())

    result, tasks = asyncio.run(run())
    assert tasks == 1
    assert course.running == []
    ended = set(course.discarded) | ({result} if result else set())
    assert len(course.discarded) == len(set(course.discarded))
    assert result not in course.discarded
    if stubborn:
        assert ended == set(course.started), "every attempt that began has brought a result, and none was lost"

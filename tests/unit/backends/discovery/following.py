"""Follows a source in a task of its own, at a pace that tests can bear."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from backends.discovery.api import Source


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Waits for a condition, at most so long. Returns whether it came true."""
    end = asyncio.get_running_loop().time() + seconds
    while not condition():
        if asyncio.get_running_loop().time() > end:
            return False
        await asyncio.sleep(0.005)
    return True


class Pauses(list[float]):
    """A `sleep` that notes what it was asked for, and is over soon."""

    def __init__(self, longest: float = 0.01) -> None:
        super().__init__()
        self.longest = longest

    async def __call__(self, seconds: float) -> None:
        self.append(seconds)
        await asyncio.sleep(min(seconds, self.longest))


class Following:
    """`sets`: all that a source has told."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.sets: list[frozenset[str]] = []

    @property
    def last(self) -> set[str] | None:
        return set(self.sets[-1]) if self.sets else None

    async def tells(self, *urls: str, seconds: float = 10.0) -> bool:
        """Whether this is what it says, now or soon."""
        return await until(lambda: self.last == set(urls), seconds)

    async def fails(self, words: str, seconds: float = 10.0) -> bool:
        """Whether it has a problem with these words in it, now or soon."""
        return await until(lambda: words in self.source.standing.problem, seconds)

    async def mends(self, seconds: float = 10.0) -> bool:
        return await until(lambda: not self.source.standing.problem, seconds)

    async def run(self) -> None:
        async with contextlib.aclosing(self.source.watch()) as sets:
            async for urls in sets:
                self.sets.append(urls)


@contextlib.asynccontextmanager
async def following(source: Source) -> AsyncIterator[Following]:
    """At its end the source must still have been running: it never ends by itself, and never raises."""
    found = Following(source)
    task = asyncio.create_task(found.run())
    try:
        yield found
        assert not task.done(), task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

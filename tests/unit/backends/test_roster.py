"""Who is a member of a pool, and when those who were are gone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Coroutine
from random import Random
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from backends.api import Call, Response
from backends.breaker import Breaker
from backends.chooser import Chooser
from backends.discovery.api import Standing
from backends.pool import Backend, Pool
from backends.retry import Outcome
from backends.roster import Found, Roster

FIXED = "http://10.0.0.0:8000/v1"
URLS = [f"http://10.0.0.{number}:8000/v1" for number in range(1, 6)]


class Wire:
    """A transport that only knows whether it is closed."""

    def __init__(self) -> None:
        self.closed = 0

    async def send(self, call: Call) -> Response:
        raise NotImplementedError

    async def aclose(self) -> None:
        self.closed += 1


def backend(url: str) -> Backend:
    if "refused" in url:
        raise ValueError("not this one")
    return Backend("small", url, "small", Wire(), Breaker())


def wire(one: Backend) -> Wire:
    assert isinstance(one.transport, Wire)
    return one.transport


class Told:
    """A source that says what it is told to say."""

    def __init__(self) -> None:
        self.standing = Standing("a test")
        self.sets: asyncio.Queue[frozenset[str]] = asyncio.Queue()
        self.closed = False

    async def watch(self) -> AsyncGenerator[frozenset[str], None]:
        try:
            while True:
                yield await self.sets.get()
        finally:
            self.closed = True

    def say(self, *urls: str) -> None:
        self.sets.put_nowait(frozenset(urls))


class World:
    """A pool with one backend of the configuration, and a roster for the others, whose time passes only when it is told to."""

    def __init__(self, found: Found | None = None) -> None:
        self.source = Told()
        self.made: list[Backend] = []
        self.watched: set[Backend] = set()
        self.now = 0.0
        self.timers: list[tuple[float, asyncio.Future[None]]] = []
        self.pool = Pool([backend(FIXED + "/")], Chooser([], Random(0)))
        self.roster = Roster(self.pool, self.source, self.make, self.watch, found=found, linger=1.0, sleep=self.sleep)

    def make(self, url: str) -> Backend:
        one = backend(url)
        self.made.append(one)
        return one

    def watch(self, one: Backend) -> Coroutine[Any, Any, None]:
        async def watching() -> None:
            assert one not in self.watched
            self.watched.add(one)
            try:
                await asyncio.Event().wait()
            finally:
                self.watched.remove(one)

        return watching()

    async def sleep(self, seconds: float) -> None:
        timer = asyncio.get_running_loop().create_future()
        self.timers.append((self.now + seconds, timer))
        await timer

    async def pass_time(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            await settle()
            due = min((at for at, timer in self.timers if not timer.done()), default=end + 1)
            if due > end:
                break
            self.now = max(self.now, due)
            for at, timer in self.timers:
                if at <= self.now and not timer.done():
                    timer.set_result(None)
            self.timers = [(at, timer) for at, timer in self.timers if not timer.done()]
        self.now = end

    @property
    def found(self) -> dict[str, Backend]:
        return {one.url: one for one in self.pool.backends if not one.url.startswith(FIXED)}


async def settle() -> None:
    """Lets everything run that can run."""
    for _ in range(12):
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def running(world: World) -> AsyncGenerator[World, None]:
    task = asyncio.create_task(world.roster.run())
    try:
        await settle()
        yield world
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await world.roster.aclose()


async def test_members_come_and_go() -> None:
    async with running(World()) as world:
        assert not world.roster.heard
        world.source.say(URLS[1], URLS[0], FIXED)
        await settle()
        assert world.roster.heard
        assert [one.url for one in world.pool.backends] == [FIXED + "/", URLS[0], URLS[1]], "one that is configured is not made again"
        assert world.watched == set(world.made)
        leaves = world.found[URLS[0]]
        leaves.started()
        world.source.say(URLS[1], URLS[2])
        await settle()
        assert set(world.found) == {URLS[1], URLS[2]}
        assert world.watched == set(world.found.values())
        await world.pass_time(600)
        assert (wire(leaves).closed, world.roster.leaving) == (0, 1), "its call goes on"
        leaves.finished(Outcome(status=200))
        await world.pass_time(1)
        assert (wire(leaves).closed, world.roster.leaving) == (1, 0)
        world.source.say()
        await settle()
        assert [one.url for one in world.pool.backends] == [FIXED + "/"]
    assert world.source.closed
    assert world.watched == set()
    assert all(wire(one).closed == 1 for one in world.made)
    assert wire(world.pool.backends[0]).closed == 0, "not made here"


async def test_one_that_comes_back_in_time_is_the_same() -> None:
    async with running(World()) as world:
        world.source.say(URLS[0])
        await settle()
        one = world.found[URLS[0]]
        for said in ((), (URLS[0],)) * 3:
            world.source.say(*said)
            await world.pass_time(0.9)
        assert world.found[URLS[0]] is one
        assert world.watched == {one}
        world.source.say()
        await world.pass_time(1.1)
        world.source.say(URLS[0])
        await world.pass_time(10)
        assert world.found[URLS[0]] is not one
        assert [wire(made).closed for made in world.made] == [1, 0]


async def test_what_the_roster_before_had_found_serves_from_the_first_moment() -> None:
    found = Found()
    async with running(World(found)) as before:
        before.source.say(*URLS[:2])
        await settle()
        world = World(found)
        assert set(world.found) == set(URLS[:2])
        assert not set(world.made) & set(before.made), "each has its own"
    assert world.watched == set()
    async with running(world):
        assert world.watched == set(world.found.values())
        world.source.say(URLS[0])
        await settle()
        assert set(world.found) == {URLS[0]}


async def test_urls_that_cannot_be_backends_and_watches_that_break(caplog: pytest.LogCaptureFixture) -> None:
    class Careless(World):
        def watch(self, one: Backend) -> Coroutine[Any, Any, None]:
            async def watching() -> None:
                raise RuntimeError("oh")

            return watching()

    async with running(Careless()) as world:
        world.source.say("http://refused/v1", URLS[0])
        await settle()
        assert set(world.found) == {URLS[0]}
        world.source.say()
        await settle()
        assert world.found == {}
    said = [record.getMessage() for record in caplog.records]
    assert "http://refused/v1 cannot be a backend: not this one" in said
    assert "the watch over a backend broke" in said


class Driven(RuleBasedStateMachine):
    """Sets in any order, calls that start and end, time that passes."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.wanted: set[str] = set()
        self.calls: list[Backend] = []
        self.world = World()
        self.task = self.loop.create_task(self.world.roster.run())
        self.loop.run_until_complete(settle())

    def teardown(self) -> None:
        async def end() -> None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
            await self.world.roster.aclose()
            assert all(wire(one).closed == 1 for one in self.world.made)
            assert self.world.watched == set()
            assert len(asyncio.all_tasks()) == 1

        self.loop.run_until_complete(end())
        self.loop.close()

    @rule(urls=st.sets(st.sampled_from(URLS)))
    def say(self, urls: set[str]) -> None:
        self.wanted = urls
        self.world.source.say(*urls)
        self.loop.run_until_complete(settle())

    @rule(seconds=st.floats(0, 3))
    def wait(self, seconds: float) -> None:
        self.loop.run_until_complete(self.world.pass_time(seconds))

    @rule()
    def start(self) -> None:
        one = self.world.pool.pick()
        assert one is not None
        one.started()
        self.calls.append(one)

    @rule(which=st.integers(0, 100))
    def finish(self, which: int) -> None:
        if self.calls:
            self.calls.pop(which % len(self.calls)).finished(Outcome(status=200))

    @rule()
    def all_calls_end_and_time_passes(self) -> None:
        while self.calls:
            self.calls.pop().finished(Outcome(status=200))
        self.wait(2.0)
        assert self.world.roster.leaving == 0
        assert {one.url for one in self.world.made if not wire(one).closed} == self.wanted

    @invariant()
    def members_are_those_who_were_said(self) -> None:
        assert set(self.world.found) == self.wanted
        assert len(self.world.pool.backends) == len(self.wanted) + 1

    @invariant()
    def members_are_watched_and_nobody_else(self) -> None:
        assert self.world.watched == set(self.world.found.values())

    @invariant()
    def nobody_is_closed_who_is_a_member_or_has_calls(self) -> None:
        for one in self.world.made:
            assert wire(one).closed <= 1
            assert not wire(one).closed or (one.inflight == 0 and one not in self.world.pool.backends)


TestRoster = Driven.TestCase
TestRoster.settings = settings(max_examples=30)

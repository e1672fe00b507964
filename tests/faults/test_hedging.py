"""A second attempt beside a late one: the client gets the first of the two, and the other leaves nothing. (Faults 4, 12, 15.)"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from backends.fake.engine import Latency
from tests.faults.fleets import ask, break_down, calls, fleet, is_idle, statuses
from tests.gateways import Running, chat, events, until

NO_CHECKS = {"interval_seconds": 3600}
HEDGED: dict[str, Any] = {"hedging": {"enabled": True, "min_delay_ms": 150}, "health": NO_CHECKS}


async def warm_up(running: Running, stream: bool = True) -> None:
    """So that the gateway knows how long answers take."""
    assert statuses(await ask(running, 30, at_once=3, stream=stream)) == {200: 30}


async def test_a_stream_whose_first_byte_is_late_comes_from_elsewhere() -> None:
    """The winner's answer, whole and once; the loser's socket is closed within a second, without blame."""
    async with fleet([[], []], latency=Latency(ttft=10), **HEDGED) as running:
        await warm_up(running)
        slow = running.fakes["small-0"]
        before = len(calls(slow))
        break_down(slow, "hang_before_headers")
        found = []
        while len(calls(slow)) - before < 3:
            found += await ask(running, 4, at_once=2, stream=True)
        assert all(events(answer.text)[-1] == "[DONE]" for answer in found)
        assert all(answer.text.count("[DONE]") == 1 for answer in found)
        assert {answer.headers["x-router-attempts"] for answer in found} == {"1", "2"}
        lost = calls(slow)[before:]
        assert await until(lambda: all(one.peer_closed_at_chunk == 0 for one in lost), 5)
        assert all((one.closed_after_s or 0) < 3 for one in lost)
        hedged = next(answer for answer in found if answer.headers["x-router-attempts"] == "2")
        decision = (await running.client.get(f"/v1/decisions/{hedged.headers['x-router-decision-id']}")).json()
        assert {attempt["outcome"] for attempt in decision["attempts"]} == {"cancelled", "ok"}
        pool = running.gateway.fleet["small"].pool
        assert [one.breaker.in_a_row for one in pool.backends] == [0, 0]
        assert await until(lambda: is_idle(running), 5)


async def test_the_first_may_win_after_all() -> None:
    """A hedge that comes to nothing costs its call and no more."""
    async with fleet([[], []], latency=Latency(ttft=10), **HEDGED) as running:
        await warm_up(running)
        for one in running.fakes.values():
            one.engine.latency = Latency(ttft=400)
        found = await ask(running, 6, at_once=2, stream=True)
        assert statuses(found) == {200: 6}
        assert "2" in {answer.headers["x-router-attempts"] for answer in found}
        assert await until(lambda: is_idle(running), 5)


async def test_without_it_nothing_is_asked_twice() -> None:
    """Hedging is off unless it is asked for, and for whole answers unless that is asked for as well."""
    for config, stream in (({"health": NO_CHECKS}, True), (HEDGED, False)):
        async with fleet([[], []], latency=Latency(ttft=10), **config) as running:
            await warm_up(running, stream)
            for one in running.fakes.values():
                one.engine.latency = Latency(ttft=400)
            found = await ask(running, 4, at_once=2, stream=stream)
            assert {answer.headers["x-router-attempts"] for answer in found} == {"1"}


async def test_hedges_stay_within_the_budget_of_retries() -> None:
    """Row 12: when everything is slow, a fifth more is asked at most."""
    config = {**HEDGED, "retries": {"budget_minimum": 1}}
    async with fleet([[], []], latency=Latency(ttft=10), **config) as running:
        await warm_up(running)
        before = sum(len(calls(one)) for one in running.fakes.values())
        for one in running.fakes.values():
            one.engine.latency = Latency(ttft=600)
        assert statuses(await ask(running, 60, at_once=30, stream=True)) == {200: 60}
        assert sum(len(calls(one)) for one in running.fakes.values()) - before <= 60 * 1.2 + 3


@pytest.mark.parametrize("whole", [False, True])
async def test_a_client_that_leaves_ends_both(whole: bool) -> None:
    """Row 15: whoever leaves while two attempts run for him closes both within a second."""
    config = {**HEDGED, "hedging": {"enabled": True, "min_delay_ms": 100, "whole_answers": True}}
    async with fleet([[], []], latency=Latency(ttft=10), **config) as running:
        await warm_up(running, not whole)
        tasks = len(asyncio.all_tasks())
        before = {name: len(calls(one)) for name, one in running.fakes.items()}
        for one in running.fakes.values():
            break_down(one, "hang_before_headers")
        leaving = asyncio.create_task(running.post(**chat(content="Are you there?", stream=not whole)))
        hung = [lambda name=name: len(calls(running.fakes[name])) > before[name] for name in running.fakes]  # type: ignore[misc]
        assert await until(lambda: all(one() for one in hung), 10)
        leaving.cancel()
        await asyncio.wait([leaving])
        for name, one in running.fakes.items():
            record = calls(one)[before[name]]
            assert await until(lambda record=record: record.peer_closed_at_chunk is not None, 3)  # type: ignore[misc]
        assert await until(lambda: is_idle(running), 5)
        assert await until(lambda: len(asyncio.all_tasks()) <= tasks + 2, 5)
        assert all(one.breaker.in_a_row == 0 for one in running.gateway.fleet["small"].pool.backends)

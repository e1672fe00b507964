"""Everything fails, or half of it: retries must not make it worse, and must save what can be saved. (Fault 12.)"""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from backends.fake.engine import Latency
from tests.faults.fleets import ask, calls, fleet, is_idle, statuses
from tests.gateways import Running, chat, until

NO_CHECKS = {"interval_seconds": 3600}


async def offer(running: Running, rate: float, seconds: float) -> Counter[int]:
    """So many requests a second, whatever becomes of them. Returns their statuses."""
    loop = asyncio.get_running_loop()
    began, tasks = loop.time(), []
    for number in range(int(rate * seconds)):
        await asyncio.sleep(max(0.0, began + number / rate - loop.time()))
        tasks.append(asyncio.create_task(running.post(**chat(content=f"What is {number} + 1?"))))
    return statuses(await asyncio.gather(*tasks))


@pytest.mark.parametrize("fault", ["status:500", "status:503", "reset_before_headers", "close_after_headers", "html"])
async def test_with_all_failing_the_backends_get_no_more_than_usual(fault: str) -> None:
    """Row 12: 100 % errors, and at most 1.2 attempts for each request; in fact far fewer."""
    async with fleet([[fault], [fault]], [[fault]], health=NO_CHECKS) as running:
        found = await offer(running, 100, 3)
        attempts = sum(len(calls(one)) for one in running.fakes.values())
        assert attempts <= 1.2 * 300
        assert set(found) <= {502, 503}, found
        assert await until(lambda: is_idle(running), 5)


async def test_without_breakers_the_budget_alone_holds() -> None:
    """Row 12: errors that come and go keep breakers closed; retries stay within a fifth of the requests."""
    off = {"failures": 1000}
    config = {"breaker": off, "ejection": {"failures": 0, "unreachable": 0, "min_requests": 1_000_000}, "health": NO_CHECKS}
    async with fleet([["status:500"], ["status:500"]], retries={"budget_minimum": 1, "wait_seconds": 0}, **config) as running:
        await offer(running, 80, 5)
        attempts = sum(len(calls(one)) for one in running.fakes.values())
        assert 1.1 * 400 <= attempts <= 1.2 * 400 + 10


async def test_a_crash_under_load_loses_nobody() -> None:
    """Row 12: half of the calls in flight are gone at once, far more than the budget lets through; they wait for it, and are saved."""
    async with fleet([[], []], latency=Latency(ttft=400, seqs=256), health={"interval_seconds": 0.5}) as running:
        asked = asyncio.create_task(ask(running, 56, at_once=56))
        assert await until(lambda: sum(len(calls(one)) for one in running.fakes.values()) == 56, 20)
        await running.fakes["small-0"].stop()
        assert statuses(await asked) == {200: 56}
        assert sum(len(calls(one)) for one in running.fakes.values()) <= 2 * 56
        assert await until(lambda: is_idle(running), 5)


async def test_who_waits_for_the_budget_and_leaves_leaves_nothing() -> None:
    """Rows 12, 15: the line of those who wait to try again is empty when they are gone."""
    retries = {"budget_ratio": 0.0, "budget_minimum": 1, "wait_seconds": 60}
    async with fleet([["status:500"], []], latency=Latency(ttft=3_000), retries=retries, health=NO_CHECKS) as running:
        tasks = [asyncio.create_task(running.post(**chat(content=f"{number}"))) for number in range(12)]
        budget = running.gateway.executor._budget
        assert await until(lambda: budget.waiting > 1, 10)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert await until(lambda: (budget.waiting, budget.active, budget.retrying) == (0, 0, 0), 10)
        assert await until(lambda: is_idle(running), 5)

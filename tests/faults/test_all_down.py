"""Nobody is left: the client hears it at once, and as soon as somebody is back it is served. (Fault 10.)"""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.faults.fleets import ask, backend, break_down, calls, fleet, statuses
from tests.gateways import chat, until

OFTEN = {"interval_seconds": 0.2, "timeout_seconds": 0.2}


async def test_all_down_is_a_503_within_a_second_that_says_when_and_why() -> None:
    """Row 10: status, `Retry-After` and a reason, and no attempt."""
    async with fleet([[], []], [[]], health=OFTEN) as running:
        for one in running.fakes.values():
            await one.stop()
        every = [found for served in running.gateway.fleet for found in served.pool.backends]
        assert await until(lambda: all(found.health == "down" for found in every), 15)
        began = time.monotonic()
        found = await running.post(**chat())
        assert time.monotonic() - began < 1.0
        assert (found.status_code, found.json()["error"]["code"]) == (503, "no_healthy_backend")
        assert int(found.headers["retry-after"]) >= 1
        assert "small (unhealthy)" in found.json()["error"]["message"]
        named = await running.post(**chat("small"))
        assert (named.status_code, named.json()["error"]["code"]) == (503, "no_healthy_backend")
        assert (await running.client.get("/readyz")).status_code == 503
        assert (await running.client.get("/healthz")).status_code == 200


async def test_back_up_it_is_used_at_once() -> None:
    """Row 10: nothing has to be restarted, and no pause of a breaker stands in the way."""
    async with fleet([["unhealthy"]], health=OFTEN, breaker={"pause_seconds": 60, "max_pause_seconds": 60}) as running:
        assert await until(lambda: backend(running).health == "down", 15)
        found = backend(running).breaker
        while found.state == "closed":
            found.failed(found.started(), "lost")
        assert statuses(await ask(running, 3)) == {503: 3}
        break_down(running.fakes["small-0"])
        assert await until(lambda: backend(running).health == "up", 15)
        assert statuses(await ask(running, 10, at_once=3)) == {200: 10}


@pytest.mark.parametrize("size", [1, 2, 3])
async def test_when_all_fail_but_live_the_least_bad_is_tried(size: int) -> None:
    """Row 10: with every breaker open somebody is asked all the same, one call at a time; the first good answer ends it."""
    health = {"interval_seconds": 3600}
    async with fleet([["status:500"]] * size, health=health, retries={"max_attempts": 2}) as running:
        await ask(running, 12 * size, at_once=2)
        pool = running.gateway.fleet["small"].pool
        assert all(one.breaker.state != "closed" for one in pool.backends)
        began = time.monotonic()
        refused = await running.post(**chat())
        assert time.monotonic() - began < 2.0
        assert refused.status_code in (502, 503)
        for one in running.fakes.values():
            break_down(one)

        async def answers() -> bool:
            return (await running.post(**chat())).status_code == 200

        assert await until(answers, 10), "and not after the pauses"
        assert statuses(await ask(running, 20, at_once=4)) == {200: 20}


async def test_one_at_a_time_tries_a_backend_that_hangs() -> None:
    """Row 10: of many requests to a backend that takes nobody's, one waits for it; the others are not held up by that."""
    config = {"timeouts": {"first_byte": 1, "idle": 1}, "health": {"interval_seconds": 3600}, "retries": {"max_attempts": 1}}
    async with fleet([["hang_before_headers"]], admission={"queue": {"interactive": {"max_wait_seconds": 0.3}}}, **config) as running:
        assert set(statuses(await ask(running, 6, at_once=6))) == {504}
        assert backend(running).breaker.state == "open"
        before = len(calls(running.fakes["small-0"]))
        found = await asyncio.gather(*(running.post(**chat(content=f"{number}")) for number in range(20)))
        assert set(statuses(found)) <= {429, 503, 504}
        assert len(calls(running.fakes["small-0"])) - before <= 3

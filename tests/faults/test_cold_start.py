"""Servers that start: `/health` is well long before the model can be asked. (Fault 9.)"""

from __future__ import annotations

import asyncio

from tests.faults.fleets import ask, backend, break_down, calls, fleet, statuses
from tests.gateways import chat, until

OFTEN = {"interval_seconds": 0.2}


async def test_a_model_that_loads_is_no_candidate_and_the_gateway_is_ready_without_it() -> None:
    """Row 9: requests go elsewhere, `/readyz` says who can be served, and the model joins by itself."""
    async with fleet([["loading:2"]], [[]], health=OFTEN) as running:
        assert await until(lambda: backend(running).health == "loading", 10)
        found = await ask(running, 10, at_once=4)
        assert {(one.status_code, one.headers["x-router-model"], one.headers["x-router-attempts"]) for one in found} == {
            (200, "large", "1")
        }
        ready = await running.client.get("/readyz")
        assert (ready.status_code, ready.json()["models"]) == (200, {"small": False, "large": True})
        assert not calls(running.fakes["small-0"])
        assert await until(lambda: backend(running).health == "up", 20)
        assert {one.headers["x-router-model"] for one in await ask(running, 5)} == {"small"}


async def test_one_backend_of_a_model_loads_while_the_other_serves() -> None:
    """Row 9: a new replica gets its first call when it lists the model."""
    async with fleet([["model_absent"], []], health=OFTEN) as running:
        assert await until(lambda: backend(running).health == "loading", 10)
        assert statuses(await ask(running, 20, at_once=4)) == {200: 20}
        assert not calls(running.fakes["small-0"])
        break_down(running.fakes["small-0"])
        assert await until(lambda: backend(running).health == "up", 20)
        assert statuses(await ask(running, 20, at_once=4)) == {200: 20}
        assert calls(running.fakes["small-0"])


async def test_without_anybody_else_it_is_a_503_at_once() -> None:
    """Row 9: a client is told to come back, and does not wait for weights of which nobody knows when they are there."""
    async with fleet([["model_absent"]], health=OFTEN) as running:
        assert await until(lambda: backend(running).health == "loading", 10)
        found = await running.post(**chat())
        assert (found.status_code, found.json()["error"]["code"]) == (503, "no_healthy_backend")
        assert int(found.headers["retry-after"]) >= 1
        assert (await running.client.get("/readyz")).status_code == 503


async def test_requests_may_wait_for_it() -> None:
    """Row 9, with `wait_while_loading`: requests wait in line, each until its own deadline, and go out when the model is there."""
    async with fleet([["loading:2.5"]], health={**OFTEN, "wait_while_loading": True}) as running:
        assert await until(lambda: backend(running).health == "loading", 10)
        late, waiting = await asyncio.gather(
            running.post(**chat(content="at once", router={"max_latency_ms": 300})), ask(running, 10, at_once=10)
        )
        assert (late.status_code, late.json()["error"]["code"]) == (504, "deadline_exceeded")
        assert statuses(waiting) == {200: 10}
        assert len(calls(running.fakes["small-0"])) == 10


async def test_a_name_that_it_does_not_serve_is_told_to_the_operator() -> None:
    """Row 9: a wrong `served_as` looks like a model that never gets ready, and its reason says so."""
    async with fleet([[]], health=OFTEN) as running:
        found = backend(running)
        found.served_as = "Org/Other-7B"
        assert await until(lambda: found.health == "loading", 10)
        assert found.why == "'Org/Other-7B' is not among its models"

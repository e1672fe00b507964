"""Models that share GPUs, behind the gateway: who sleeps is woken for whoever chose it, and nobody is lost meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from backends.fake.endpoints import create
from backends.fake.residency import Residency
from backends.fake.shapes import Character
from tests.gateways import Running, chat, model, route, serving, until

TIMES = Residency(sleep=0.02, wake=0.1, reload=0.1, adapter=0.02, while_asleep="crash")
NAMES = ("one", "two", "three")


@asynccontextmanager
async def house(scorers: list[dict[str, Any]], capacity: float = 1, **more: Any) -> AsyncIterator[Running]:
    """Three experts with memory for one."""
    async with AsyncExitStack() as stack:
        fakes = {}
        for name in NAMES:
            fakes[name] = create([Character(name, 1.0, 12)], residency=TIMES)
            await fakes[name].start()
            stack.push_async_callback(fakes[name].stop)
        group = {"models": list(NAMES), "capacity": capacity, "min_stay_seconds": 0.05, "max_wait_seconds": 1, "look_seconds": 0.2}
        config = {
            "models": [model(name, fakes[name].url) for name in NAMES],
            "routes": [route(*NAMES, scorers=scorers)],
            "residency": [{**group, **more}],
        }
        running = await stack.enter_async_context(serving(config))
        running.fakes = fakes
        yield running


async def awake(running: Running) -> set[str]:
    found = (await running.client.get("/admin/backends")).json()["experts"]
    return {expert["expert"] for expert in found if expert["state"] == "awake"}


async def test_whoever_is_named_is_woken_and_nobody_is_lost() -> None:
    async with house([{"type": "cost"}]) as running:
        for name in (*NAMES, *NAMES):
            response = await running.post(**chat(name))
            assert (response.status_code, response.headers["x-router-model"]) == (200, name), response.text
            assert len(await awake(running)) <= 1
        answers = await asyncio.gather(*(running.post(**chat(NAMES[number % 3], f"question {number}")) for number in range(18)))
        assert [answer.status_code for answer in answers] == [200] * 18
        assert "pointsman_size" in (await running.client.get("/metrics")).text


async def test_the_second_best_answers_if_waking_is_dear() -> None:
    weights = {"type": "weights", "models": {"one": 0.9, "two": 0.8, "three": 0.7}}
    async with house([weights, {"type": "residency", "weight": 5.0, "horizon_seconds": 1}]) as running:
        assert (await running.post(**chat("two"))).status_code == 200
        assert await until(lambda: running.gateway.fleet["two"].pool.residence.serves(), 3)  # type: ignore[union-attr]
        assert (await running.post(**chat("auto", "a new question"))).headers["x-router-model"] == "two"
    async with house([weights]) as running:
        assert (await running.post(**chat("two"))).status_code == 200
        assert (await running.post(**chat("auto", "a new question"))).headers["x-router-model"] == "one"

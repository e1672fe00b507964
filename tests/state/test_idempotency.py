"""The same call twice under one key runs once, and both get the same bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from backends.fake.engine import Latency
from tests.gateways import Running, chat, fake, model, route, serving, until
from tests.redis_servers import RedisServer

PATH = "/v1/chat/completions"


@asynccontextmanager
async def gateways(server: RedisServer | None, *faults: str, ttft: float = 0) -> AsyncIterator[tuple[list[Running], Any]]:
    """Two gateways before one backend; only one where there is no Redis."""
    async with fake("small", *faults, latency=Latency(ttft=ttft)) as small:
        config: dict[str, Any] = {"models": [model("small", small.url)], "routes": [route("small")]}
        if server is None:
            async with serving(config) as one:
                yield [one, one], small
            return
        config["redis"] = {"url": server.url, "timeout_ms": 5000}
        async with serving(config) as one, serving(config) as other:
            yield [one, other], small


async def send(running: Running, key: str, **body: Any) -> httpx.Response:
    return await running.client.post(PATH, json=chat(**body), headers={"idempotency-key": key})


def calls(small: Any) -> int:
    return len([record for record in small.records if record.method == "POST"])


async def drained(running: Running) -> None:
    store = running.gateway.memory.store
    assert store is None or await until(lambda: store.pending == 0)


async def test_the_same_bytes_for_the_same_call(server: RedisServer | None) -> None:
    async with gateways(server) as ((one, other), small):
        first = await send(one, "k-1")
        await drained(one)
        again = await send(other, "k-1")
        assert (again.status_code, again.content) == (200, first.content)
        assert again.headers["idempotent-replayed"] == "true"
        assert again.headers["x-router-decision-id"] == first.headers["x-router-decision-id"]
        assert "idempotent-replayed" not in first.headers
        assert calls(small) == 1
        conflict = await send(other, "k-1", content="Something else")
        assert (conflict.status_code, conflict.json()["error"]["code"]) == (409, "idempotency_conflict")
        assert (await send(one, "k-2")).headers["x-router-decision-id"] != first.headers["x-router-decision-id"]
        assert calls(small) == 2
        cost = (await one.client.get("/metrics")).text
        assert 'pointsman_cost_usd_total{model="small",route="auto"}' in cost


async def test_two_at_the_same_time_run_once(server: RedisServer | None) -> None:
    async with gateways(server, ttft=300) as ((one, other), small):
        answers = await asyncio.gather(*(send(g, "k") for g in (one, other, one, other)))
        assert {a.status_code for a in answers} == {200}
        assert len({a.content for a in answers}) == 1
        assert calls(small) == 1


async def test_an_error_is_not_kept(server: RedisServer | None) -> None:
    async with gateways(server, "status:400@first=1") as ((one, other), small):
        assert (await send(one, "k")).status_code == 400
        await drained(one)
        assert (await send(other, "k")).status_code == 200
        assert calls(small) == 2


async def test_who_leaves_frees_the_key(server: RedisServer | None) -> None:
    async with gateways(server, ttft=1500) as ((one, other), small):
        with pytest.raises(httpx.ReadTimeout):
            await one.client.post(PATH, json=chat(), headers={"idempotency-key": "k"}, timeout=0.3)
        assert await until(lambda: any(line["status"] == 499 for line in one.lines()))
        await drained(one)
        assert (await send(other, "k")).status_code == 200
        assert calls(small) == 2


async def test_streams_and_bad_keys(server: RedisServer | None) -> None:
    async with gateways(server) as ((one, _), small):
        for _ in range(2):
            assert (await send(one, "k", stream=True)).status_code == 200
        assert calls(small) == 2, "streams run each time"
        bad = await send(one, "x" * 256)
        assert (bad.status_code, bad.json()["error"]["param"]) == (400, "idempotency-key")


async def test_what_is_kept_is_bounded() -> None:
    async with fake("small") as small:
        config = {"models": [model("small", small.url)], "routes": [route("small")], "idempotency": {"size": 3}}
        async with serving(config) as running:
            for number in range(6):
                await send(running, f"k-{number}")
            assert len(running.gateway.memory.repeats) == 3
            await send(running, "k-5")
            assert calls(small) == 6
            await send(running, "k-0")
            assert calls(small) == 7

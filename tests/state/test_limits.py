"""Requests and tokens a minute, and budgets: with Redis, with Valkey, without any, and while Redis is away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from backends.fake.engine import Latency
from gateway.guard.verdicts import duration, window
from tests.gateways import Running, chat, pair, until
from tests.redis_servers import RedisServer, redis_server
from tests.state.callers import Keys

PATH = "/v1/chat/completions"


def section(server: RedisServer | None) -> dict[str, Any]:
    return {} if server is None else {"redis": {"url": server.url, "timeout_ms": 5000}}


@asynccontextmanager
async def limited(server: RedisServer | None, keys: Keys, **more: Any) -> AsyncIterator[Running]:
    async with pair(auth=keys.auth, **section(server), **more) as running:
        yield running


async def ask(running: Running, key: dict[str, str], **body: Any) -> httpx.Response:
    return await running.client.post(PATH, json=chat(**{"max_tokens": 20, **body}), headers=key)


async def settled(running: Running) -> None:
    store = running.gateway.memory.store
    if store is not None:
        assert await until(lambda: store.pending == 0)


async def test_requests_a_minute(server: RedisServer | None, tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    key, other = keys.add(rpm=3), keys.add(rpm=3)
    async with limited(server, keys) as running:
        answers = [await ask(running, key) for _ in range(4)]
        assert [a.status_code for a in answers] == [200, 200, 200, 429]
        assert [a.headers["x-ratelimit-remaining-requests"] for a in answers[:3]] == ["2", "1", "0"]
        assert answers[0].headers["x-ratelimit-limit-requests"] == "3"
        assert answers[0].headers["x-ratelimit-reset-requests"] == "20s"
        refused = answers[3]
        assert refused.json()["error"]["code"] == "rate_limit_exceeded"
        assert refused.json()["error"]["type"] == "rate_limit_error"
        assert 15 <= int(refused.headers["retry-after"]) <= 20
        assert refused.headers["x-ratelimit-remaining-requests"] == "0"
        again = await ask(running, key)
        assert again.status_code == 429, "known here without asking anybody"
        assert 15 <= int(again.headers["retry-after"]) <= 20
        dry = await running.client.post("/v1/route", json=chat(), headers=key)
        assert dry.status_code == 429
        assert (await ask(running, other)).status_code == 200


async def test_tokens_a_minute_are_reserved_and_settled(server: RedisServer | None, tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    key = keys.add(tpm=600)
    async with limited(server, keys) as running:
        first = await ask(running, key, max_tokens=500)
        assert first.status_code == 200
        assert int(first.headers["x-ratelimit-remaining-tokens"]) < 100
        await settled(running)
        used = first.json()["usage"]["total_tokens"]
        second = await ask(running, key, max_tokens=500)
        assert second.status_code == 200, "what was not used came back"
        await settled(running)
        third = await ask(running, key, max_tokens=1)
        assert 600 - 3 * used - 10 <= int(third.headers["x-ratelimit-remaining-tokens"]) <= 600 - 2 * used
        whole = await ask(running, key, max_tokens=5000)
        assert whole.status_code == 429, "more than all of it waits for a full bucket"


async def test_a_budget_is_settled_to_what_it_really_cost(server: RedisServer | None, tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    key = keys.add(budget_usd=0.0005, budget_window="day")
    async with limited(server, keys, ledger={"path": str(tmp_path / "ledger.jsonl")}) as running:
        for number in range(5):
            answer = await ask(running, key, model="large", content=f"What is {number} + 1?", max_tokens=100, stream=bool(number % 2))
            assert answer.status_code == 200, answer.text
            await settled(running)
        await running.gateway.ledger.flush()
        lines = [json.loads(line) for line in (tmp_path / "ledger.jsonl").read_text().splitlines()]
        spent = sum(line["cost_usd"] for line in lines)
        assert len(lines) == 5
        assert all(line["caller"] == keys.id() for line in lines)
        if server is not None:
            (name,) = server.command("KEYS", "*:budget:*")
            spent_there, held = server.command("HMGET", name, "spent", "held")
            assert int(held) == 0
            assert int(spent_there) / 1e12 == pytest.approx(spent, abs=1e-9)
        never = await ask(running, key, model="large", max_tokens=1000)
        assert never.status_code == 402
        assert "retry-after" not in never.headers, "the whole budget would not pay for it"
        refused = await ask(running, key, model="large", max_tokens=155)
        assert (refused.status_code, refused.json()["error"]["code"]) == (402, "budget_exceeded")
        assert int(refused.headers["retry-after"]) > 0
        cheap = await ask(running, key, model="small", max_tokens=100)
        assert cheap.status_code == 200


async def test_a_route_falls_back_to_a_model_that_the_budget_pays_for(server: RedisServer | None, tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    key = keys.add(budget_usd=0.0004)
    policy = [
        {"name": "auto", "models": ["small", "large"], "policy": {"scorers": [{"type": "weights", "models": {"small": 0, "large": 1}}]}}
    ]
    async with limited(server, keys, routes=policy) as running:
        assert (await ask(running, key, max_tokens=100)).headers["x-router-model"] == "large"
        await settled(running)
        answers = [await ask(running, key, max_tokens=100) for _ in range(4)]
        await settled(running)
        assert {a.status_code for a in answers} == {200}
        over = await ask(running, key, max_tokens=125)
        assert over.headers["x-router-model"] == "small", "the decision is remembered, and the budget still counts"
        assert (await ask(running, key, max_tokens=30_000)).status_code == 402


async def test_what_fails_costs_nothing_and_what_is_cut_off_is_estimated(server: RedisServer | None, tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    key = keys.add(budget_usd=1.0, tpm=1_000_000)
    faults = ["status:400@first=1"]
    async with limited(server, keys, small=faults, latency=Latency(tpot=20), ledger={"path": str(tmp_path / "l")}) as running:
        assert (await ask(running, key, model="small")).status_code == 400
        await settled(running)
        body = chat("small", "Tell me a long story.", stream=True, max_tokens=500)
        async with running.client.stream("POST", PATH, json=body, headers=key) as answer:
            async for _ in answer.aiter_bytes():
                await asyncio.sleep(0.3)
                break
        assert await until(lambda: any(line["status"] == 499 for line in running.lines()))
        await running.gateway.ledger.flush()
        failed, left = [json.loads(line) for line in (tmp_path / "l").read_text().splitlines()]
        assert (failed["cost_usd"], failed["estimated"]) == (None, False)
        assert left["estimated"] is True
        assert 0 < left["usage"]["completion_tokens"] < 500
        assert left["cost_usd"] > 0


async def test_bad_input_reserves_nothing(server: RedisServer | None, tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    key = keys.add(budget_usd=1.0, tpm=100_000, rpm=100)
    async with limited(server, keys) as running:
        before = await ask(running, key)
        await settled(running)
        for body in ({"max_tokens": -1}, {"n": 1000}, {"max_tokens": 10**12}, {"max_tokens": 2_000_000_000}, {"model": "nobody"}):
            for name in ("auto", "small"):
                answer = await ask(running, key, **{"model": name, **body})
                assert answer.status_code in (400, 404), answer.text
                assert answer.json()["error"]["type"] == "invalid_request_error"
        many = await running.client.post("/v1/completions", json={"model": "small", "prompt": "x", "best_of": 1000}, headers=key)
        assert many.status_code == 400
        after = await ask(running, key)
        assert int(before.headers["x-ratelimit-remaining-requests"]) - int(after.headers["x-ratelimit-remaining-requests"]) == 1


async def test_while_redis_is_away_each_gateway_keeps_its_part(tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    key, poor = keys.add(rpm=10), keys.add(budget_usd=0.001, budget_window="day")
    with redis_server() as server:
        more = {"redis": {"url": server.url, "timeout_ms": 250}, "limits": {"expected_replicas": 2}}
        async with pair(auth=keys.auth, **more) as running:
            assert await until(lambda: "1.0" in _gauge(running))
            first = await ask(running, poor, model="large", max_tokens=100)
            assert first.status_code == 200
            assert "x-router-limits" not in first.headers
            await settled(running)
            server.stop()
            answers = [await ask(running, key) for _ in range(6)]
            assert [a.status_code for a in answers] == [200] * 5 + [429], "never unlimited, never a 500"
            assert answers[0].headers["x-router-limits"] == "local"
            text = (await running.client.get("/metrics")).text
            assert "pointsman_limits_local_total 6.0" in text
            assert "pointsman_redis_up 0.0" in text
            assert (await running.client.get("/readyz")).status_code == 200
            dear = await ask(running, poor, model="large", max_tokens=200)
            assert dear.status_code == 402, "of what was left, half is for the other gateway"
            assert (await ask(running, poor, model="small", max_tokens=200)).status_code == 200
            server.start()
            assert await until(lambda: "1.0" in _gauge(running), 5.0)
            assert "x-router-limits" not in (await ask(running, poor, model="small")).headers
            await settled(running)
            (name,) = server.command("KEYS", "*:budget:*")
            assert int(server.command("HGET", name, "spent")) > 0, "what was spent meanwhile is known again"


def _gauge(running: Running) -> str:
    text = running.gateway.metrics.text().decode()
    return next(line for line in text.splitlines() if line.startswith("pointsman_redis_up "))


async def test_a_reservation_of_a_dead_process_comes_back(tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    key = keys.add(budget_usd=0.0004)
    with redis_server() as server:
        async with pair(auth=keys.auth, **section(server), limits={"hold_seconds": 1}) as running:
            limits, store = running.gateway.guard.limits, running.gateway.memory.store
            assert store is not None
            file = running.gateway.guard.keys
            assert file is not None
            caller = file.ring.find(key["authorization"].removeprefix("Bearer ").encode())
            assert caller is not None
            await limits.reserve(caller, 100, 0.0003)
            refused = await ask(running, key, model="large", max_tokens=100)
            assert refused.status_code == 402
            assert int(refused.headers["retry-after"]) == 1, "what others hold is mostly given back soon"
            await asyncio.sleep(1.1)
            assert (await ask(running, key, model="large", max_tokens=100)).status_code == 200


def test_windows_and_durations() -> None:
    assert window("day", 0) == ("1970-01-01", 86_400)
    assert window("month", 86_400 * 30) == ("1970-01", 86_400)
    assert window("month", 1_796_083_200) == ("2026-12", 31 * 86_400)
    assert [duration(s) for s in (0, 0.02, 1, 1.5, 20, 60, 360, 61.5)] == ["0ms", "20ms", "1s", "1.5s", "20s", "1m0s", "6m0s", "1m1.5s"]

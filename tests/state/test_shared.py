"""Several gateways act as one: decisions, conversations, feedback and repeated calls are known to all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from backends.fake.engine import Latency
from routers.api import Candidate, Need, Outcome, RouteRequest
from routers.registry import Registry
from tests.gateways import Running, chat, fake, model, route, serving, until
from tests.redis_servers import KINDS, RedisServer, redis_server


@asynccontextmanager
async def twins(server: RedisServer, registry: Registry | None = None, latency: Latency | None = None, **more: Any) -> AsyncIterator[Any]:
    """Two gateways on one Redis and the same backends: `(first, second, fakes)`."""
    async with fake("small", latency=latency) as small, fake("large", latency=latency) as large:
        config = {
            "models": [model("small", small.url), model("large", large.url)],
            "routes": [route("small", "large")],
            "redis": {"url": server.url, "timeout_ms": 5000},
            **more,
        }
        async with serving(config, registry) as first, serving(config, registry) as second:
            yield first, second, {"small": small, "large": large}


async def settled(*gateways: Running) -> None:
    """Waits until what was to be written to Redis is there."""
    assert await until(lambda: all(g.gateway.memory.store is not None and g.gateway.memory.store.pending == 0 for g in gateways))


@pytest.mark.parametrize("kind", KINDS)
async def test_a_decision_of_one_is_found_by_the_other(kind: str) -> None:
    with redis_server(kind) as server:
        async with twins(server) as (first, second, _):
            assert (await first.post(**chat())).headers["x-router-cache"] == "miss"
            await settled(first)
            assert (await second.post(**chat())).headers["x-router-cache"] == "hit"
            server.command("FLUSHALL")
            assert (await second.post(**chat())).headers["x-router-cache"] == "hit", "it is remembered in the process too"


POISON = [
    b"{",
    b"\xff\xfe",
    b"null",
    b"[]",
    b'{"v":0,"policy":"p","reason":"best_score","ranking":[{"model":"large","score":1}]}',
    b'{"v":1,"policy":"p","reason":"best_score","ranking":[{"model":"nobody","score":1}]}',
    b'{"v":1,"policy":"p","reason":"best_score","ranking":[]}',
    b'{"v":1,"policy":"p","reason":"because","ranking":[{"model":"large","score":1}]}',
    b'{"v":1,"policy":"p","reason":"best_score","ranking":[{"model":"large","score":1},{"model":"large","score":1}]}',
]


@pytest.mark.parametrize("value", POISON)
async def test_a_poisoned_choice_is_a_miss_and_is_overwritten(value: bytes) -> None:
    with redis_server() as server:
        async with twins(server) as (first, second, _):
            await first.post(**chat())
            await settled(first)
            (key,) = server.command("KEYS", "*:choice:*")
            server.command("SET", key, value)
            answer = await second.post(**chat())
            assert (answer.status_code, answer.headers["x-router-cache"], answer.headers["x-router-model"]) == (200, "miss", "small")
            await settled(second)
            assert json.loads(server.command("GET", key))["ranking"][0]["model"] == "small"


async def test_a_good_choice_is_used_as_it_stands() -> None:
    with redis_server() as server:
        async with twins(server) as (first, second, _):
            await first.post(**chat())
            await settled(first)
            (key,) = server.command("KEYS", "*:choice:*")
            kept = json.loads(server.command("GET", key))
            kept["ranking"].reverse()
            server.command("SET", key, json.dumps(kept))
            answer = await second.post(**chat())
            assert (answer.headers["x-router-cache"], answer.headers["x-router-model"]) == ("hit", "large")


async def test_a_change_of_the_route_makes_no_stale_hit_and_another_one_does_not_flush() -> None:
    with redis_server() as server:
        async with fake("small") as small, fake("large") as large:
            models = [model("small", small.url), model("large", large.url)]
            config: dict[str, Any] = {
                "models": models,
                "routes": [route("small", "large")],
                "redis": {"url": server.url, "timeout_ms": 5000},
            }
            seen = []
            for change in (
                {},
                {"health": {"interval_seconds": 9}},
                {"routes": [route("small", "large", scorers=[{"type": "weights", "models": {"small": 0.0, "large": 1.0}}])]},
                {"models": [models[0], {**models[1], "price": {"input": 0.01, "output": 0.01}}]},
            ):
                async with serving({**config, **change}) as running:
                    answer = await running.post(**chat())
                    seen.append((answer.headers["x-router-cache"], answer.headers["x-router-model"]))
                    await settled(running)
            assert seen == [("miss", "small"), ("hit", "small"), ("miss", "large"), ("miss", "large")]


async def test_a_burst_of_equal_questions_is_decided_once() -> None:
    class Slow:
        needs: frozenset[Need] = frozenset({"text"})
        instant = False
        predicts = "preference"
        calls = 0

        def score(self, request: RouteRequest, candidates: Sequence[Candidate]) -> Mapping[str, float]:
            import time

            Slow.calls += 1
            time.sleep(0.1)
            return {"small": 0.0, "large": 1.0}

    policy = {**route("small", "large", scorers=[{"type": "slow"}]), "decision_deadline_ms": 5000}
    with redis_server() as server:
        async with twins(server, Registry({("scorers", "slow"): Slow}), routes=[policy]) as (first, _, _fakes):
            answers = await asyncio.gather(*(first.post(**chat()) for _ in range(20)))
            assert {a.headers["x-router-model"] for a in answers} == {"large"}
            assert Slow.calls == 1
            assert sorted(a.headers["x-router-cache"] for a in answers) == ["hit"] * 19 + ["miss"]


async def test_a_remembered_choice_passes_health_when_it_is_used() -> None:
    with redis_server() as server:
        async with twins(server) as (first, second, _):
            await first.post(**chat())
            await settled(first)
            second.gateway.fleet["small"].pool.backends[0].health = "down"
            answer = await second.post(**chat(router={"explain": True}))
            assert (answer.headers["x-router-cache"], answer.headers["x-router-model"]) == ("hit", "large")
            assert answer.json()["router"]["rejected"] == {"small": "unhealthy"}


async def test_decisions_and_feedback_reach_every_gateway() -> None:
    heard: list[Outcome] = []

    class Learning:
        needs: frozenset[Need] = frozenset({"text"})
        instant = True
        predicts = "preference"

        def score(self, request: RouteRequest, candidates: Sequence[Candidate]) -> Mapping[str, float]:
            return {"small": 1.0}

        def observe(self, outcome: Outcome) -> None:
            heard.append(outcome)

    policy = route("small", "large", scorers=[{"type": "learning"}])
    with redis_server() as server:
        async with twins(server, Registry({("scorers", "learning"): Learning}), routes=[policy]) as (first, second, _):
            await asyncio.sleep(0.1)
            answer = await first.post(**chat(content="What is 2 + 2?", max_tokens=50))
            decision = answer.headers["x-router-decision-id"]
            await settled(first)
            shown = (await second.client.get(f"/v1/decisions/{decision}")).json()
            assert (shown["id"], shown["answered_by"], shown["status"]) == (decision, "small", 200)
            assert "2 + 2" not in json.dumps(shown)
            told = {"decision_id": decision, "score": 0.75, "comment": "fine"}
            for gateway in (second, second, first):
                assert (await gateway.post("/v1/feedback", **told)).status_code == 200
            conflict = await first.post("/v1/feedback", **{**told, "score": 0.1})
            assert (conflict.status_code, conflict.json()["error"]["code"]) == (409, "idempotency_conflict")
            assert await until(lambda: len(heard) == 2, 4.0), "one learner in each of two gateways"
            await asyncio.sleep(1.2)
            assert [(o.score, o.model, o.request.text, o.request.max_tokens) for o in heard] == [(0.75, "small", "What is 2 + 2?", 50)] * 2
            assert heard[0].cost_usd is not None
            assert heard[0].cost_usd > 0


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"decision_id": "dec-" + "0" * 24, "score": 1}, 404, "decision_not_found"),
        ({"decision_id": "../../x", "score": 1}, 404, "decision_not_found"),
        ({"decision_id": "x", "score": 1.5}, 400, "invalid_value"),
        ({"decision_id": "x", "score": "good"}, 400, "invalid_value"),
        ({"decision_id": "x", "score": 1, "more": 1}, 400, "invalid_value"),
        ({"score": 1}, 400, "missing_field"),
    ],
)
async def test_feedback_that_makes_no_sense(body: dict[str, Any], status: int, code: str) -> None:
    with redis_server() as server:
        async with twins(server) as (first, _, _fakes):
            answer = await first.post("/v1/feedback", **body)
            assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)

"""No remembered decision outlives what it was decided by: here the artifact of a router. And what a cache is worth: its share of hits."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.gateways import chat, fake, model, pair, route, serving, until
from tests.redis_servers import redis_server
from tests.trained import lessons, write_knn

SUMS = [f"What is {a} times {b}?" for a, b in ((12, 7), (33, 4), (8, 91), (14, 15))]


def write_artifact(folder: Path, scores: tuple[float, float]) -> None:
    """A knn artifact in which both models have these outcomes at sums."""
    pytest.importorskip("onnxruntime", reason="the extra `embed` is not installed")
    from routers.embedding import MiniLM
    from routers.scorers import knn

    encoder = MiniLM()
    neighbours = knn.fit(lessons(encoder.encode(SUMS), [scores] * len(SUMS), ["small", "large"]), 2)
    write_knn(folder, encoder, neighbours, ["small", "large"], k=2)


async def test_another_artifact_at_the_same_place_is_asked_anew(tmp_path: Path) -> None:
    with redis_server() as server:
        async with fake("small") as small, fake("large") as large:
            policy = route("small", "large", scorers=[{"type": "knn", "artifact": str(tmp_path / "knn")}])
            config: dict[str, Any] = {
                "models": [model("small", small.url), model("large", large.url)],
                "routes": [{**policy, "decision_deadline_ms": 5000}],
                "redis": {"url": server.url, "timeout_ms": 1000},
            }
            seen = []
            for scores in ((0.9, 0.1), (0.9, 0.1), (0.1, 0.9)):
                if not seen or scores != (0.9, 0.1):
                    write_artifact(tmp_path / "knn", scores)
                async with serving(config) as running:
                    answer = await running.post(**chat(content="What is 6 times 7?"))
                    seen.append((answer.headers["x-router-cache"], answer.headers["x-router-model"]))
                    store = running.gateway.memory.store
                    assert store is not None
                    assert await until(lambda store=store: store.pending == 0)  # type: ignore[misc]
            assert seen == [("miss", "small"), ("hit", "small"), ("miss", "large")]


async def test_the_share_of_hits_is_what_the_prompts_allow() -> None:
    reads_text = route("small", "large", scorers=[{"type": "rules", "rules": [{"prefer": {"small": 1.0}}]}])
    async with pair(cache={"size": 50}, routes=[reads_text]) as running:
        for number in range(120):
            await running.post(**chat(content=f"question {number % 40}"))
        text = (await running.client.get("/metrics")).text
        assert 'pointsman_decision_cache_total{result="miss"} 40.0' in text
        assert 'pointsman_decision_cache_total{result="hit"} 80.0' in text


async def test_a_choice_grows_old() -> None:
    async with pair(cache={"ttl_seconds": 0.2}) as running:
        seen = []
        for _ in range(3):
            seen.append((await running.post(**chat())).headers["x-router-cache"])
        await asyncio.sleep(0.25)
        seen.append((await running.post(**chat())).headers["x-router-cache"])
        assert seen == ["miss", "hit", "hit", "miss"]

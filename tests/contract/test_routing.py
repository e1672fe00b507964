"""The dry run, decisions, operations, and a learned router end to end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.gateways import chat, fake, model, pair, route, serving
from tests.trained import lessons, write_knn

BIN = Path(sys.executable).parent


async def test_a_dry_run_forwards_nothing() -> None:
    async with pair() as running:
        answer = await running.post("/v1/route", **chat())
        assert answer.status_code == 200
        decision = answer.json()
        assert (decision["model"], decision["route"], decision["reason"]) == ("small", "auto", "best_score")
        assert decision["attempts"] == []
        assert not [r for r in running.fakes["small"].records if r.method == "POST"]
        kept = (await running.client.get(f"/v1/decisions/{decision['id']}")).json()
        assert kept == decision
        assert (await running.post("/v1/route", model="auto")).json()["error"]["param"] == "messages"


async def test_caching_and_its_bypass() -> None:
    async with pair() as running:
        fresh = {"cache-control": "no-cache"}
        seen = [
            (await running.client.post("/v1/chat/completions", json=chat(), headers=headers)).headers["x-router-cache"]
            for headers in ({}, {}, fresh, {})
        ]
        assert seen == ["miss", "hit", "bypass", "hit"]
        assert (await running.post(**chat(router={"exclude": ["small"]}))).headers["x-router-model"] == "large"
        assert (await running.post(**chat(router={"models": ["large"]}))).headers["x-router-cache"] == "miss"


async def test_a_choice_whose_model_went_down_is_not_used() -> None:
    async with pair(health={"interval_seconds": 0.05}) as running:
        assert (await running.post(**chat())).headers["x-router-model"] == "small"
        await running.fakes["small"].stop()
        running.gateway.fleet["small"].pool.backends[0].health = "down"
        again = await running.post(**chat())
        assert again.headers["x-router-model"] == "large"


async def test_decisions_are_bounded() -> None:
    async with pair(decisions={"kept": 3}) as running:
        ids = [(await running.post("/v1/route", **chat(content=f"q{n}"))).json()["id"] for n in range(5)]
        found = [(await running.client.get(f"/v1/decisions/{one}")).status_code for one in ids]
        assert found == [404, 404, 200, 200, 200]


async def test_models_list_routes_and_models() -> None:
    async with pair() as running:
        listed = (await running.client.get("/v1/models")).json()
        assert [one["id"] for one in listed["data"]] == ["auto", "small", "large"]
        one = (await running.client.get("/v1/models/small")).json()
        assert (one["object"], one["max_model_len"], one["price"]) == ("model", 32768, {"input": 0.05, "output": 0.1})


async def test_what_metrics_say_after_some_requests() -> None:
    async with pair(small=["status:500@first=1"]) as running:
        for stream in (False, True):
            await running.post(**chat(stream=stream))
        text = (await running.client.get("/metrics")).text
        assert 'pointsman_requests_total{code="200",endpoint="chat",model="large",route="auto"} 1.0' in text
        assert 'outcome="500"} 1.0' in text
        assert 'pointsman_decisions_total{model="small",reason="best_score",route="auto"} 2.0' in text
        assert 'pointsman_decision_cache_total{result="hit"} 1.0' in text
        assert 'pointsman_tokens_total{kind="completion",model="small"}' in text
        assert 'pointsman_time_to_first_token_seconds_count{model="small",route="auto"} 1.0' in text
        assert "pointsman_baseline_cost_usd_total" in text
        assert 'pointsman_backend_up{backend="' in text
        assert "pointsman_config_info{hash=" in text


async def test_a_knn_route_over_an_artifact(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the extra `embed` is not installed")
    from routers.embedding import MiniLM
    from routers.scorers import knn

    encoder = MiniLM()
    sums = [f"What is {a} times {b}?" for a, b in ((12, 7), (33, 4), (8, 91), (14, 15))]
    poems = [f"Write a poem about {thing}." for thing in ("rain", "a cat", "autumn", "the sea")]
    scores = np.array([[0.1, 0.9]] * 4 + [[0.9, 0.8]] * 4)
    neighbours = knn.fit(lessons(encoder.encode([*sums, *poems]), scores, ["small", "large"]), 4)
    write_knn(tmp_path / "knn", encoder, neighbours, ["small", "large"], k=4)
    policy = {"scorers": [{"type": "knn", "artifact": str(tmp_path / "knn")}, {"type": "cost", "weight": 0.2}]}
    async with fake("small") as small, fake("large") as large:
        config = {
            "models": [model("small", small.url), model("large", large.url)],
            "routes": [{**route("small", "large"), "policy": policy}],
        }
        config["routes"][0]["decision_deadline_ms"] = 5000  # type: ignore[index]
        async with serving(config) as running:
            hard = await running.post(**chat(content="What is 19 times 23?", router={"explain": True}))
            assert hard.headers["x-router-model"] == "large"
            assert hard.json()["router"]["candidates"][0]["quality"] == pytest.approx(0.9, abs=0.05)
            easy = await running.post(**chat(content="Write a poem about the moon."))
            assert easy.headers["x-router-model"] == "small"
            picky = await running.post(**chat(content="What is 6 times 7?", router={"cost_weight": 50, "min_quality": 0.7}))
            assert picky.headers["x-router-model"] == "large"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(BIN / "pointsman"), *arguments], capture_output=True, text=True, timeout=60)


def test_the_commands(tmp_path: Path) -> None:
    good = tmp_path / "good.yaml"
    section = {
        "models": [model("small", "http://127.0.0.1:1/v1"), model("large", "http://127.0.0.1:2/v1")],
        "routes": [route("small", "large")],
    }
    good.write_text(json.dumps(section))
    assert run("check", str(good)).returncode == 0
    bad = tmp_path / "bad.yaml"
    bad.write_text("models:\n  - name: small\n    backend: [http://x]\n")
    refused = run("check", str(bad))
    assert refused.returncode == 2
    assert f"{bad}:3: models[0].backend: unknown key, did you mean 'backends'?" in refused.stderr
    explained = run("explain", "--config", str(good), "--prompt", "hi", "--json")
    assert json.loads(explained.stdout)["model"] == "small"
    assert "small" in run("explain", "--config", str(good), "--prompt", "hi").stdout
    assert run("explain", "--config", str(good), "--prompt", "hi", "--route", "nope").returncode == 2
    listed = json.loads(run("plugins", "--json").stdout)
    assert {"cost", "load", "weights", "rules", "knn"} <= {one["name"] for one in listed if one["kind"] == "scorers"}
    assert run("fake-vllm", "--model", "x", "--fault", "nope").returncode == 2


def test_demo_once() -> None:
    done = run("demo", "--once")
    assert done.returncode == 0, done.stderr
    assert "12 requests cost" in done.stdout
    assert "large" in done.stdout

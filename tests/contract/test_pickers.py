"""Pickers in a real gateway: what chance did, and what a shadow would have done, reach everybody who asks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway.cli import app
from gateway.memory.cache import decode, encode
from routers.api import Choice, Scored
from tests.gateways import chat, pair, route

EXPLORE = {"type": "explore", "share": 0.4, "method": "uniform"}


def shadowed(**more: Any) -> list[dict[str, Any]]:
    """A route that explores, with the cheapest as its shadow."""
    scorers = [{"type": "weights", "models": {"small": 0.2, "large": 0.8}}]
    return [route("small", "large", scorers=scorers, picker={"type": "shadow", "serve": EXPLORE, "shadow": {"type": "best"}}, **more)]


async def test_propensity_and_shadow_reach_decision_explain_and_ledger(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    chances = {"large": pytest.approx(0.6), "small": pytest.approx(0.4)}
    async with pair(routes=shadowed(), ledger={"path": str(path)}) as running:
        answers = [await running.post(**chat(content=f"q{n}", router={"explain": True})) for n in range(24)]
        models = [answer.headers["x-router-model"] for answer in answers]
        assert set(models) == {"small", "large"}
        for answer, served in zip(answers, models, strict=True):
            explained = answer.json()["router"]
            kept = (await running.client.get(f"/v1/decisions/{answer.headers['x-router-decision-id']}")).json()
            assert answer.headers["x-router-cache"] == "bypass"
            for document in (explained, kept):
                assert (document["model"], document["shadow"], document["propensity"]) == (served, "large", chances[served])
                assert {one["model"]: one["propensity"] for one in document["candidates"]} == chances
        await running.gateway.ledger.flush()
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert [(line["chosen"], line["propensity"], line["shadow"]) for line in lines] == [(m, chances[m], "large") for m in models]
    assert {one["model"]: one["propensity"] for one in lines[0]["candidates"]} == chances


async def test_without_chance_there_is_no_propensity_and_a_remembered_choice_keeps_its_shadow(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    picker = {"type": "shadow", "serve": {"type": "best"}, "shadow": {"type": "best"}}
    async with pair(routes=[route("small", "large", scorers=[{"type": "cost"}], picker=picker)], ledger={"path": str(path)}) as running:
        caches = [(await running.post(**chat())).headers["x-router-cache"] for _ in range(2)]
        assert caches == ["miss", "hit"]
        await running.post(**chat(model="small"))
        await running.gateway.ledger.flush()
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert [(line["propensity"], line["shadow"]) for line in lines] == [(None, "small"), (None, "small"), (None, None)]
    assert "propensity" not in lines[0]["candidates"][0]


async def test_the_ledger_says_what_other_policies_would_have_been_worth(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    async with pair(routes=shadowed(), ledger={"path": str(path)}) as running:
        for n in range(60):
            answer = await running.post(**chat(content=f"q{n}"))
            score = 0.9 if answer.headers["x-router-model"] == "large" else 0.3
            if n >= 10:
                given = await running.post("/v1/feedback", decision_id=answer.headers["x-router-decision-id"], score=score)
                assert given.status_code < 300
        await running.gateway.ledger.flush()
    told = CliRunner().invoke(app, ["evaluate", "--ledger", str(path), "--json"])
    assert told.exit_code == 0, told.output
    found = json.loads(told.stdout)
    assert (found["records"], found["drawn"], found["left_out"]["without_score"]) == (50, 50, 10)
    always = found["routes"]["auto"]["always"]
    assert always["large"]["score"]["snips"]["value"] == pytest.approx(0.9)
    assert always["small"]["score"]["snips"]["value"] == pytest.approx(0.3)
    assert always["small"]["cost_usd"]["snips"]["value"] < always["large"]["cost_usd"]["snips"]["value"] / 5
    printed = CliRunner().invoke(app, ["evaluate", "--ledger", str(path)])
    assert "always large" in printed.stdout
    assert "left out: 10 requests without a score" in printed.stdout


def test_explain_shows_them_on_the_command_line(tmp_path: Path) -> None:
    models = [{"name": name, "backends": ["http://127.0.0.1:1/v1"], "price": {"input": 1, "output": 1}} for name in ("small", "large")]
    config = tmp_path / "gateway.yaml"
    config.write_text(json.dumps({"models": models, "routes": shadowed()}))
    shown = CliRunner().invoke(app, ["explain", "--config", str(config), "--prompt", "hi"])
    assert "shadow: large" in shown.stdout
    assert "propensity" in shown.stdout
    told = json.loads(CliRunner().invoke(app, ["explain", "--config", str(config), "--prompt", "hi", "--json"]).stdout)
    assert told["propensity"] == pytest.approx(0.6 if told["model"] == "large" else 0.4)


def test_a_choice_that_redis_keeps_has_its_shadow() -> None:
    kept = decode(encode(Choice("p", "best_score", (Scored("small", 0.5), Scored("large", 0.4)), shadow="large")), ["small", "large"])
    assert kept is not None
    assert (kept.model, kept.shadow) == ("small", "large")
    assert decode(b'{"v":1,"policy":"p","reason":"best_score","ranking":[{"model":"small","score":0.5}]}', ["small"]) is not None

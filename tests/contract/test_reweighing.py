"""What another weight of cost would have meant: for decisions that were, and on questions that a router's artifact holds back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from gateway.flow.frontier import frontier, own_weight, weights
from gateway.flow.reweighing import reweigh
from routers.embedding import Static
from routers.learned import Calibration, Making, write
from routers.learning.promise import Held
from routers.scorers import knn
from tests.gateways import chat, pair, route
from tests.trained import WHEN, lessons

WEIGHED = {"scorers": [{"type": "weights", "models": {"small": 0.5, "large": 0.9}}, {"type": "cost", "weight": 0.1}]}


async def test_a_replay_says_what_another_weight_would_have_meant() -> None:
    async with pair(routes=[route("small", "large", **WEIGHED), route("small", "large", name="other")]) as running:
        for number in range(6):
            assert (await running.post(**chat("auto", f"prompt {number}"))).headers["x-router-model"] == "large"
        await running.post(**chat("auto", "cheap", router={"cost_weight": 5}))
        await running.post(**chat("other", "another route"))
        await running.post("/v1/route", **chat("auto", "a dry run"))
        found = (await running.post("/admin/replay", route="auto", weight=0.1)).json()
        assert (found["decisions"], found["changed"], found["own_weight"]) == (7, 0, 0.1)
        assert found["before"] == found["after"]
        found = (await running.post("/admin/replay", route="auto", weight=2)).json()
        assert (found["decisions"], found["changed"], found["kept"]) == (7, 6, {"own_weight": 1})
        assert found["before"]["models"] == {"large": 6, "small": 1}
        assert found["after"]["models"] == {"small": 7}
        assert found["after"]["cost_usd"] < found["before"]["cost_usd"]
        assert {(one["before"], one["after"]) for one in found["moved"]} == {("large", "small")}
        limited = (await running.post("/admin/replay", route="auto", weight=2, limit=2)).json()
        assert limited["decisions"] == 2


async def test_a_replay_agrees_with_the_requests_own_weight() -> None:
    """What is said of a weight is what a request gets that asks for it."""
    async with pair(routes=[route("small", "large", **WEIGHED)]) as running:
        for number in range(3):
            await running.post(**chat("auto", f"prompt {number}"))
        for weight in (0, 0.2, 0.39, 0.41, 1.0, 7):
            asked = await running.post("/v1/route", **chat("auto", "prompt", router={"cost_weight": weight}))
            found = (await running.post("/admin/replay", route="auto", weight=weight)).json()
            assert found["after"]["models"] == {asked.json()["model"]: 3}, weight


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "invalid_json"),
        (b'{"route": "auto"}', 400, "missing_field"),
        (b'{"route": "auto", "weight": -1}', 400, "invalid_value"),
        (b'{"route": "auto", "weight": 1e999}', 400, "invalid_value"),
        (b'{"route": "auto", "weight": 1, "limit": 5000}', 400, "invalid_value"),
        (b'{"route": "auto", "weight": 1, "more": 1}', 400, "invalid_value"),
        (b'{"route": "nobody", "weight": 1}', 404, "model_not_found"),
        (b" " * 70_000, 413, "body_too_large"),
    ],
)
async def test_a_replay_that_cannot_be(body: bytes, status: int, code: str) -> None:
    async with pair() as running:
        answer = await running.client.post("/admin/replay", content=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


async def test_a_long_replay_leaves_the_event_loop_to_others() -> None:
    async with pair(routes=[route("small", "large", **WEIGHED)]) as running:
        await running.post(**chat("auto", "one"))
        record, found = running.gateway.memory.decisions.newest(1)[0], running.gateway.routes["auto"]
        work = asyncio.create_task(reweigh([record] * 2_000, found, 2.0))
        turns = 0
        while not work.done():
            await asyncio.sleep(0)
            turns += 1
        assert turns > 100
        assert work.result().decisions == 2_000


async def test_too_many_replays_at_once_are_refused() -> None:
    async with pair(decisions={"kept": 10_000}, routes=[route("small", "large", **WEIGHED)]) as running:
        for number in range(40):
            await running.post(**chat("auto", f"{number}"))
        answers = await asyncio.gather(*(running.post("/admin/replay", route="auto", weight=2) for _ in range(30)))
        assert {answer.status_code for answer in answers} == {200, 429}
        assert all(answer.json()["error"]["code"] == "overloaded" for answer in answers if answer.status_code == 429)


async def test_a_picker_of_chance_hears_nothing_of_a_replay() -> None:
    policy = {**WEIGHED, "picker": {"type": "weighted"}}
    async with pair(routes=[route("small", "large", **policy)]) as running:
        await running.post(**chat("auto", "one"))
        found = (await running.post("/admin/replay", route="auto", weight=2)).json()
        assert found["after"]["models"] == {"small": 1}
        assert "greatest score" in found["notes"][0]


def trained(folder: Path, held: Held | None, models: Sequence[str] = ("small", "large")) -> Path:
    """A knn artifact; `held`: the questions that it holds back."""
    encoder = Static()
    vectors = encoder.encode(["one", "two", "three", "four"])
    neighbours = knn.fit(lessons(vectors, np.array([[0, 1], [1, 1], [0, 1], [1, 1]]), models), 2)
    extra = {} if held is None else held.tensors(models=len(models))
    write(folder, "knn", neighbours, models, Calibration.none(len(models)), Making(encoder, "d" * 64, WHEN, {}, extra))
    return folder


def questions(count: int = 40) -> Held:
    """Half are easy: both models are right; of the others only `large` is, and the router expects that."""
    hard = np.arange(count) % 2 == 1
    mean = np.stack([np.where(hard, 0.2, 0.9), np.full(count, 0.95)], axis=1)
    scores = np.stack([np.where(hard, 0.0, 1.0), np.ones(count)], axis=1)
    return Held(mean, np.full_like(mean, 0.05), scores, np.array([0.001, 0.01]))


async def test_the_frontier_is_what_the_weights_were_worth_on_questions_held_back(tmp_path: Path) -> None:
    artifact = trained(tmp_path / "knn", questions())
    policy = {"scorers": [{"type": "knn", "artifact": str(artifact)}, {"type": "cost", "weight": 0.5}]}
    async with pair(routes=[route("small", "large", **policy)]) as running:
        found = (await running.client.get("/admin/frontier", params={"route": "auto"})).json()
        curve = found["evaluation"]
        assert found["own_weight"] in found["weights"]
        assert [one["weight"] for one in curve["points"]] == found["weights"] == sorted(found["weights"])
        assert (curve["scorer"], curve["kind"], curve["questions"], curve["gaps"]) == ("knn", "knn", 40, [])
        at = {one["weight"]: one for one in curve["points"]}
        assert (at[0.0]["quality"], at[0.0]["cost_usd"]) == (1.0, pytest.approx(0.01))
        assert (at[0.5]["quality"], at[0.5]["cost_usd"]) == (1.0, pytest.approx(0.0055))
        assert at[0.5]["shares"] == {"small": 0.5, "large": 0.5}
        last = curve["points"][-1]
        assert (last["quality"], last["cost_usd"]) == (0.5, pytest.approx(0.001))
        assert [(one["model"], one["quality"]) for one in curve["models"]] == [("small", 0.5), ("large", 1.0)]
        costs = [one["cost_usd"] for one in curve["points"]]
        assert costs == sorted(costs, reverse=True)
        missing = await running.client.get("/admin/frontier", params={"route": "nobody"})
        assert missing.json()["error"]["code"] == "model_not_found"


async def test_without_an_evaluation_the_frontier_says_so(tmp_path: Path) -> None:
    bare = trained(tmp_path / "bare", None)
    routes = [
        route("small", "large"),
        route("small", "large", name="bare", scorers=[{"type": "knn", "artifact": str(bare)}]),
        route("small", name="alone", scorers=[{"type": "knn", "artifact": str(trained(tmp_path / "knn", questions()))}]),
    ]
    async with pair(routes=routes) as running:
        for name in ("auto", "bare", "alone"):
            found = (await running.client.get("/admin/frontier", params={"route": name})).json()
            assert found["evaluation"] is None
            assert found["weights"][0] == 0
        policy = running.gateway.routes["auto"].policy
        assert own_weight(policy) == 1.0
        assert len(weights(policy)) <= 50
        assert frontier(running.gateway.routes["bare"]) is None

"""`pointsman replay`: what a gateway wrote into its ledger, decided again without it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from gateway.cli import app
from tests.gateways import chat, fake, model, route, serving

CASCADE = {"type": "cascade", "judge": {"type": "agreement"}, "max_calls": 3}
ENSEMBLE = {"type": "ensemble", "k": 2, "combine": "majority"}
SELF = {"type": "cascade", "judge": {"type": "self_consistency", "k": 2}, "max_calls": 4}
NOWHERE = "http://127.0.0.1:1/v1"


def again(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["replay", *(str(argument) for argument in arguments)])


def document(*arguments: str | Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(again(*arguments, "--json").stdout)
    return found


def configuration(folder: Path, policy: Mapping[str, Any], name: str = "today.yaml", models: Sequence[str] = ("small", "large")) -> Path:
    """A file with today's policy; its models are down, so that a call would show."""
    section = {"models": [model(one, NOWHERE) for one in models], "routes": [route(*models, **policy)]}
    path = folder / name
    path.write_text(json.dumps(section))
    return path


def served(
    folder: Path, policy: Mapping[str, Any], *bodies: Mapping[str, Any], prompts: bool = True, large: Sequence[str] = ()
) -> list[str]:
    """Asks a gateway, and returns the ids of its decisions; its ledger is then in the folder."""
    ledger = {"path": str(folder / "ledger.jsonl"), "prompts": prompts}

    async def serve() -> list[str]:
        async with fake("small") as cheap, fake("large", *large) as dear:
            models = [model("small", cheap.url), model("large", dear.url)]
            async with serving({"models": models, "routes": [route("small", "large", **policy)], "ledger": ledger}) as running:
                answers = [await running.post(**body) for body in bodies]
                assert {answer.status_code for answer in answers} == {200}, answers[-1].text
                await running.gateway.ledger.flush()
                return [answer.headers["x-router-decision-id"] for answer in answers]

    return asyncio.run(serve())


def by_weight(**weights: float) -> dict[str, Any]:
    return {"scorers": [{"type": "weights", "models": weights}]}


def test_a_plain_decision_is_the_same_under_the_same_policy(tmp_path: Path) -> None:
    policy = {"scorers": [{"type": "weights", "models": {"small": 0.2, "large": 0.9}}, {"type": "cost", "weight": 0.5}]}
    (first, second) = served(tmp_path, policy, chat(), chat(router={"cost_weight": 3.0}))
    config = configuration(tmp_path, policy)
    for decision, chosen in ((first, "large"), (second, "small")):
        found = document(decision, "--ledger", tmp_path, "--config", config)
        assert (found["same"], found["again"]["ranking"][0], found["record"]["chosen"]) == (True, chosen, chosen)
    shown = again(first, "--ledger", tmp_path / "ledger.jsonl", "--config", config)
    assert (shown.exit_code, shown.stdout.splitlines()[-1]) == (0, "the same today")


def test_another_policy_of_today_is_told(tmp_path: Path) -> None:
    policy = {"scorers": [{"type": "weights", "models": {"small": 0.2, "large": 0.9}}, {"type": "cost", "weight": 0.5}]}
    (decision,) = served(tmp_path, policy, chat())
    policy["scorers"][1]["weight"] = 5.0
    result = again(decision, "--ledger", tmp_path, "--config", configuration(tmp_path, policy))
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (1, "differs: large was chosen, and small would be")
    lone = configuration(tmp_path, by_weight(large=1.0), models=["large"])
    result = again(decision, "--ledger", tmp_path, "--config", lone)
    assert result.exit_code == 1
    assert "no candidates any more: small" in result.stdout


def test_what_chance_chose_is_the_same_if_the_chances_are(tmp_path: Path) -> None:
    policy = by_weight(small=0.9, large=0.1) | {"picker": {"type": "explore", "share": 0.25, "method": "uniform"}}
    (decision,) = served(tmp_path, policy, chat())
    found = document(decision, "--ledger", tmp_path, "--config", configuration(tmp_path, policy))
    assert found["same"] is True
    assert "drawn by chance" in found["notes"][0]
    policy["picker"]["share"] = 0.5
    found = document(decision, "--ledger", tmp_path, "--config", configuration(tmp_path, policy))
    assert found["same"] is False
    assert "and would with 0.5" in found["differences"][0]
    policy["picker"] = {"type": "best"}
    found = document(decision, "--ledger", tmp_path, "--config", configuration(tmp_path, policy))
    assert found["differences"] == ["chance had a part in the choice, and has none today"]


@pytest.mark.parametrize("planner", [CASCADE, ENSEMBLE, SELF], ids=["cascade", "ensemble", "self_consistency"])
@pytest.mark.parametrize("large", [[], ["status:500"]], ids=["whole", "one down"])
def test_a_plan_is_the_same_under_the_same_planner(tmp_path: Path, planner: dict[str, Any], large: list[str]) -> None:
    policy = {"scorers": [{"type": "cost"}], "planner": planner}
    (decision, other) = served(tmp_path, policy, chat(), chat(router={"max_latency_ms": 15_000, "max_cost_usd": 0.1}), large=large)
    config = configuration(tmp_path, policy)
    for one in (decision, other):
        found = document(one, "--ledger", tmp_path, "--config", config)
        assert (found["same"], found["notes"], found["differences"]) == (True, [], [])
        assert len(found["again"]["asks"]) == len(found["record"]["rounds"]) > 1
    shown = again(decision, "--ledger", tmp_path, "--config", config)
    assert shown.exit_code == 0
    assert "put together by the planner" in shown.stdout or "answered by" in shown.stdout


def test_the_first_step_that_differs_is_told(tmp_path: Path) -> None:
    (decision,) = served(tmp_path, {"scorers": [{"type": "cost"}], "planner": SELF}, chat())
    surer = {**SELF, "threshold": 0.0, "judge": {"type": "self_consistency", "k": 3}}
    found = document(decision, "--ledger", tmp_path, "--config", configuration(tmp_path, {"scorers": [{"type": "cost"}], "planner": surer}))
    assert (found["same"], found["differences"]) == (False, ["today small would be asked too (sample), and was not then"])
    another = configuration(tmp_path, {"scorers": [{"type": "cost"}], "planner": ENSEMBLE})
    found = document(decision, "--ledger", tmp_path, "--config", another)
    assert found["differences"] == ["the planner was cascade, and is ensemble"]


def test_without_the_texts_the_plan_is_shown_and_not_run(tmp_path: Path) -> None:
    policy = {"scorers": [{"type": "cost"}], "planner": ENSEMBLE}
    (decision,) = served(tmp_path, policy, chat(), prompts=False)
    found = document(decision, "--ledger", tmp_path, "--config", configuration(tmp_path, policy))
    assert found["same"] is True
    assert "`ledger.prompts`" in found["notes"][0]
    assert all("text" not in one and one["cost_usd"] > 0 for one in found["record"]["rounds"])


def test_one_call_with_its_reason(tmp_path: Path) -> None:
    policy = {"scorers": [{"type": "cost"}], "planner": ENSEMBLE}
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    (decision,) = served(tmp_path, policy, chat(tools=[tool]))
    config = configuration(tmp_path, policy)
    found = document(decision, "--ledger", tmp_path, "--config", config)
    assert (found["same"], found["record"]["plan"]["single"]) == (True, "tools")
    assert "single: tools" in again(decision, "--ledger", tmp_path, "--config", config).stdout


def test_a_line_is_checked_against_itself(tmp_path: Path) -> None:
    (decision,) = served(tmp_path, {"scorers": [{"type": "cost"}], "planner": ENSEMBLE}, chat())
    path = tmp_path / "ledger.jsonl"
    good = again(decision, "--ledger", path)
    assert (good.exit_code, good.stdout.splitlines()[-1]) == (0, "the line agrees with itself")
    line = json.loads(path.read_text())
    broken = {
        "cost": {**line, "cost_usd": line["cost_usd"] * 2},
        "less": {**line, "cost_usd": line["cost_usd"] / 2},
        "order": {**line, "candidates": [{**one, "score": place} for place, one in enumerate(line["candidates"])]},
        "first": {**line, "chosen": "large"},
        "asks": {**line, "rounds": line["rounds"][:1]},
        "plan": {name: value for name, value in line.items() if name != "plan"},
    }
    for name, one in broken.items():
        path.write_text(json.dumps(one) + "\n")
        result = again(decision, "--ledger", path)
        assert (name, result.exit_code) == (name, 1)
        assert "differs: " in result.stdout


def test_decisions_are_found_in_rotated_files_and_by_request(tmp_path: Path) -> None:
    policy = by_weight(small=1.0)
    (decision, _) = served(tmp_path, policy, chat(), chat())
    path = tmp_path / "ledger.jsonl"
    first, second = path.read_text().splitlines(keepends=True)
    path.with_name("ledger.jsonl.1").write_text(first)
    path.write_text(second)
    assert document(decision, "--ledger", tmp_path)["decision_id"] == decision
    request = json.loads(second)["request_id"]
    assert document(request, "--ledger", tmp_path)["record"]["request_id"] == request


def test_wrong_input(tmp_path: Path) -> None:
    assert again("dec-1").exit_code == 2
    assert again("dec-1", "--ledger", tmp_path / "missing.jsonl").exit_code == 2
    (tmp_path / "empty").mkdir()
    assert again("dec-1", "--ledger", tmp_path / "empty").exit_code == 2
    (tmp_path / "ledger.jsonl").write_text("")
    assert again("dec-1", "--ledger", tmp_path).exit_code == 2
    assert again("dec-1", "--config", configuration(tmp_path, by_weight(small=1.0))).exit_code == 2, "it keeps no ledger"


def test_an_old_line_is_read_and_shown(tmp_path: Path) -> None:
    served(tmp_path, {"scorers": [{"type": "cost"}]}, chat(), prompts=False)
    line = json.loads((tmp_path / "ledger.jsonl").read_text())
    del line["asked"]
    for one in line["candidates"]:
        del one["opinions"]
    (tmp_path / "ledger.jsonl").write_text(json.dumps(line) + "\n")
    found = document(line["decision_id"], "--ledger", tmp_path, "--config", configuration(tmp_path, {"scorers": [{"type": "cost"}]}))
    assert (found["same"], "older" in found["notes"][0]) == (True, True)


def test_explain_shows_whom_a_planner_asks_first_or_why_it_asks_one(tmp_path: Path) -> None:
    def explained(*arguments: str | Path) -> Any:
        told = ["explain", "--prompt", "What is 17 + 25?", *(str(argument) for argument in arguments)]
        return CliRunner().invoke(app, told)

    config = configuration(tmp_path, {"scorers": [{"type": "cost"}], "planner": ENSEMBLE})
    assert "asks first: small, large" in explained("--config", config).stdout
    found = json.loads(explained("--config", config, "--json").stdout)
    assert found["single"] is None
    assert [ask["asked"] for ask in found["first_asks"]] == [["small"], ["large"]]
    assert "one call" not in explained("--config", config).stdout
    plain = configuration(tmp_path, {"scorers": [{"type": "cost"}]}, "plain.yaml")
    assert "first_asks" not in json.loads(explained("--config", plain, "--json").stdout)
    short = configuration(tmp_path, {"scorers": [{"type": "cost"}], "planner": CASCADE}, "short.yaml")
    section = json.loads(short.read_text())
    section["models"][1]["context_window"] = 2
    short.write_text(json.dumps(section))
    assert "one call: only_candidate" in explained("--config", short).stdout

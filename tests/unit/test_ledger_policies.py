"""`pointsman evaluate --ledger`: which records count, and that what they say of other policies is right."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner, Result

from gateway.account.ledger import CandidateEntry, FeedbackEntry, RequestEntry
from gateway.account.ledger_policies import NothingLogged, gather, judge
from gateway.cli import app


def record(number: int, chosen: str = "small", chances: dict[str, float] | None = None, **more: Any) -> RequestEntry:
    """An entry of a request. `chances`: None where the pick was no chance."""
    members: dict[str, Any] = {
        "v": 1,
        "time": 1_700_000_000.0 + number,
        "decision_id": f"dec-{number}",
        "request_id": f"req-{number}",
        "caller": "team-a",
        "endpoint": "chat",
        "stream": False,
        "route": "auto",
        "model": chosen,
        "chosen": chosen,
        "policy": "weights/explore/single",
        "reason": "best_score",
        "cache": "bypass",
        "candidates": [CandidateEntry(name, 0.5, propensity=chance) for name, chance in (chances or {}).items()],
        "propensity": None if chances is None else chances[chosen],
        "cost_usd": 1e-4 if chosen == "small" else 1e-3,
    }
    unknown = dict.fromkeys(("status", "error", "usage", "baseline_cost_usd", "overhead_ms", "first_byte_ms", "ms"))
    return RequestEntry(**{**unknown, "rejected": {}, "attempts": [], "estimated": False, **members, **more})


def feedback(number: int, score: float) -> FeedbackEntry:
    members: dict[str, Any] = dict.fromkeys(("comment", "route", "model", "usage", "cost_usd", "ms"))
    ids = {"decision_id": f"dec-{number}", "request_id": f"req-{number}", "caller": "team-a"}
    return FeedbackEntry(v=1, time=1_700_100_000.0, score=score, dataset="ledger/auto", estimated=False, **ids, **members)


def test_what_other_policies_would_have_been_worth() -> None:
    """Requests are easy or hard, and the policy tries the large model more often on hard ones: the plain means of the log mislead."""
    rng = random.Random(4)
    records, scores = [], {}
    for number in range(6000):
        hard = rng.random() < 0.5
        chances = {"small": 0.2, "large": 0.8} if hard else {"small": 0.9, "large": 0.1}
        chosen = "small" if rng.random() < chances["small"] else "large"
        right = {"small": 0.2 if hard else 0.8, "large": 0.6 if hard else 0.9}[chosen]
        records.append(record(number, chosen, chances))
        scores[f"dec-{number}"] = float(rng.random() < right)
    found = judge(gather(records, scores))["routes"]["auto"]
    for model, value, cost in (("small", 0.5, 1e-4), ("large", 0.75, 1e-3)):
        told = found["always"][model]
        assert told["score"]["snips"]["value"] == pytest.approx(value, abs=0.04)
        low, high = told["score"]["ips"]["interval_95"]
        assert low <= value <= high
        assert told["cost_usd"]["snips"]["value"] == pytest.approx(cost)
        assert told["requests"] == 6000
        assert 500 < told["effective_sample_size"] < 3000
    live = found["logging"]
    assert live["score"]["value"] == sum(scores.values()) / 6000
    assert live["shares"]["small"] == pytest.approx(0.55, abs=0.03)
    small = [scores[one.decision_id] for one in records if one.chosen == "small"]
    assert sum(small) / len(small) > 0.6  # the log's own mean of the small model, which is far from 0.5


def test_who_is_left_out_and_why() -> None:
    half = {"small": 0.5, "large": 0.5}
    entries = [
        record(0, chances=half),
        record(0, chances=half),  # written twice
        record(1, chances=half),  # without a score
        record(2, route=None, reason="named"),
        record(3, reason="pinned"),
        record(4, chances=half, cost_usd=None),
        record(5, chances={"small": 0.5}),  # `large` was dropped after the draw
        record(6),
        feedback(0, 1.0),
    ]
    found = judge(gather(entries, {f"dec-{n}": 1.0 for n in (0, 2, 3, 4, 5, 6)}))
    assert (found["records"], found["drawn"]) == (2, 1)
    assert found["left_out"] == {"without_score": 1, "named": 1, "pinned": 1, "without_cost": 1, "dropped": 1}
    assert found["routes"]["auto"]["logging"]["requests"] == 2
    assert found["routes"]["auto"]["always"]["small"]["requests"] == 1
    # It had its chance, and was not taken: what it would have been worth is not known.
    assert found["routes"]["auto"]["always"]["large"]["score"]["snips"] == {"value": None, "interval_95": [None, None]}


def test_a_model_that_chance_never_reaches_is_not_judged() -> None:
    entries = [record(0, chances={"small": 1.0, "large": 0.0}), record(1, "large", None)]
    always = judge(gather(entries, {"dec-0": 0.5, "dec-1": 1.0}))["routes"]["auto"]["always"]
    assert always["large"] is None
    assert always["small"]["score"]["snips"]["value"] == 0.5


def test_without_propensities_nothing_is_told() -> None:
    with pytest.raises(NothingLogged, match=r"no record has both a score and a propensity \(1 have a score"):
        judge(gather([record(0)], {"dec-0": 1.0}))
    with pytest.raises(NothingLogged):
        judge(gather([], {}))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def test_wrong_input(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in (record(0), feedback(0, 1.0))))
    plain = run("--ledger", path)
    assert plain.exit_code == 2
    assert "no record has both a score and a propensity" in plain.output
    assert "`explore`" in plain.output
    assert run("--ledger", tmp_path / "none.jsonl").exit_code == 2
    for both in (["--ledger", path, "--outcomes", path], []):
        refused = run(*both)
        assert refused.exit_code == 2
        assert "name one of --outcomes TABLE and --ledger FILE" in refused.output

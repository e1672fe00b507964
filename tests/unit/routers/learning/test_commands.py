"""`pointsman train knn` and `pointsman evaluate`, on a small table whose right answers are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from gateway.cli import app
from routers.learning.evaluate import Judged, Pool, evaluate
from routers.learning.outcomes import Outcomes, load
from tests.outcome_tables import reference, table

pytest.importorskip("onnxruntime", reason="the extra `embed` is not installed")

THINGS = ("rain", "a cat", "autumn", "the sea", "a train", "bread", "snow", "a lamp", "two rivers", "an old house")


def rows() -> list[dict[str, Any]]:
    """Sums that only the dear model can do, and poems that both can."""
    found = []
    prompts = [(f"What is {n * 7 + 3} times {n + 11}?", (0.0, 1.0)) for n in range(30)]
    prompts += [(f"Write a poem about {thing}, number {n}.", (1.0, 1.0)) for n in range(3) for thing in THINGS]
    for number, (prompt, scores) in enumerate(prompts):
        split = ("train", "train", "train", "validation", "test")[number % 5]
        for model, score, cost in (("small", scores[0], 0.001), ("large", scores[1], 0.01)):
            one = {"query_id": f"q{number}", "dataset": "d", "split": split, "prompt": prompt, "model": model}
            found.append({**one, "score": score, "cost_usd": cost})
    return found


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table and a router that was trained on it."""
    found = tmp_path_factory.mktemp("learning")
    pq.write_table(pa.Table.from_pylist(rows()), found / "outcomes.parquet")
    done = run("train", "knn", "--outcomes", str(found / "outcomes.parquet"), "--out", str(found / "knn"), "--vectors", str(found / "v"))
    assert done.exit_code == 0, done.output
    return found


def test_a_router_that_learned_closes_the_gap(folder: Path) -> None:
    done = run("evaluate", "--outcomes", str(folder / "outcomes.parquet"), "--artifact", str(folder / "knn"), "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    knn = found["routers"]["knn"]
    assert (found["queries"], found["best_single"]["model"], found["oracle"]["accuracy"]) == (12, "large", 1.0)
    assert knn["acc_max"] == 1.0
    assert knn["cost_match"] == pytest.approx((6 * 0.01 + 6 * 0.001) / 12 / 0.01), "as good as the dear one at about half its cost"
    assert knn["aiq"] > found["zero_router"]["aiq"]
    assert knn["aiq_gain_over_zero_95"][0] > 0
    assert 0 <= knn["cpt50"] <= knn["cpt80"] <= 1
    shown = run(
        "evaluate", "--outcomes", str(folder / "outcomes.parquet"), "--artifact", str(folder / "knn"), "--vectors", str(folder / "v")
    )
    assert "zero-router" in shown.output
    assert "large  (best single)" in shown.output


def test_training_is_the_same_each_time_and_never_sees_test(folder: Path, tmp_path: Path) -> None:
    changed = [{**row, "score": 1 - row["score"]} if row["split"] == "test" else row for row in rows()]
    pq.write_table(pa.Table.from_pylist(changed), tmp_path / "outcomes.parquet")
    done = run(
        "train", "knn", "--outcomes", str(tmp_path / "outcomes.parquet"), "--out", str(tmp_path / "knn"), "--vectors", str(folder / "v")
    )
    assert done.exit_code == 0, done.output
    for name in ("tensors.safetensors", "settings.json"):
        assert (tmp_path / "knn" / name).read_bytes() == (folder / "knn" / name).read_bytes()


def test_what_cannot_be_done_is_said(folder: Path, tmp_path: Path) -> None:
    outcomes = str(folder / "outcomes.parquet")
    assert run("train", "knnn", "--outcomes", outcomes, "--out", str(tmp_path / "x")).exit_code == 2
    torn = tmp_path / "torn.parquet"
    torn.write_bytes(b"PAR1")
    for arguments, words in (
        (("train", "knn", "--outcomes", str(torn), "--out", str(tmp_path / "x")), "no whole Parquet file"),
        (("train", "knn", "--outcomes", outcomes, "--models", "small,nobody", "--out", str(tmp_path / "x")), "no outcomes of 'nobody'"),
        (("evaluate", "--outcomes", outcomes, "--split", "dev"), "the split 'dev' has no question"),
        (("evaluate", "--outcomes", outcomes, "--artifact", str(tmp_path)), "manifest.json cannot be read"),
    ):
        done = run(*arguments)
        assert done.exit_code == 2, done.output
        assert words in done.output


def test_intervals_on_recorded_outcomes() -> None:
    wanted = reference()["llmrouter9"]
    outcomes: Outcomes = load(table("llmrouter")).of([model["model"] for model in wanted["models"]])
    pool = Pool.of(outcomes, "test")
    found = evaluate(pool, {"knows": Judged(pool.scores), "guesses": Judged(np.full_like(pool.scores, 0.5))}, None)
    assert found["zero_router"]["aiq_95"] == pytest.approx(wanted["zero_router"]["aiq_95"], abs=0.004)
    assert found["routers"]["knows"]["gap_closed"] == pytest.approx(1.0)
    guesses = found["routers"]["guesses"]
    assert guesses["acc_max"] == pytest.approx(found["cheapest"]["accuracy"])
    assert guesses["aiq_gain_over_zero"] < 0


def test_every_family_can_be_trained_by_name() -> None:
    from gateway.cli.train import ASKING_ONCE
    from routers.families import FAMILIES

    assert set(ASKING_ONCE) == set(FAMILIES)
    shown = run("train", "--help").output
    assert all(name in shown for name in ("cascade", "rl-rounds", *FAMILIES))
    assert "--members" in run("train", "blend", "--help").output
    assert "--members" not in run("train", "knn", "--help").output
    assert run("train", "knn", "--members", "mlp").exit_code == 2

"""`pointsman train cascade` and `pointsman evaluate --answers`, on a small table of answers that were made up."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from gateway.cli import app
from gateway.cli.learning import names_apart
from routers import artifacts
from routers.stages import Stages

pytest.importorskip("lightgbm", reason="the extra `train` is not installed")
pytest.importorskip("onnxruntime", reason="the extra `embed` is not installed")

MODELS, COSTS, CHANCES = ("small", "middle", "large"), (1e-5, 3e-5, 2e-4), (0.6, 0.65, 0.8)
COUNT = 150


def tables(seed: int = 5, flipped_test: bool = False) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Outcomes and answers of three models; they err independently. `flipped_test`: on test, right is wrong."""
    rng = np.random.default_rng(seed)
    outcomes, answers = [], []
    for place in range(COUNT):
        gold, split = "ABCD"[int(rng.integers(4))], ("train", "train", "train", "validation", "test")[place % 5]
        prompt = f"Question {place}: what is {('the sum', 'the capital')[place % 2]}?\nA. one\nB. two\nC. three\nD. four"
        for name, cost, chance in zip(MODELS, COSTS, CHANCES, strict=True):
            letter = gold if rng.random() < chance else str(rng.choice([one for one in "ABCD" if one != gold]))
            right = (letter == gold) != (flipped_test and split == "test")
            one = {"query_id": f"q{place}", "split": split, "model": name}
            tokens = int(rng.integers(20, 200))
            outcomes.append(
                {
                    **one,
                    "dataset": f"kind/{place // 5 % 5}",
                    "prompt": prompt,
                    "score": float(right),
                    "cost_usd": cost,
                    "tokens_out": tokens,
                }
            )
            answers.append({**one, "letter": letter})
    return outcomes, answers


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return str(path)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both tables, and an artifact that was made of them."""
    found = tmp_path_factory.mktemp("answers")
    outcomes, answers = tables()
    write(found / "outcomes.parquet", outcomes)
    write(found / "answers.parquet", answers)
    done = run(*train(found, found / "once" / "cascade"))
    assert done.exit_code == 0, done.output
    assert "cascade over" in done.output
    return found


def train(folder: Path, out: Path, *more: str) -> list[str]:
    given = ["--outcomes", str(folder / "outcomes.parquet"), "--answers", str(folder / "answers.parquet")]
    return ["train", "cascade", *given, "--out", str(out), "--encoder", "static", *more]


def evaluate(folder: Path, *more: str) -> list[str]:
    given = ["--outcomes", str(folder / "outcomes.parquet"), "--answers", str(folder / "answers.parquet")]
    return ["evaluate", *given, *more]


def test_an_artifact_holds_orders_and_thresholds(folder: Path) -> None:
    stages = Stages.load(folder / "once" / "cascade")
    assert set(stages.order) <= set(MODELS)
    assert len(stages.frontier) > 1
    known = artifacts.load(folder / "once" / "cascade").manifest
    assert known.metrics["held_cost_usd"] <= 2e-4, "the cost of the best single model"
    assert known.metrics["questions"] == COUNT * 4 / 5


@pytest.mark.slow
def test_what_test_says_changes_nothing(folder: Path, tmp_path: Path) -> None:
    outcomes, answers = tables(flipped_test=True)
    write(tmp_path / "outcomes.parquet", outcomes)
    write(tmp_path / "answers.parquet", answers)
    done = run(*train(tmp_path, tmp_path / "cascade"))
    assert done.exit_code == 0, done.output
    for name in ("tensors.safetensors", "settings.json"):
        assert (tmp_path / "cascade" / name).read_bytes() == (folder / "once" / "cascade" / name).read_bytes()


@pytest.mark.slow
def test_a_target_may_be_a_cost_or_an_accuracy(folder: Path, tmp_path: Path) -> None:
    cheap = run(*train(folder, tmp_path / "cheap", "--max-mean-usd", "0.00006"))
    assert cheap.exit_code == 0, cheap.output
    assert artifacts.load(tmp_path / "cheap").manifest.metrics["held_cost_usd"] <= 6e-5
    good = run(*train(folder, tmp_path / "good", "--min-accuracy", "0.65"))
    assert good.exit_code == 0, good.output
    assert artifacts.load(tmp_path / "good").manifest.metrics["held_accuracy"] >= 0.65


def test_planners_are_judged_beside_votes_references_and_those_who_ask_once(folder: Path, tmp_path: Path) -> None:
    """Two artifacts of the same name are told apart."""
    shutil.copytree(folder / "once" / "cascade", tmp_path / "twice" / "cascade")
    knn = run("train", "knn", "--outcomes", str(folder / "outcomes.parquet"), "--out", str(tmp_path / "knn"), "--encoder", "static")
    assert knn.exit_code == 0, knn.output
    named = [str(one) for one in (folder / "once" / "cascade", tmp_path / "twice" / "cascade", tmp_path / "knn")]
    given = [part for one in named for part in ("--artifact", one)]
    done = run(*evaluate(folder, *given, "--json"))
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout, parse_constant=lambda what: pytest.fail(f"{what} is no JSON"))
    assert list(found["planners"]) == ["once/cascade", "twice/cascade"]
    assert set(found["alone"]) == {"once/cascade, asking once", "twice/cascade, asking once", "knn"}
    assert found["best_alone"] in found["alone"]
    assert set(found["votes"]) == {"majority", "weighted_vote", "agreement_cascade", "once/cascade, all asked", "twice/cascade, all asked"}
    assert set(found["references"]) == {"knn_cascade_ladder", "knn_cascade_best_orders", "knn_cascade_adaptive"}
    one = found["planners"]["once/cascade"]
    assert set(one["against"]) >= {*found["alone"], *found["references"], "twice/cascade", "best_single", "zero_router"}
    assert one["against"]["twice/cascade"]["aiq"] == 0
    assert {"order", "threshold", "mean_cost_usd", "accuracy", "calls"} == set(one["points"][0])
    assert found["votes"]["majority"]["calls"] == 3
    assert found["votes"]["majority"]["mean_cost_usd"] == pytest.approx(sum(COSTS))
    assert all(0 <= block["aiq"] <= 1 for block in (*found["planners"].values(), *found["references"].values()))
    shown = run(*evaluate(folder, *given, "--report", str(tmp_path / "report.html")))
    assert "knn_cascade_adaptive" in shown.output
    assert "best of those" in shown.output
    page = (tmp_path / "report.html").read_text()
    assert "Votes and other rules" in page
    assert all(name in page for name in ("once/cascade", "twice/cascade", "knn_cascade_ladder", "once/cascade, all asked"))
    assert "stops at threshold" in page


def test_without_artifacts_there_are_votes(folder: Path) -> None:
    found = json.loads(run(*evaluate(folder, "--json")).stdout)
    assert (found["planners"], found["alone"], found["best_alone"]) == ({}, {}, None)
    assert set(found["votes"]) == {"majority", "weighted_vote", "agreement_cascade"}
    assert run(*evaluate(folder)).exit_code == 0


def test_what_cannot_be_trained_is_said(folder: Path, tmp_path: Path) -> None:
    others = [{**row, "query_id": f"other {row['query_id']}"} for row in tables()[1]]
    strange = write(tmp_path / "strange.parquet", others)
    outcomes, out = str(folder / "outcomes.parquet"), str(tmp_path / "x")
    many = [{**row, "model": f"{row['model']} {turn}"} for turn in range(3) for row in tables()[0]]
    answers = [{**row, "model": f"{row['model']} {turn}"} for turn in range(3) for row in tables()[1]]
    write(tmp_path / "outcomes.parquet", many)
    write(tmp_path / "answers.parquet", answers)
    for arguments, words in (
        (["train", "cascade", "--outcomes", outcomes, "--out", out], "--answers"),
        (train(folder, tmp_path / "x", "--models", "small"), "2 to 8 models, not 1"),
        (train(tmp_path, tmp_path / "x"), "2 to 8 models, not 9; name them"),
        (train(folder, tmp_path / "x", "--models", "small,nobody"), "no outcomes of 'nobody'"),
        (train(folder, tmp_path / "x", "--max-mean-usd", "1", "--min-accuracy", "0.5"), "name one of"),
        (train(folder, tmp_path / "x", "--min-accuracy", "1.5"), "--min-accuracy"),
        (train(folder, tmp_path / "x", "--max-mean-usd", "1e-9"), "no cascade costs at most 1e-09 USD"),
        (train(folder, tmp_path / "x", "--answers", strange), "holds no answer of large, middle, small to a question of the outcomes"),
        (train(folder, tmp_path / "x", "--answers", str(tmp_path / "missing")), "missing: cannot be read"),
        (train(folder, tmp_path / "x", "--encoder", "none"), "no encoder named 'none'"),
    ):
        done = run(*arguments)
        assert done.exit_code == 2, done.output
        assert words in done.output, done.output
        assert not (tmp_path / "x").exists()


def test_what_cannot_be_judged_is_said(folder: Path, tmp_path: Path) -> None:
    cascade = str(folder / "once" / "cascade")
    for arguments, words in (
        (["--models", "small,large", "--artifact", cascade], "weighs large, middle, small together"),
        (["--artifact", cascade, "--artifact", f"{folder}/once/../once/cascade"], "named twice"),
        (["--artifact", str(tmp_path)], "manifest.json cannot be read"),
        (["--artifact", cascade, "--reworded", "5"], "--reworded: for routers that ask once"),
        (["--split", "dev"], "the split 'dev' has no question"),
    ):
        done = run(*evaluate(folder, *arguments))
        assert done.exit_code == 2, done.output
        assert words in done.output, done.output


@pytest.mark.parametrize(
    ("folders", "names"),
    [
        (["a/knn", "a/mlp"], ["knn", "mlp"]),
        (["a/x", "b/x", "b/y"], ["a/x", "b/x", "y"]),
        (["a/1/x", "b/1/x", "b/2/x"], ["a/1/x", "b/1/x", "2/x"]),
        ([], []),
    ],
)
def test_folders_of_the_same_name_are_told_apart(folders: list[str], names: list[str]) -> None:
    assert names_apart([Path(one) for one in folders]) == names


def test_routers_of_the_same_name_are_judged_both(folder: Path, tmp_path: Path) -> None:
    given = ["--outcomes", str(folder / "outcomes.parquet")]
    for place in ("a", "b"):
        done = run("train", "knn", *given, "--out", str(tmp_path / place / "knn"), "--encoder", "static")
        assert done.exit_code == 0, done.output
    named = ["--artifact", str(tmp_path / "a" / "knn"), "--artifact", str(tmp_path / "b" / "knn")]
    assert list(json.loads(run("evaluate", *given, *named, "--json").stdout)["routers"]) == ["a/knn", "b/knn"]

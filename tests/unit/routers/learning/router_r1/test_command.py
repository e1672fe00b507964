"""`pointsman train router-r1`, as far as it goes without the packages that train: what is wrong is said before anything heavy is loaded."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from gateway.cli.router_r1 import train_router_r1
from tests.unit.routers.learning.router_r1.sums import write

pytest.importorskip("pyarrow", reason="the extra `train` is not installed")
app = typer.Typer(pretty_exceptions_enable=False)
app.command()(train_router_r1)
CONFIG = "models:\n  - {name: abacus, backends: ['http://127.0.0.1:9/v1']%s}\n"


def run(folder: Path, more: Sequence[str] = (), policy: str = "tiny") -> Result:
    outcomes, answers = write(folder)
    told = ["--outcomes", str(outcomes), "--answers", str(answers), "--out", str(folder / "r1"), "--policy", policy]
    return CliRunner().invoke(app, [*told, *more])


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--batch", "10", "--group", "4"], "a batch of 10 episodes is not made of groups of 4"),
        (["--batch", "8", "--group", "4", "--at-once", "3"], "does not come in parts of 3"),
        (["--models", "abacus,nobody"], "no outcomes of 'nobody'"),
        (["--alpha", "2"], "--alpha"),
        (["--config", "none.yaml"], "none.yaml"),
        (["--cards", "none.jsonl"], "none.jsonl: cannot be read"),
    ],
)
def test_wrong_input_ends_it_with_2(tmp_path: Path, more: list[str], said: str) -> None:
    done = run(tmp_path, more)
    assert (done.exit_code, said in done.output) == (2, True), done.output
    assert not (tmp_path / "r1").exists()


@pytest.mark.parametrize(("price", "said"), [("", "without a price of abacus"), (", price: {input: 1, output: 1}", "no model named euler")])
def test_live_experts_must_be_in_the_configuration_with_their_prices(tmp_path: Path, price: str, said: str) -> None:
    (tmp_path / "gateway.yaml").write_text(CONFIG % price)
    models = ["--models", "abacus"] if not price else []
    done = run(tmp_path, ["--config", str(tmp_path / "gateway.yaml"), *models])
    assert (done.exit_code, said in done.output) == (2, True), done.output


@pytest.mark.skipif(importlib.util.find_spec("trl") is not None, reason="the extra `grpo` is installed")
def test_without_its_packages_it_says_which_extra_brings_them(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert (done.exit_code, "pip install 'pointsman[grpo]'" in done.output) == (1, True), done.output
    assert not (tmp_path / "r1.checkpoints").exists()

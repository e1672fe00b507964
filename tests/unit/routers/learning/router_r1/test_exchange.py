"""Questions go to veRL's files and come back; rows of tokens are cut as it wants them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from routers.api import Model, Price
from routers.learning.router_r1.chains import Row
from routers.learning.router_r1.exchange import fitted, read, rows, write
from tests.unit.routers.learning.router_r1.sums import write as write_sums
from tests.unit.routers.learning.router_r1.test_command import app
from tests.unit.routers.learning.router_r1.toys import QUESTION

MODELS = {"small": Model("small", Price(1, 2), 100, description="one"), "large": Model("large")}


def test_a_row_holds_all_that_an_episode_needs() -> None:
    (row,) = rows([QUESTION], MODELS)
    told = json.loads(json.dumps(row))  # nothing but JSON is in it
    question, models, costs = read(told["extra_info"])
    assert (question, models, costs) == (QUESTION, MODELS, {"small": 0.01, "large": 0.09})
    assert (told["agent_name"], told["reward_model"]["ground_truth"]) == ("router_r1", "B")
    assert told["prompt"][0]["content"] == QUESTION.text


def test_each_split_has_a_file(tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet", reason="the extra `train` is not installed")
    paths = write(tmp_path / "verl", [QUESTION], MODELS)
    assert [path.name for path in paths] == ["train.parquet"]
    assert read(pq.read_table(paths[0]).to_pylist()[0]["extra_info"])[0] == QUESTION


def test_the_command_exports(tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet", reason="the extra `train` is not installed")
    outcomes, answers = write_sums(tmp_path)
    told = ["--outcomes", str(outcomes), "--answers", str(answers), "--out", str(tmp_path / "verl"), "--policy", "x", "--export"]
    done = CliRunner().invoke(app, told)
    assert (done.exit_code, done.output.split()) == (0, [str(tmp_path / "verl" / "train.parquet")]), done.output
    assert pq.read_table(tmp_path / "verl" / "train.parquet").num_rows == 48


@pytest.mark.parametrize(
    ("prompt", "response", "expected"),
    [
        (9, 9, Row((1, 2, 3), (4, 5), (1, 0))),
        (2, 9, Row((1, 2), (3, 4, 5), (0, 1, 0))),
        (1, 3, Row((1,), (2, 3, 4), (0, 0, 1))),
        (3, 1, Row((1, 2, 3), (4,), (1,))),
    ],
)
def test_what_does_not_fit_is_moved_or_cut(prompt: int, response: int, expected: Row) -> None:
    assert fitted(Row((1, 2, 3), (4, 5), (1, 0)), prompt, response) == expected

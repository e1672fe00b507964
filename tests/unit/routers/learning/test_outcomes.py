"""A table is read whole or refused with the rows that are wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from routers.learning.outcomes import BadOutcomes, load
from tests.outcome_tables import table

ROW = {"query_id": "q1", "dataset": "d", "split": "train", "prompt": "What?", "model": "a", "score": 1.0}


def written(folder: Path, *rows: dict[str, Any], drop: str = "") -> Path:
    path = folder / "outcomes.parquet"
    whole = [{**ROW, "cost_usd": 0.1, "tokens_in": 3, "tokens_out": None, **row} for row in rows]
    pq.write_table(pa.Table.from_pylist([{k: v for k, v in row.items() if k != drop} for row in whole]), path)
    return path


def test_a_ragged_table(tmp_path: Path) -> None:
    rows = [
        {"model": "b", "score": 0.5},
        {},
        {"query_id": "q2", "prompt": "How?", "split": "test", "cost_usd": None},
        {"query_id": "q3", "prompt": "Why?", "score": 0.25},
        {"query_id": "q3", "prompt": "Why?", "model": "b", "score": 0},
    ]
    found = load(written(tmp_path, *rows))
    assert (found.queries, found.models, found.splits) == (("q1", "q2", "q3"), ("a", "b"), ("train", "test", "train"))
    assert found.prompts == ("What?", "How?", "Why?")
    assert np.array_equal(found.scores, [[1, 0.5], [1, np.nan], [0.25, 0]], equal_nan=True)
    assert np.isnan(found.costs[1]).all()
    assert np.isnan(found.tokens_out).all()
    assert (found.complete().queries, len(found.split("test"))) == (("q1", "q3"), 1)
    only = found.of(["b"])
    assert (only.models, only.scores.shape) == (("b",), (3, 1))
    with pytest.raises(ValueError, match="no outcomes of 'c'; there are: a, b"):
        found.of(["c"])


WRONG = [
    ([{}, {}], "row 2: this query_id and model stand in the table already"),
    ([{"score": 1.5}], "row 1: score is outside [0, 1]"),
    ([{}, {"model": "b", "score": None}], "row 2: score is unknown"),
    ([{"score": float("nan")}], "row 1: score is unknown"),
    ([{"split": "dev"}], "row 1: split is none of train, validation, test"),
    ([{"model": None}], "row 1: model is null"),
    ([{"cost_usd": -1.0}], "row 1: cost_usd is negative or infinite"),
    ([{}, {"model": "b", "split": "test"}], "row 2: this query_id is in another split as well"),
    ([{}, {"query_id": "q2", "prompt": "what?  ", "split": "test"}], "row 2: this prompt is in another split as well"),
    ([{"model": "zzz"}], "row 1: model is not known ('zzz')"),
    ([{"query_id": f"q{n}", "prompt": f"{n}", "score": 2.0} for n in range(9)], "row 1, 2, 3, 4, 5 and 4 more: score is outside"),
]


@pytest.mark.parametrize(("rows", "message"), WRONG, ids=[message for _, message in WRONG])
def test_what_is_wrong_and_in_which_row(rows: list[dict[str, Any]], message: str, tmp_path: Path) -> None:
    with pytest.raises(BadOutcomes) as refused:
        load(written(tmp_path, *rows), ["a", "b"])
    assert message in str(refused.value)


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    with pytest.raises(BadOutcomes, match="column 'prompt' is missing"):
        load(written(tmp_path, {}, drop="prompt"))
    whole = written(tmp_path, {}).read_bytes()
    for content in (b"", b"PAR1", whole[: len(whole) // 2], b"x" * 1000):
        (tmp_path / "torn.parquet").write_bytes(content)
        with pytest.raises(BadOutcomes, match=r"torn\.parquet"):
            load(tmp_path / "torn.parquet")
    with pytest.raises(BadOutcomes, match="cannot be read"):
        load(tmp_path / "none.parquet")


def test_recorded_tables_are_good() -> None:
    found = load(table("llmrouter"))
    assert (len(found), len(found.models)) == (4774, 9)
    assert len(found.data_hash) == 64


def questions(start: int, count: int, models: int) -> pa.Table:
    """Rows of questions from `start` on, each answered by every model; scores and costs follow from the numbers."""
    asked, by = np.repeat(np.arange(start, start + count), models), np.tile(np.arange(models), count)
    names = np.array([f"q{number}" for number in range(start, start + count)])
    prompts = np.array([f"{number}: " + f"word{number % 977} " * 25 for number in range(start, start + count)])
    splits = np.array(["train", "validation", "test"])
    return pa.table(
        {
            "query_id": names[asked - start],
            "dataset": np.where(asked % 2, "odd", "even"),
            "split": splits[asked % 3],
            "prompt": prompts[asked - start],
            "model": np.array([f"m{number:02d}" for number in range(models)])[by],
            "score": (asked % 7) / 7,
            "cost_usd": by / 1e4,
            "tokens_in": pa.array(asked % 100, pa.int32()),
        }
    )


@pytest.mark.parametrize("dictionary", [True, False])
def test_row_groups_and_batches_make_no_difference(dictionary: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("routers.learning.outcomes.BATCH", 64)
    whole = questions(0, 100, 7)
    parts = pa.concat_tables([whole.slice(300), whole.slice(0, 300)])
    pq.write_table(parts, tmp_path / "parts.parquet", row_group_size=90, use_dictionary=dictionary)
    found = load(tmp_path / "parts.parquet")
    assert (len(found), found.models) == (100, tuple(f"m{number:02d}" for number in range(7)))
    assert found.queries == tuple(dict.fromkeys(parts["query_id"].to_pylist()))
    for row in range(100):
        number = int(found.queries[row][1:])
        assert found.prompts[row].startswith(f"{number}: ")
        assert (found.datasets[row], found.splits[row]) == (("even", "odd")[number % 2], ("train", "validation", "test")[number % 3])
        assert np.allclose(found.scores[row], number % 7 / 7)
        assert np.allclose(found.costs[row], np.arange(7) / 1e4)
    assert np.isnan(found.tokens_out).all()


def test_rows_are_counted_over_all_row_groups(tmp_path: Path) -> None:
    whole = questions(0, 100, 7)
    scores = whole["score"].to_numpy().copy()
    scores[[250, 699]] = 2.0
    spoiled = whole.set_column(whole.schema.get_field_index("score"), "score", pa.array(scores))
    pq.write_table(pa.concat_tables([spoiled, whole.slice(0, 1)]), tmp_path / "spoiled.parquet", row_group_size=90)
    with pytest.raises(BadOutcomes) as refused:
        load(tmp_path / "spoiled.parquet")
    assert [problem.split(":")[0] for problem in refused.value.problems] == ["row 251, 700", "row 701"]


def test_a_category_that_no_row_has_is_no_question(tmp_path: Path) -> None:
    table_ = questions(0, 2, 1)
    names = pa.DictionaryArray.from_arrays(pa.array([2, 0], pa.int32()), pa.array(["q0", "unused", "q1"]))
    pq.write_table(table_.set_column(0, "query_id", names), tmp_path / "categories.parquet")
    assert sorted(load(tmp_path / "categories.parquet").queries) == ["q0", "q1"]


@pytest.mark.parametrize(("column", "values"), [("score", ["high"]), ("cost_usd", [[1]]), ("prompt", [[1]])])
def test_columns_of_another_kind(column: str, values: list[Any], tmp_path: Path) -> None:
    one = questions(0, 1, 1)
    pq.write_table(one.set_column(one.schema.get_field_index(column), column, pa.array(values)), tmp_path / "odd.parquet")
    with pytest.raises(BadOutcomes, match=f"column '{column}' holds .*, not"):
        load(tmp_path / "odd.parquet")


def test_texts_of_other_kinds_than_string(tmp_path: Path) -> None:
    two = questions(0, 2, 1).set_column(0, "query_id", pa.array([7, 8]).dictionary_encode())
    pq.write_table(two.set_column(3, "prompt", pa.array([b"a", b"b"])), tmp_path / "kinds.parquet")
    found = load(tmp_path / "kinds.parquet")
    assert (found.queries, found.prompts) == (("7", "8"), ("a", "b"))
    not_utf8 = pa.array([b"a", b"\xff"])
    for column in (not_utf8, not_utf8.view(pa.string())):
        pq.write_table(two.set_column(3, "prompt", column), tmp_path / "bytes.parquet")
        with pytest.raises(BadOutcomes, match=r"holds (binary, not texts|a text that is not UTF-8)"):
            load(tmp_path / "bytes.parquet")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_million_rows_take_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "large.parquet"
    first = questions(0, 1000, 20)
    with pq.ParquetWriter(path, first.schema, compression="zstd") as writer:
        for start in range(0, 50_000, 1000):
            writer.write_table(questions(start, 1000, 20))
    code = f"""
import numpy, pathlib, pyarrow.parquet
def peak(): return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
from routers.learning.outcomes import load
before = peak()
found = load(pathlib.Path({str(path)!r}))
print(len(found), found.scores.shape[1], (peak() - before) // 1024)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    questions_, models, megabytes = map(int, done.stdout.split())
    assert (questions_, models) == (50_000, 20)
    matrices, prompts = 4 * 50_000 * 20 * 8 / 2**20, 50_000 * 300 / 2**20
    assert megabytes < 5 * (matrices + prompts), megabytes

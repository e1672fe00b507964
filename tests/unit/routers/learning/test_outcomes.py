"""A table is read whole or refused with the rows that are wrong."""

from __future__ import annotations

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

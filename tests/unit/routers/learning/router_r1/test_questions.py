"""Questions out of tables: what is right, and what experts said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pa = pytest.importorskip("pyarrow", reason="the extra `train` is not installed")
import pyarrow.parquet as pq  # noqa: E402

from routers.learning.outcomes import BadOutcomes, Outcomes  # noqa: E402
from routers.learning.outcomes import load as load_outcomes  # noqa: E402
from routers.learning.router_r1.questions import Said, load, mean_costs  # noqa: E402
from tests.outcome_tables import table  # noqa: E402
from tests.unit.routers.learning.router_r1.sums import rows, write  # noqa: E402


def tables(folder: Path, **change: Any) -> tuple[Outcomes, Path]:
    """The sums, with columns of the table of answers changed (None: left out)."""
    outcomes, path = write(folder)
    answers = [{**row, **change} for row in rows()[1]]
    dropped = [name for name, value in change.items() if value is None]
    pq.write_table(pa.Table.from_pylist([{k: v for k, v in row.items() if k not in dropped} for row in answers]), path)
    return load_outcomes(outcomes), path


def test_what_is_right_stands_in_the_table(tmp_path: Path) -> None:
    outcomes, path = tables(tmp_path)
    found = load(path, outcomes)
    first = found[0]
    assert (len(found), first.letters) == (60, "ABCD")
    assert first.said["euler"] == Said(f"({first.right})", 0.5 * 30 / 1e6, 30)
    assert (first.score(first.right), first.score(f"The answer is ({first.right})."), first.score("I do not know")) == (1.0, 1.0, 0.0)
    assert mean_costs(found, ["abacus"]) == {"abacus": pytest.approx(0.02 * 4 / 1e6)}


def test_else_whoever_was_right_says_it(tmp_path: Path) -> None:
    with_gold = load(tables(tmp_path)[1], tables(tmp_path)[0])
    outcomes, path = tables(tmp_path, gold=None)
    assert [one.right for one in load(path, outcomes)] == [one.right for one in with_gold]
    alone = outcomes.of(["abacus"])
    assert len(load(path, alone)) == sum(row["score"] for row in rows()[0] if row["model"] == "abacus")


def test_where_there_are_letters_alone_they_are_what_was_said(tmp_path: Path) -> None:
    outcomes, _ = tables(tmp_path)
    path = tmp_path / "letters.parquet"
    pq.write_table(
        pa.Table.from_pylist([{"query_id": row["query_id"], "model": row["model"], "letter": row["answer"][1]} for row in rows()[1]]), path
    )
    found = load(path, outcomes)[0]
    assert found.said["euler"].text == f"The answer is ({found.right})."


def test_what_cannot_be_learned_from_is_refused(tmp_path: Path) -> None:
    outcomes, path = tables(tmp_path, answer="no idea", gold=None)
    with pytest.raises(ValueError, match="of no question it is known"):
        load(path, outcomes)
    with pytest.raises(BadOutcomes, match="column"):
        load(tables(tmp_path, model=None)[1], outcomes)


def test_answers_of_real_models() -> None:
    outcomes = load_outcomes(table("mmlupro")).of(["Phi-3-mini-4k-instruct", "Llama-3.1-70B-Instruct"])
    some = outcomes.rows(range(300))
    found = load(table("mmlupro.answers"), some)
    assert len(found) > 290
    scores = {name: [one.score(one.said[name].text) for one in found] for name in some.models}
    assert sum(scores["Llama-3.1-70B-Instruct"]) > sum(scores["Phi-3-mini-4k-instruct"]) > 60

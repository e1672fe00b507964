"""Recorded answers from a file, and what an answer is counted as."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from routers.answers import offered, options, vote
from routers.learning.answers import load
from routers.learning.outcomes import BadOutcomes, Outcomes

pa = pytest.importorskip("pyarrow", reason="the extra `train` is not installed")
pq = pytest.importorskip("pyarrow.parquet", reason="the extra `train` is not installed")
QUESTION = "Which one?\nA. this\nB. that\nC. neither"


def outcomes() -> Outcomes:
    scores = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, np.nan]])
    known = np.ones((3, 2))
    splits, prompts = ("train", "test", "test"), (QUESTION, "6 times 7?", "x")
    return Outcomes(("q1", "q2", "q3"), ("d",) * 3, splits, prompts, ("a", "b"), scores, known, known, known, "sha")


def rows(**changed: list[Any]) -> dict[str, list[Any]]:
    return {"query_id": ["q1", "q1", "q2", "q2", "q9"], "model": ["a", "b", "a", "b", "a"], **changed}


def write(path: Path, columns: dict[str, list[Any]]) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def test_letters_are_votes_and_guessed_ones_are_none(tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet", rows(letter=["B", "B", "A", None, "C"], letter_in_text=[True, False, True, True, True]))
    found = load(path, outcomes())
    assert found.rows.tolist() == [0, 1]  # the third was not answered by both
    assert found.votes.tolist() == [[0, -1], [0, -1]]
    assert found.said == (("B",), ("A",))
    assert len(found.split("train")) == 1
    assert found.of(["b"]).votes.tolist() == [[-1], [-1]]
    with pytest.raises(ValueError, match="no answers of c"):
        found.of(["c"])
    with pytest.raises(ValueError, match="validation"):
        found.split("validation")


def test_a_question_that_not_all_models_answered_is_left_out(tmp_path: Path) -> None:
    some = {"query_id": ["q1", "q2", "q2"], "model": ["a", "a", "b"], "letter": ["A", None, "B"]}
    found = load(write(tmp_path / "t.parquet", some), outcomes())
    assert found.rows.tolist() == [1]
    assert found.votes.tolist() == [[-1, 0]]
    none = {"query_id": ["q1", "q2"], "model": ["a", "b"], "letter": ["A", "B"]}
    with pytest.raises(ValueError, match="no question was answered by all of a, b at a known cost"):
        load(write(tmp_path / "t.parquet", none), outcomes())


def test_texts_are_read(tmp_path: Path) -> None:
    texts = ["I think the answer is (C).", "**Answer:** C", "It is 42.", "So we get 6 * 7 = 42", "x"]
    found = load(write(tmp_path / "t.parquet", rows(answer=texts)), outcomes())
    assert found.votes.tolist() == [[0, 0], [0, 0]]
    assert found.said == (("C",), ("42",))


@pytest.mark.parametrize(
    ("columns", "complaint"),
    [
        (
            rows(letter=["A"] * 5, query_id=["q1", "q1", "q1", "q2", "q2"], model=["a", "b", "a", "a", "b"]),
            "row 3: this query_id and model",
        ),
        (
            rows(letter=["A"] * 5, split=["train", "train", "train", "test", "test"]),
            "row 3: the outcomes table has this question in another",
        ),
        (rows(letter=["A"] * 5, model=["a"] * 4 + ["z"], query_id=["q1", "q2", "q3", "q4", "q5"]), "holds no answer of b"),
        (rows(letter=["A"] * 5, model=["a", None, "b", "b", "a"]), "row 2: model is null"),
        (rows(letter=[1] * 5), "column 'letter' holds int64"),
        (rows(), "one of 'letter', 'vote' and 'answer' is missing"),
        ({"model": ["a"], "letter": ["A"]}, "column 'query_id' is missing"),
    ],
)
def test_what_is_wrong_is_named_with_its_row(tmp_path: Path, columns: dict[str, list[Any]], complaint: str) -> None:
    with pytest.raises(BadOutcomes, match=complaint):
        load(write(tmp_path / "t.parquet", columns), outcomes())


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"PAR1 no")
    for name in ("t.parquet", "missing.parquet"):
        with pytest.raises(BadOutcomes, match=name):
            load(tmp_path / name, outcomes())


@pytest.mark.parametrize(
    ("question", "letters"), [(QUESTION, "ABC"), ("A. lone", ""), ("no options", ""), ("(A) x\n(B) y", "AB"), ("B. x\nC. y", "")]
)
def test_letters_of_the_options(question: str, letters: str) -> None:
    assert options(question) == letters


@pytest.mark.parametrize(
    ("answer", "letters", "counted"),
    [
        ("The answer is B.", "ABC", "B"),
        ("The answer is F.", "ABC", None),
        ("I cannot tell.", "ABC", None),
        ("1234 in total", "", "1234"),
        (" Paris. ", "", "paris"),
        ("words " * 40, "", None),
        ("", "", None),
    ],
)
def test_what_an_answer_is_counted_as(answer: str, letters: str, counted: str | None) -> None:
    assert vote(answer, letters) == counted


@pytest.mark.parametrize(
    ("question", "texts"),
    [
        (QUESTION, ("this", "that", "neither")),
        ("no options", ()),
        ("A. is a letter.\nWhich?\nA. one\nand more\nB. two", ("one\nand more", "two")),
        ("(A) x\n(B) y\nC) z\nE. stray", ("x", "y", "z\nE. stray")),
    ],
)
def test_options_themselves(question: str, texts: tuple[str, ...]) -> None:
    assert offered(question) == texts

"""Recorded answers: what models said on the questions of an outcomes table, so that several calls a question can be played again.

A table of answers is a Parquet file with one row per (query_id, model). `letter` or `vote`: what the answer is counted as, null where it
commits itself to nothing; without such a column it is read off `answer`, the text. `letter_in_text`, where there is such a column: false
says that the letter was guessed by whoever wrote the table, so it is no vote. Other columns do not matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from routers.answers import options, vote
from routers.learning.outcomes import SHOWN, BadOutcomes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from routers.learning.outcomes import Floats, Outcomes

    Flags = NDArray[np.bool_]
    Votes = NDArray[np.int32]
    Rows = NDArray[np.int64]

REQUIRED = ("query_id", "model")
SAID = ("letter", "vote", "answer")
"""Columns that say what was answered; the first that is there counts."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """n questions that all of m models answered at a known cost.

    `rows` (n,): their places in the outcomes table. `scores` in [0, 1], `costs` in USD, `lengths` in tokens (NaN: unknown): float64 (n, m).
    `votes`: int32 (n, m); two answers to a question that have the same number are the same answer; -1: no vote. The numbers of a question
    are 0, 1, …, in the order of `said`, which holds for each question what they stand for.
    """

    models: tuple[str, ...]
    rows: Rows
    splits: tuple[str, ...]
    datasets: tuple[str, ...]
    prompts: tuple[str, ...]
    scores: Floats
    costs: Floats
    lengths: Floats
    votes: Votes
    said: tuple[tuple[str, ...], ...]
    data_hash: str

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, places: Rows) -> Recorded:
        """The questions at these places."""
        splits, datasets, prompts, said = (
            tuple(column[place] for place in places.tolist()) for column in (self.splits, self.datasets, self.prompts, self.said)
        )
        matrices = (self.scores[places], self.costs[places], self.lengths[places], self.votes[places])
        return Recorded(self.models, self.rows[places], splits, datasets, prompts, *matrices, said, self.data_hash)  # type: ignore[arg-type]

    def split(self, name: str) -> Recorded:
        """The questions of train, validation or test. Raises ValueError if there are none."""
        places = np.flatnonzero(np.array(self.splits) == name)
        if not len(places):
            raise ValueError(f"the split {name!r} has no question that all of {', '.join(self.models)} answered at a known cost")
        return self.take(places)

    def of(self, models: Sequence[str]) -> Recorded:
        """The same questions with these models alone, in this order. Raises ValueError for one that is not there."""
        unknown = [name for name in models if name not in self.models]
        if unknown:
            raise ValueError(f"no answers of {', '.join(unknown)}; there are: {', '.join(self.models)}")
        columns = [self.models.index(name) for name in models]
        matrices = {name: getattr(self, name)[:, columns] for name in ("scores", "costs", "lengths", "votes")}
        return replace(self, models=tuple(models), **matrices)


def load(path: Path, outcomes: Outcomes) -> Recorded:
    """The answers to the questions of an outcomes table by its models, from a Parquet file. Rows of others are left out.

    A question of which the file lacks a model's answer is left out; an answer that is there but null is no vote. Raises BadOutcomes: for a
    file that is none, a missing or wrong column, a (query_id, model) that occurs twice, a split that is not the outcomes table's, and a
    model without any answer. ValueError if no question was answered by all models at a known cost.
    """
    columns, column = _read(path)
    place_of = {name: place for place, name in enumerate(outcomes.queries)}
    column_of = {name: place for place, name in enumerate(outcomes.models)}
    texts: list[list[str | None]] = [[None] * len(outcomes.models) for _ in range(len(outcomes))]
    seen: set[tuple[str, str]] = set()
    twice, moved, answered = [], [], np.zeros(outcomes.scores.shape, dtype=bool)
    splits = columns.get("split")
    for row, (query, model) in enumerate(zip(columns["query_id"], columns["model"], strict=True)):
        if (query, model) in seen:
            twice.append(row)
        seen.add((query, model))
        question, who = place_of.get(query), column_of.get(model)
        if question is None or who is None:
            continue
        if splits is not None and splits[row] != outcomes.splits[question]:
            moved.append(row)
        guessed = "letter_in_text" in columns and columns["letter_in_text"][row] is False
        texts[question][who] = None if guessed else columns[column][row]
        answered[question, who] = True
    problems = _complain(twice, "this query_id and model stand in the table already")
    problems += _complain(moved, "the outcomes table has this question in another split")
    silent = [outcomes.models[who] for who in np.flatnonzero(np.count_nonzero(answered, axis=0) == 0).tolist()]
    problems += [f"holds no answer of {', '.join(silent)} to a question of the outcomes table"] if silent else []
    if problems:
        raise BadOutcomes(path, problems)
    return _recorded(outcomes, texts, np.count_nonzero(answered, axis=1) == len(outcomes.models), as_text=column == "answer")


def _read(path: Path) -> tuple[dict[str, list[Any]], str]:
    """The columns that matter, and which of them says what was answered. Raises BadOutcomes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        names = pq.read_schema(path).names
        column = next((name for name in SAID if name in names), "")
        missing = [repr(name) for name in REQUIRED if name not in names] + ([] if column else ["one of 'letter', 'vote' and 'answer'"])
        if missing:
            raise BadOutcomes(path, [f"column {name} is missing" for name in missing])
        wanted = [*REQUIRED, column, *(name for name in ("split", "letter_in_text") if name in names)]
        read = pq.read_table(path, columns=wanted)
    except OSError as error:
        raise BadOutcomes(path, [f"cannot be read: {error.strerror or 'it is no whole Parquet file'}"]) from None
    except pa.ArrowInvalid as error:
        raise BadOutcomes(path, [f"is no whole Parquet file: {str(error).splitlines()[0]}"]) from None
    if not read.num_rows:
        raise BadOutcomes(path, ["holds no rows"])
    odd = [name for name in wanted if not _fits(pa, read.schema.field(name).type, pa.bool_() if name == "letter_in_text" else pa.string())]
    if odd:
        raise BadOutcomes(path, [f"column {name!r} holds {read.schema.field(name).type}" for name in odd])
    found = {name: read.column(name).to_pylist() for name in wanted}
    empty = {name: [row for row, value in enumerate(found[name]) if value is None] for name in REQUIRED}
    problems = [problem for name, rows in empty.items() for problem in _complain(rows, f"{name} is null")]
    if problems:
        raise BadOutcomes(path, problems)
    return found, column


def _fits(pa: Any, kind: Any, wanted: Any) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(kind == wanted or (wanted == pa.string() and pa.types.is_large_string(kind)))


def _complain(rows: Sequence[int], what: str) -> list[str]:
    if not rows:
        return []
    more = f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
    return [f"row {', '.join(str(row + 1) for row in rows[:SHOWN])}{more}: {what}"]


def _recorded(outcomes: Outcomes, texts: Sequence[Sequence[str | None]], answered: Flags, as_text: bool) -> Recorded:
    """`answered` (n,): by all models."""
    known = answered & ~(np.isnan(outcomes.scores) | np.isnan(outcomes.costs)).any(axis=1)
    rows = np.flatnonzero(known)
    if not len(rows):
        raise ValueError(f"no question was answered by all of {', '.join(outcomes.models)} at a known cost")
    votes = np.full((len(rows), len(outcomes.models)), -1, dtype=np.int32)
    said = []
    for place, row in enumerate(rows.tolist()):
        letters = options(outcomes.prompts[row]) if as_text else ""
        numbers: dict[str, int] = {}
        for who, text in enumerate(texts[row]):
            counted = vote(text, letters) if as_text and text is not None else text
            if counted is not None:
                votes[place, who] = numbers.setdefault(counted, len(numbers))
        said.append(tuple(numbers))
    splits, datasets, prompts = (
        tuple(column[row] for row in rows.tolist()) for column in (outcomes.splits, outcomes.datasets, outcomes.prompts)
    )
    matrices = (outcomes.scores[rows], outcomes.costs[rows], outcomes.tokens_out[rows], votes)
    return Recorded(outcomes.models, rows, splits, datasets, prompts, *matrices, tuple(said), outcomes.data_hash)

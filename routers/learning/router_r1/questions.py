"""Questions that a policy learns on: what would be right, and what each expert was recorded to say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from routers.answers import options, vote
from routers.learning import answers

if TYPE_CHECKING:
    from routers.learning.answers import Recorded
    from routers.learning.outcomes import Outcomes

GOLD = "gold"
"""A column of the table of answers that says what is right, as `letter` or `vote` would have it."""
RIGHT = 0.5
"""Without that column, an answer whose score is greater says it."""


@dataclass(frozen=True, slots=True)
class Said:
    """A recorded answer. `tokens`: None if unknown."""

    text: str
    cost_usd: float
    tokens: int | None


@dataclass(frozen=True, slots=True)
class Question:
    """`letters`: of its options; empty if it has none. `right`: what a right answer is counted as. `said`: by model."""

    id: str
    text: str
    split: str
    letters: str
    right: str
    said: Mapping[str, Said]

    def score(self, answer: str) -> float:
        """1 for an answer that is counted as the right one, else 0."""
        return float(vote(answer, self.letters) == self.right)


def load(path: Path, table: Outcomes) -> tuple[Question, ...]:
    """The questions of an outcomes table of which it is known what is right, with the answers that a file has of its models.

    What is right stands in a column `gold`, else it is what a model said whose score is above RIGHT; questions to which none said anything
    right are left out. Where the file has letters alone, they are what was said. Raises BadOutcomes, ValueError: as `answers.load`, and if
    no question is left.
    """
    recorded = answers.load(path, table)
    texts, gold = _read(path, recorded, table)
    found = []
    for row in range(len(recorded)):
        letters = options(recorded.prompts[row])
        right = _right(recorded, row, letters, gold)
        if right is None:
            continue
        said = {
            model: Said(texts.get((row, column), ""), float(recorded.costs[row, column]), _whole(recorded.lengths[row, column]))
            for column, model in enumerate(recorded.models)
        }
        name = table.queries[int(recorded.rows[row])]
        found.append(Question(name, recorded.prompts[row], recorded.splits[row], letters, right, said))
    if not found:
        raise ValueError(f"{path}: of no question it is known what would be right")
    return tuple(found)


def mean_costs(questions: Sequence[Question], models: Sequence[str]) -> dict[str, float]:
    """USD of an answer of each model."""
    return {model: float(np.mean([question.said[model].cost_usd for question in questions])) for model in models}


def _read(path: Path, recorded: Recorded, table: Outcomes) -> tuple[Mapping[tuple[int, int], str], Mapping[int, str]]:
    """What was said by (row, column), and what is right by row, as the file has them."""
    import pyarrow.parquet as pq

    names = pq.read_schema(path).names
    column = next(name for name in ("answer", *answers.SAID) if name in names)
    wanted = [*answers.REQUIRED, column, *([GOLD] if GOLD in names else [])]
    columns: dict[str, list[Any]] = pq.read_table(path, columns=wanted).to_pydict()
    place = {table.queries[row]: number for number, row in enumerate(recorded.rows.tolist())}
    who = {model: number for number, model in enumerate(recorded.models)}
    texts, gold = {}, {}
    for number, (query, model) in enumerate(zip(columns["query_id"], columns["model"], strict=True)):
        row, text = place.get(query), columns[column][number]
        if row is None:
            continue
        if GOLD in columns and columns[GOLD][number] is not None:
            gold[row] = str(columns[GOLD][number])
        if model in who and text is not None:
            texts[row, who[model]] = text if column == "answer" else f"The answer is ({text})." if len(text) == 1 else text
    return texts, gold


def _right(recorded: Recorded, row: int, letters: str, gold: Mapping[int, str]) -> str | None:
    if row in gold:
        return vote(gold[row], letters)
    for column in np.argsort(-recorded.scores[row], kind="stable").tolist():
        number = int(recorded.votes[row, column])
        if recorded.scores[row, column] > RIGHT and number >= 0:
            return recorded.said[row][number]
    return None


def _whole(tokens: float) -> int | None:
    return None if np.isnan(tokens) else int(tokens)

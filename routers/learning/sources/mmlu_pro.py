"""github.com/TIGER-AI-Lab/MMLU-Pro: what many models answered to 12,032 multiple-choice questions, `eval_results/*_5shots.zip`.

The runs hold three revisions of the questions. The newest is the key: where only the right letter was mended, every run is judged by
the mended letter; where the options are others, answers to the old options are left out. The prompt is the question with its options;
the five worked examples before it are not. Tokens are estimates and costs come from list prices.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from routers.learning.sources import files
from routers.learning.sources.models import known, with_list_price
from routers.learning.sources.rows import BadSource, Model, Reading, Row, estimate_tokens

TABLE = "mmlupro"
NEWEST = ("jamba-1.5-large", "gemini-1.5-pro-002", "gemini-1.5-flash-002")
NEWER = ("Llama-3.1-70B-Instruct", "Llama-3.1-8B-Instruct", "Llama-3.1-70B", "Llama-3.1-8B", "mathstral-7B")
"""Runs over the newest and the second revision of the questions; all others had the first, or a mixture."""
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_RUN = re.compile(r"model_outputs_(.+)_5shots\.zip")


class _Answer(msgspec.Struct, frozen=True):
    question_id: int
    question: str
    options: list[str]
    answer: str
    category: str
    pred: str | None = None
    generated_text: str | None = None
    model_outputs: str | None = None


@dataclass(frozen=True, slots=True)
class _Question:
    options: list[str]
    answer: str
    query_id: str
    dataset: str
    prompt: str


@dataclass(slots=True)
class _Count:
    """What was not taken as it stood."""

    mended: int = 0
    left_out: int = 0
    asked: set[int] = field(default_factory=set)
    strays: int = 0


def read(folder: Path) -> Reading:
    """All runs of models that models.json lists. Raises BadSource."""
    models = {name: with_list_price(model) for name, model in known(TABLE).items()}
    runs, others = _runs(folder, models)
    rows: list[Row] = []
    questions: dict[int, _Question] = {}
    count = _Count()
    for name, path in runs:
        rows += _answers(path, models[name], questions, count)
    notes = [
        f"{count.mended} answers are judged by a letter that was mended later",
        f"{count.left_out} answers to old options of {len(count.asked)} questions are left out",
    ]
    if count.strays:
        notes.append(f"{count.strays} entries that are no answers are left out")
    if others:
        notes.append(f"runs of models without a price in our list are left out: {', '.join(others)}")
    missing = sorted(models.keys() - {name for name, _ in runs})
    if missing:
        notes.append(f"no runs of {', '.join(missing)}")
    return Reading(rows, [models[name] for name in sorted(name for name, _ in runs)], notes)


def _runs(folder: Path, models: dict[str, Model]) -> tuple[list[tuple[str, Path]], list[str]]:
    """Names and files, the newest revision first; and the names that the list of models lacks."""
    found: dict[str, Path] = {}
    others = []
    for path in sorted((folder / "eval_results").glob("*.zip")):
        run = _RUN.fullmatch(path.name)
        name = "" if run is None else run[1].removeprefix("Meta-").replace("Llama-3_1", "Llama-3.1")
        if name in models:
            found[name] = path
        else:
            others.append(path.stem)
    if not found:
        raise BadSource(folder / "eval_results", "holds no run of a known model (model_outputs_MODEL_5shots.zip)")
    order = [*NEWEST, *NEWER, *sorted(found)]
    return [(name, found[name]) for name in dict.fromkeys(order) if name in found], others


def _answers(path: Path, model: Model, questions: dict[int, _Question], count: _Count) -> list[Row]:
    rows = []
    seen = set()
    # One published run has names of categories between its answers.
    for number, answer in enumerate(files.parse(files.zipped(path), list[_Answer | str], path), 1):
        if isinstance(answer, str):
            count.strays += 1
            continue
        if answer.question_id in seen:
            raise BadSource(path, f"question {answer.question_id} is answered twice", f"row {number}")
        seen.add(answer.question_id)
        question = questions.get(answer.question_id)
        if question is None:
            question = questions[answer.question_id] = _question(answer, path, number)
        if answer.options != question.options:
            count.left_out += 1
            count.asked.add(answer.question_id)
            continue
        count.mended += answer.answer != question.answer
        text = answer.model_outputs if answer.generated_text is None else answer.generated_text
        if text is None:
            raise BadSource(path, "has neither generated_text nor model_outputs", f"row {number}")
        into, out = estimate_tokens(question.prompt), estimate_tokens(text.strip())
        score = float(answer.pred == question.answer)
        rows.append(Row(question.query_id, question.dataset, question.prompt, model.name, score, model.cost(into, out), into, out))
    return rows


def _question(answer: _Answer, path: Path, number: int) -> _Question:
    letters = LETTERS[: len(answer.options)]
    if not letters or len(answer.options) > len(LETTERS) or answer.answer not in list(letters):
        raise BadSource(path, f"the right letter {answer.answer!r} names none of {len(answer.options)} options", f"row {number}")
    options = [f"{letter}. {option.strip()}" for letter, option in zip(letters, answer.options, strict=True)]
    dataset = f"{TABLE}/{answer.category.replace(' ', '_')}"
    return _Question(
        answer.options, answer.answer, f"{TABLE}-{answer.question_id:05d}", dataset, "\n".join([answer.question.strip(), *options])
    )

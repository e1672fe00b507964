"""Where questions come from: a file, the starter set, or the ledger. And which of them are asked."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from gateway.account.ledger import NO_ROUTE, Entry, RequestEntry
from gateway.account.ledger_outcomes import OutcomeRow
from gateway.calibration.work import Findings
from routers.learning.questions import BadQuestions, Question, name_of, normal, read_questions, split_of


def from_file(path: Path) -> list[Question]:
    """The questions of a JSONL file. Raises BadQuestions, OSError; ImportError for a missing extra."""
    try:
        return read_questions(path.read_text(encoding="utf-8").split("\n"))
    except UnicodeDecodeError as error:
        raise BadQuestions([f"byte {error.start}: the file is not UTF-8"]) from None


def from_ledger(entries: Iterable[Entry]) -> list[Question]:
    """The prompts that a ledger holds (it does with `ledger.prompts: true` alone), each once, to be graded by a judge."""
    found: dict[str, Question] = {}
    for entry in entries:
        if isinstance(entry, RequestEntry) and isinstance(entry.prompt, str) and entry.prompt.strip() and entry.endpoint != "embeddings":
            dataset = f"ledger/{entry.route or NO_ROUTE}"
            found.setdefault(normal(entry.prompt), Question(name_of(entry.prompt), dataset, entry.prompt, "judge"))
    return list(found.values())


def some(questions: Sequence[Question], limit: int | None, seed: int) -> list[Question]:
    """At most `limit` of them, drawn by `seed`, in their own order. A greater limit adds to what a smaller one drew."""
    if limit is None or limit >= len(questions):
        return list(questions)
    drawn = sorted(questions, key=lambda question: hashlib.sha256(f"{seed}\0{question.id}".encode()).digest())[:limit]
    ids = {question.id for question in drawn}
    return [question for question in questions if question.id in ids]


def table_rows(findings: Findings) -> list[OutcomeRow]:
    """The outcomes table: a row for each question and model, by question and model."""
    rows = [
        OutcomeRow(
            query_id=question.id,
            dataset=question.dataset,
            split=split_of(question.prompt),
            prompt=question.prompt,
            model=row.model,
            score=row.score,
            cost_usd=row.cost_usd,
            tokens_in=row.tokens_in,
            tokens_out=row.tokens_out,
            latency_s=row.latency_s,
        )
        for question, row in findings.rows
    ]
    return sorted(rows, key=lambda row: (row.query_id, row.model))

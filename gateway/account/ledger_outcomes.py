"""From the ledger to the outcomes table that routers learn from: scores that people gave, joined with what was asked."""

from __future__ import annotations

import hashlib
import math
import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from gateway.account.ledger import NO_ROUTE, Entry, FeedbackEntry, RequestEntry

if TYPE_CHECKING:
    import pyarrow as pa

Split = Literal["train", "validation", "test"]


@dataclass(frozen=True, slots=True)
class OutcomeRow:
    """One row of the table: (query_id, model). Unknown is None."""

    query_id: str
    dataset: str
    split: Split
    prompt: str
    model: str
    score: float
    cost_usd: float | None
    tokens_in: int | None
    tokens_out: int | None
    latency_s: float | None


@dataclass(frozen=True, slots=True)
class Outcomes:
    """The rows, ordered by query and model, and what was left out: scored decisions without a prompt, requests without a score."""

    rows: Sequence[OutcomeRow]
    scores: int
    without_prompt: int
    without_score: int


@dataclass(slots=True)
class _Query:
    """What is known of one prompt: its dataset (where it was asked first) and its answers by model, each with its score."""

    prompt: str
    dataset: str
    answers: dict[str, list[tuple[float, RequestEntry]]] = field(default_factory=dict)


def query_id(prompt: str) -> str:
    """16 hex digits that name a prompt."""
    return hashlib.sha256(prompt.encode()).hexdigest()[:16]


def split_of(query: str) -> Split:
    """70 % train, 10 % validation, 20 % test, by the query alone: all models' answers to it are in one split, today and tomorrow."""
    place = int(query, 16) % 10
    return "train" if place < 7 else "validation" if place == 7 else "test"


def scores_in(entries: Iterable[Entry]) -> dict[str, float]:
    """The newest score of each decision."""
    return {entry.decision_id: entry.score for entry in entries if isinstance(entry, FeedbackEntry)}


def join(requests: Iterable[Entry], scores: dict[str, float]) -> Outcomes:
    """The table from all requests and the scores of some. A decision whose request is gone, or was not answered, has no prompt."""
    queries: dict[str, _Query] = {}
    joined: set[str] = set()
    unscored = 0
    for entry in requests:
        if not isinstance(entry, RequestEntry) or entry.decision_id in joined:
            continue
        if entry.decision_id not in scores:
            unscored += 1
        elif isinstance(entry.prompt, str) and entry.prompt and entry.model is not None:
            joined.add(entry.decision_id)
            name = query_id(entry.prompt)
            query = queries.setdefault(name, _Query(entry.prompt, f"ledger/{entry.route or NO_ROUTE}"))
            query.answers.setdefault(entry.model, []).append((scores[entry.decision_id], entry))
    rows = [_row(name, query, model, query.answers[model]) for name, query in sorted(queries.items()) for model in sorted(query.answers)]
    return Outcomes(rows, len(scores), len(scores) - len(joined), unscored)


def _row(name: str, query: _Query, model: str, answers: Sequence[tuple[float, RequestEntry]]) -> OutcomeRow:
    """Means over the answers, each over those where the number is known. What we only estimated is not known."""
    found = [_own(entry) for _, entry in answers]
    tokens_in, tokens_out = _mean([own.tokens_in for own in found]), _mean([own.tokens_out for own in found])
    milliseconds = _mean([own.ms for own in found])
    return OutcomeRow(
        name,
        query.dataset,
        split_of(name),
        query.prompt,
        model,
        math.fsum(score for score, _ in answers) / len(answers),
        _mean([own.cost_usd for own in found]),
        None if tokens_in is None else round(tokens_in),
        None if tokens_out is None else round(tokens_out),
        None if milliseconds is None else milliseconds / 1000,
    )


@dataclass(frozen=True, slots=True)
class _Own:
    """What the model's own call took, that was the answer; others that were asked before it are not its doing."""

    tokens_in: int | None
    tokens_out: int | None
    cost_usd: float | None
    ms: float | None


def _own(entry: RequestEntry) -> _Own:
    usage, before = entry.usage, max((one.at_ms + one.ms for one in entry.asks), default=0.0)
    if usage is None:
        asked = next((one for one in reversed(entry.asks) if one.model == entry.model and one.error is None), None)
        if asked is not None:
            return _Own(asked.prompt_tokens, asked.completion_tokens, asked.cost_usd, asked.ms)
    milliseconds = None if entry.ms is None else max(0.0, entry.ms - before)
    if entry.estimated:
        return _Own(None, None, None, milliseconds)
    tokens = (None, None) if usage is None else (usage.prompt_tokens, usage.completion_tokens)
    return _Own(*tokens, entry.own_cost_usd, milliseconds)


def _mean(numbers: Sequence[float | None]) -> float | None:
    known = [number for number in numbers if number is not None]
    return math.fsum(known) / len(known) if known else None


def table(rows: Sequence[OutcomeRow]) -> pa.Table:
    """The rows as Arrow, with the contract's columns. Raises ImportError without pyarrow."""
    import pyarrow as pa

    texts = ("query_id", "dataset", "split", "prompt", "model")
    numbers = {
        "score": pa.float64(),
        "cost_usd": pa.float64(),
        "tokens_in": pa.int64(),
        "tokens_out": pa.int64(),
        "latency_s": pa.float64(),
    }
    schema = pa.schema({**{name: pa.string() for name in texts}, **numbers})
    return pa.Table.from_pylist([asdict(row) for row in rows], schema)


def write(rows: Sequence[OutcomeRow], path: Path) -> None:
    """Writes the table as Parquet, whole or not at all; it holds prompts, and so is for its owner's eyes only.

    Raises OSError; ImportError without pyarrow.
    """
    import pyarrow.parquet as pq

    found = table(rows)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            pq.write_table(found, file, compression="zstd")
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise

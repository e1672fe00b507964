"""From a source's rows to the contract's outcomes table, and its models beside it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from routers.learning.outcomes import SPLITS
from routers.learning.sources.rows import Model, Reading, Row, split_of

if TYPE_CHECKING:
    import pyarrow as pa

MODELS = "models.jsonl"


@dataclass(frozen=True, slots=True)
class Written:
    """Counts. `splits`: questions of train, validation and test."""

    rows: int
    questions: int
    models: int
    splits: Mapping[str, int]


def write(reading: Reading, out: Path) -> Written:
    """Writes the rows to `out` (Parquet, zstd, by query and model) and the models to models.jsonl in the same folder, each whole or not
    at all. Raises OSError; ImportError without pyarrow.
    """
    import pyarrow.parquet as pq

    rows = sorted(reading.rows, key=attrgetter("query_id", "model"))
    prompts = {row.query_id: row.prompt for row in rows}
    splits = {query: split_of(prompt) for query, prompt in prompts.items()}
    fresh, fresh_models = out.with_name(f".{out.name}.new"), out.with_name(f".{MODELS}.new")
    try:
        pq.write_table(_table(rows, splits), fresh, compression="zstd")
        fresh_models.write_bytes(_lines(reading.models))
        os.replace(fresh, out)
        os.replace(fresh_models, out.with_name(MODELS))
    finally:
        fresh.unlink(missing_ok=True)
        fresh_models.unlink(missing_ok=True)
    count = Counter[str](splits.values())
    return Written(len(rows), len(prompts), len(reading.models), {split: count[split] for split in SPLITS})


def _table(rows: Sequence[Row], splits: Mapping[str, str]) -> pa.Table:
    import pyarrow as pa

    def texts(values: Sequence[str]) -> Any:
        return pa.array(values, pa.string()).dictionary_encode()

    return pa.table(
        {
            "query_id": texts([row.query_id for row in rows]),
            "dataset": texts([row.dataset for row in rows]),
            "split": texts([splits[row.query_id] for row in rows]),
            "prompt": texts([row.prompt for row in rows]),
            "model": texts([row.model for row in rows]),
            "score": pa.array([row.score for row in rows], pa.float64()),
            "cost_usd": pa.array([row.cost_usd for row in rows], pa.float64()),
            "tokens_in": pa.array([row.tokens_in for row in rows], pa.int32()),
            "tokens_out": pa.array([row.tokens_out for row in rows], pa.int32()),
            "latency_s": pa.nulls(len(rows), pa.float64()),
        }
    )


def _lines(models: Sequence[Model]) -> bytes:
    return b"".join(msgspec.json.encode(model) + b"\n" for model in models)

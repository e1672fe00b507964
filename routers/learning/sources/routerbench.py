"""RouterBench (Hu et al. 2024, arXiv:2403.12031): eleven models on many benchmarks, as one CSV or Parquet file.

Columns: `sample_id`, `prompt`, `eval_name`; for each model `MODEL` with its score, `MODEL|total_cost` in USD, and where it is there
`MODEL|model_response`. The project publishes a pickle as well: that runs whatever its author put in, so it is never opened. A prompt that
is written as a list of texts (`['…']`) is those texts, line by line. Scores and costs as published; tokens are estimates.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from routers.learning.sources import files
from routers.learning.sources.models import known, with_list_price
from routers.learning.sources.rows import BadSource, Model, Reading, Row, check_score, estimate_tokens

TABLE = "routerbench"
COLUMNS = ("sample_id", "prompt", "eval_name")
COST, RESPONSE = "|total_cost", "|model_response"
BATCH = 1024
_PICKLES = (".pkl", ".pickle", ".gz", ".bz2", ".zip", ".xz")
_HOW = "save its table as CSV or Parquet (pandas: to_csv, to_parquet) where you trust it, and name that file"


def read(path: Path) -> Reading:
    """Raises BadSource; ImportError for Parquet without pyarrow."""
    if path.suffix in _PICKLES:
        raise BadSource(path, f"may be a pickle, which is never opened here; {_HOW}")
    if path.suffix not in (".csv", ".parquet"):
        raise BadSource(path, f"is neither .csv nor .parquet; {_HOW}")
    table = _parquet(path) if path.suffix == ".parquet" else files.table(path, COLUMNS)
    rows: list[Row] = []
    models: tuple[str, ...] = ()
    seen: set[str] = set()
    unknown = 0
    for number, cells in table:
        models = models or _models(path, cells)
        name = str(cells["sample_id"] or "")
        if not name or name in seen:
            raise BadSource(path, f"sample_id {name!r} is empty or stands there already", f"row {number}")
        seen.add(name)
        found = _rows(path, number, cells, models)
        unknown += len(models) - len(found)
        rows += found
    if not rows:
        raise BadSource(path, "holds no scores")
    return Reading(rows, [_model(name) for name in models], [f"{unknown} answers without a score are left out"])


def _models(path: Path, names: Mapping[str, Any]) -> tuple[str, ...]:
    found = tuple(sorted(name for name in names if f"{name}{COST}" in names))
    if not found:
        raise BadSource(path, f"has no model: no column MODEL with a column MODEL{COST}")
    return found


def _model(name: str) -> Model:
    listed = known(TABLE).get(name)
    return with_list_price(listed) if listed is not None else Model(name, TABLE, None, None, None, None, None, None)


def _rows(path: Path, number: int, cells: Mapping[str, Any], models: Sequence[str]) -> list[Row]:
    prompt = _prompt(path, number, cells["prompt"])
    into = estimate_tokens(prompt)
    rows = []
    for model in models:
        score = _number(path, number, model, cells[model])
        if score is None:
            continue
        response = cells.get(model + RESPONSE)
        out = estimate_tokens(str(response)) if response not in (None, "") else None
        cost = _number(path, number, model + COST, cells[model + COST])
        if cost is not None and not 0 <= cost < float("inf"):
            raise BadSource(path, f"{model}{COST} is {cost:g}", f"row {number}")
        checked = check_score(score, path, f"row {number}, {model}")
        rows.append(Row(f"{TABLE}-{cells['sample_id']}", f"{TABLE}/{cells['eval_name']}", prompt, model, checked, cost, into, out))
    return rows


def _prompt(path: Path, number: int, value: Any) -> str:
    """As text: of a list, its parts. What looks like a list and is none stays as it is."""
    parts = value
    if isinstance(value, str) and value[:2] in ("['", '["') and value.endswith("]"):
        try:
            parts = ast.literal_eval(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            parts = value
    if isinstance(parts, list) and all(isinstance(part, str) for part in parts):
        parts = "\n".join(parts)
    if not isinstance(parts, str) or not parts:
        raise BadSource(path, "prompt is empty or no text", f"row {number}")
    return parts.encode(errors="replace").decode()  # a list's text may spell half a surrogate pair, which no file can hold


def _number(path: Path, number: int, column: str, value: Any) -> float | None:
    """None where the cell is empty."""
    if value is None or value == "" or value != value:
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        raise BadSource(path, f"{column} is {str(value)[:40]!r}, no number", f"row {number}") from None


def _parquet(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path) as file:
            missing = [name for name in COLUMNS if name not in file.schema_arrow.names]
            if missing:
                raise BadSource(path, f"column {missing[0]!r} is missing")
            for batch in file.iter_batches(BATCH):
                for cells in batch.to_pylist():
                    number += 1
                    yield number, cells
    except pa.ArrowInvalid as error:
        raise BadSource(path, f"is no whole Parquet file: {str(error).splitlines()[0]}") from None
    except OSError as error:
        raise BadSource(path, f"cannot be read: {error.strerror or 'it is no whole Parquet file'}") from None

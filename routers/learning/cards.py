"""What is known of the models of an outcomes table: prices, window, description. One JSON object a line, or a Parquet table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from routers.api import Model, Price

NAMES = ("models.jsonl", "models.parquet")
"""Files that are looked for beside an outcomes table, in this order."""
MOST_BYTES = 10_000_000


class BadCards(ValueError):
    """A file of models that cannot be used. The text names the file and the line."""


class _Card(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str = Field(min_length=1)
    table: str | None = None
    usd_per_1m_tokens_in: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    usd_per_1m_tokens_out: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    context_window: int | None = Field(default=None, ge=1)
    description: str = ""


def beside(table: Path) -> Path | None:
    """The file of models that lies beside an outcomes table; None if there is none."""
    return next((path for name in NAMES if (path := table.parent / name).is_file()), None)


def load(path: Path, table: str | None = None) -> Mapping[str, Model]:
    """The models of a file by name. `table`: where the file has models of several tables, those of this one. Raises BadCards."""
    found = {}
    for number, row in enumerate(_rows(path), 1):
        try:
            card = _Card.model_validate(row)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "row"
            raise BadCards(f"{path}: row {number}: {where}: {first['msg']}") from None
        if card.table is not None and table is not None and card.table != table:
            continue
        if card.name in found:
            raise BadCards(f"{path}: row {number}: the model {card.name!r} stands there already")
        priced = card.usd_per_1m_tokens_in is not None and card.usd_per_1m_tokens_out is not None
        price = Price(card.usd_per_1m_tokens_in or 0.0, card.usd_per_1m_tokens_out or 0.0) if priced else None
        found[card.name] = Model(card.name, price, card.context_window, description=card.description)
    return found


def _rows(path: Path) -> list[Any]:
    try:
        if path.suffix == ".parquet":
            import pyarrow as pa
            import pyarrow.parquet as pq

            try:
                rows: list[Any] = pq.read_table(path).to_pylist()
            except pa.ArrowInvalid as error:
                raise BadCards(f"{path}: is no whole Parquet file: {str(error).splitlines()[0]}") from None
            return rows
        if path.stat().st_size > MOST_BYTES:
            raise BadCards(f"{path}: is larger than {MOST_BYTES} bytes")
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise BadCards(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadCards(f"{path}: is not UTF-8") from None
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(json.loads(line))
        except ValueError:
            raise BadCards(f"{path}: row {number}: is no JSON object") from None
    return rows

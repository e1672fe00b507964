"""Recorded outcomes of real models, where they are: the folder `POINTSMAN_DATA`, else `../shared/data` beside the project."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(os.environ.get("POINTSMAN_DATA") or Path(__file__).resolve().parent.parent.parent / "shared" / "data")


def table(name: str) -> Path:
    """The Parquet file of a table. Skips the test if it is not here."""
    path = FOLDER / f"{name}.parquet"
    if not path.is_file():
        pytest.skip(f"there are no outcome tables at {FOLDER} (POINTSMAN_DATA names another folder)")
    return path


def reference() -> dict[str, Any]:
    """Figures of the single models and of simple routers on the test split, pool by pool."""
    table("models")
    found: dict[str, Any] = json.loads((FOLDER / "reference.json").read_text())["single_turn"]
    return found

"""Artifacts that tests make for themselves: few prompts, known outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from routers.api import Encoder
from routers.learned import Calibration, Lessons, Making, Prompts, write
from routers.scorers import knn

WHEN = datetime(2026, 11, 24, tzinfo=UTC)


def lessons(vectors: Any, scores: Any, models: Sequence[str], texts: Sequence[str] = ()) -> Lessons:
    """Lessons of one dataset, at no known cost."""
    found = np.asarray(scores, dtype=np.float32)
    names = tuple(texts) or tuple(f"prompt {row}" for row in range(len(vectors)))
    prompts = Prompts(np.asarray(vectors, dtype=np.float32), names)
    return Lessons(prompts, found, np.full_like(found, np.nan), tuple(models), ("made up",) * len(names))


def write_knn(folder: Path, encoder: Encoder, neighbours: knn.Neighbours, models: Sequence[str], k: int, shrink: float = 0.0) -> str:
    """A knn artifact of these neighbours. Returns its hash."""
    made = replace(neighbours, k=k, shrink=shrink)
    return write(folder, "knn", made, models, Calibration.none(len(models)), Making(encoder, "d" * 64, WHEN, {}))

"""Fits a router to outcomes: on the train split, its knobs on the validation split. The test split is never looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from routers.learning.evaluate import Pool
from routers.learning.figures import aiq, curve, picks
from routers.scorers import knn

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from routers.api import Embeddings, Encoder
    from routers.learning.outcomes import Outcomes

KS = (10, 50, 100, 200)
"""Few and far between: with more, what validation prefers is noise."""


@dataclass(frozen=True, slots=True)
class Trained:
    """What was fitted: the artifact's hash, the knobs that were chosen, and figures on the validation split by name."""

    hash: str
    knobs: Mapping[str, float]
    metrics: Mapping[str, float]


def train_knn(outcomes: Outcomes, vectors: Embeddings, encoder: Encoder, created: datetime, folder: Path) -> Trained:
    """Writes a knn artifact. `vectors` (n, d): of the table's n prompts. Raises ValueError if a split has too few questions,
    and what `routers.artifacts.write` raises.
    """
    train = np.array([split == "train" for split in outcomes.splits]) & ~np.isnan(outcomes.scores).all(axis=1)
    if train.sum() < min(KS):
        raise ValueError(f"the train split has {int(train.sum())} questions with outcomes; at least {min(KS)} are needed")
    pool = Pool.of(outcomes, "validation")
    neighbours = knn.fit(vectors[train], outcomes.scores[train].astype(np.float32), outcomes.models)
    asked = vectors[pool.rows]
    best = (-1.0, KS[0])
    for k in [k for k in KS if k <= len(neighbours.vectors)]:
        expected = knn_expectations(neighbours, asked, k)
        found = aiq(curve(picks(expected, pool.scale), pool.scores, pool.costs), pool.scores, pool.costs)
        best = max(best, (found, k), key=lambda one: one[0])
    metrics = {"validation_aiq": best[0], "validation_queries": float(len(pool.rows))}
    making = knn.Making(encoder, outcomes.data_hash, created, metrics)
    return Trained(knn.write(folder, neighbours, making, best[1], shrink=0.0), {"k": best[1]}, metrics)


def knn_expectations(neighbours: knn.Neighbours, vectors: Embeddings, k: int) -> NDArray[np.float64]:
    """Expected scores (n, m) of n vectors, as the scorer gives them one by one."""
    return np.stack([neighbours.expect(vector, k, shrink=0.0) for vector in vectors]).astype(np.float64)

"""A vector for each model, a few numbers for each prompt: their product says how likely the answer is right. (RouteLLM, 2406.18665)"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from routers.features import Reading, reading, stored_reading
from routers.learned import Expected, LearnedScorer, Lessons, Prompts, Stored, logit, sigmoid
from routers.learning.descent import Pace, descend, masked_error

if TYPE_CHECKING:
    from routers.artifacts import Tensor
    from routers.learned import Floats, Rows

KNOBS = (4, 32)
"""Numbers that a prompt is brought down to."""
PACE = Pace(epochs=20, rate=3e-3, decay=0.1)
DROPPED = 0.3
ENSEMBLE = 3


@dataclass(frozen=True, slots=True)
class Factors:
    """e factorizations. `prompts`: float32 (e, d, r), `models`: (e, r, m), `shift`: (e, m)."""

    reading: Reading
    prompts: Floats
    models: Floats
    shift: Floats

    def expect(self, prompts: Prompts) -> Expected:
        rows = self.reading.rows(prompts)
        chances = sigmoid((rows @ self.prompts) @ self.models + self.shift[:, None])
        return Expected(chances.mean(axis=0), chances.std(axis=0) + np.float32(0.02))

    def tensors(self) -> Mapping[str, Tensor]:
        return {"reading": self.reading.table, "prompts": self.prompts, "models": self.models, "shift": self.shift}

    def settings(self) -> Mapping[str, object]:
        return {}


def fit(lessons: Lessons, knob: float, seed: int = 0) -> Factors:
    """Factorizations of rank `knob`."""
    found = reading(lessons, seed)
    rows = found.rows(lessons.prompts)
    fitted = [_train(rows, lessons.scores, int(knob), seed + turn) for turn in range(ENSEMBLE)]
    prompts, models, shift = (np.stack(arrays) for arrays in zip(*fitted, strict=True))
    return Factors(found, prompts, models, shift)


def _train(rows: Floats, scores: Floats, rank: int, seed: int) -> Sequence[Floats]:
    rng = np.random.default_rng([seed, 2])
    prompts = rng.normal(0, 1 / np.sqrt(rows.shape[1]), (rows.shape[1], rank)).astype(np.float32)
    models = rng.normal(0, 0.1, (rank, scores.shape[1])).astype(np.float32)
    start = [prompts, models, logit(np.nanmean(scores, axis=0).astype(np.float32))]

    def gradients(now: Sequence[Floats], where: Rows) -> Sequence[Floats]:
        gates = (rng.random((len(where), rank), dtype=np.float32) >= DROPPED).astype(np.float32) / np.float32(1 - DROPPED)
        factors: Floats = (rows[where] @ now[0]) * gates
        error = masked_error(sigmoid(factors @ now[1] + now[2]), scores[where])
        back: Floats = (error @ now[1].T) * gates
        return rows[where].T @ back, factors.T @ error, error.sum(axis=0)

    descend(start, gradients, len(rows), PACE, seed)
    return start


def read(stored: Stored) -> Factors:
    """Raises BadArtifact."""
    prompts = stored.array("prompts", None, None, None)
    number, _, rank = prompts.shape
    models = len(stored.models)
    return Factors(stored_reading(stored), prompts, stored.array("models", number, rank, models), stored.array("shift", number, models))


class MatrixFactorization(LearnedScorer):
    """The product of a prompt's few numbers and each model's vector. `artifact`: made by `pointsman train matrix_factorization`."""

    kind = "matrix_factorization"
    quick = True

    @classmethod
    def read(cls, stored: Stored) -> Factors:
        return read(stored)

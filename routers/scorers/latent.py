"""Item response theory: models have abilities; prompts are hard, and ask for some abilities more than others. (IRT-Router, 2506.01048)"""

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

KNOBS = (4, 16)
"""Abilities that are told apart."""
PACE = Pace(epochs=25, rate=3e-3, decay=0.1)
ENSEMBLE = 3


@dataclass(frozen=True, slots=True)
class Abilities:
    """Fitted e times. Of a prompt's row (d): `asks` (e, d, k) and `asks_shift` (e, k) say how much each ability counts (discrimination,
    never below 0), `hard` (e, d) and `hard_shift` (e,) how difficult it is. `abilities`: (e, k, m), all float32.
    """

    reading: Reading
    asks: Floats
    asks_shift: Floats
    hard: Floats
    hard_shift: Floats
    abilities: Floats

    def expect(self, prompts: Prompts) -> Expected:
        rows = self.reading.rows(prompts)
        asks = _softplus(rows @ self.asks + self.asks_shift[:, None])
        hard = np.einsum("nd,ed->en", rows, self.hard) + self.hard_shift[:, None]
        chances = sigmoid(asks @ self.abilities - hard[:, :, None])
        return Expected(chances.mean(axis=0), chances.std(axis=0) + np.float32(0.02))

    def tensors(self) -> Mapping[str, Tensor]:
        prompts = {"asks": self.asks, "asks_shift": self.asks_shift, "hard": self.hard, "hard_shift": self.hard_shift}
        return {"reading": self.reading.table, **prompts, "abilities": self.abilities}

    def settings(self) -> Mapping[str, object]:
        return {}


def _softplus(value: Floats) -> Floats:
    found: Floats = np.logaddexp(0, value).astype(np.float32)
    return found


def fit(lessons: Lessons, knob: float, seed: int = 0) -> Abilities:
    """`knob` abilities."""
    found = reading(lessons, seed)
    rows = found.rows(lessons.prompts)
    fitted = [_train(rows, lessons.scores, int(knob), seed + turn) for turn in range(ENSEMBLE)]
    asks, asks_shift, hard, hard_shift, abilities = (np.stack(arrays) for arrays in zip(*fitted, strict=True))
    return Abilities(found, asks, asks_shift, hard, hard_shift[:, 0], abilities)


def _train(rows: Floats, scores: Floats, count: int, seed: int) -> Sequence[Floats]:
    rng = np.random.default_rng([seed, 3])
    width = rows.shape[1]
    abilities = np.tile(logit(np.nanmean(scores, axis=0).astype(np.float32)) / (count * np.log(2)), (count, 1))
    start = [
        rng.normal(0, 0.5 / np.sqrt(width), (width, count)).astype(np.float32),
        np.zeros(count, dtype=np.float32),
        np.zeros(width, dtype=np.float32),
        np.zeros(1, dtype=np.float32),
        (abilities + rng.normal(0, 0.1, abilities.shape)).astype(np.float32),
    ]

    def gradients(now: Sequence[Floats], where: Rows) -> Sequence[Floats]:
        taken = rows[where]
        before = taken @ now[0] + now[1]
        asks, hard = _softplus(before), taken @ now[2] + now[3]
        error = masked_error(sigmoid(asks @ now[4] - hard[:, None]), scores[where])
        back = (error @ now[4].T) * sigmoid(before)
        harder = -error.sum(axis=1)
        decay = np.float32(0.002) * now[2]
        return taken.T @ back, back.sum(axis=0), taken.T @ harder + decay, harder.sum(keepdims=True), asks.T @ error

    descend(start, gradients, len(rows), PACE, seed)
    return start


def read(stored: Stored) -> Abilities:
    """Raises BadArtifact."""
    asks = stored.array("asks", None, None, None)
    number, width, count = asks.shape
    return Abilities(
        stored_reading(stored),
        asks,
        stored.array("asks_shift", number, count),
        stored.array("hard", number, width),
        stored.array("hard_shift", number),
        stored.array("abilities", number, count, len(stored.models)),
    )


class Latent(LearnedScorer):
    """Abilities of models against what a prompt asks for and how hard it is. `artifact`: made by `pointsman train latent`."""

    kind = "latent"
    quick = True

    @classmethod
    def read(cls, stored: Stored) -> Abilities:
        return read(stored)

"""Small nets of one hidden layer, several of them side by side, trained by descent with dropout (Srivastava et al. 2014)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from routers.learned import Expected, Stored, logit, sigmoid
from routers.learning.descent import Pace, descend, masked_error

if TYPE_CHECKING:
    from routers.artifacts import Tensor
    from routers.learned import Floats, Rows

DOUBT = np.float32(0.01)
"""Nets that agree may still be wrong together."""


@dataclass(frozen=True, slots=True)
class Nets:
    """s nets. `first`: (s, d, h), `first_shift`: (s, h), `heads`: (s, h, m), `head_shift`: (s, m), all float32."""

    first: Floats
    first_shift: Floats
    heads: Floats
    head_shift: Floats

    def expect(self, rows: Floats) -> Expected:
        """Of rows (n, d), the nets' mean; they started differently, so where they differ nobody knows."""
        hidden = np.maximum(rows @ self.first + self.first_shift[:, None], 0)
        chances = sigmoid(hidden @ self.heads + self.head_shift[:, None])
        count = np.float32(len(chances))
        mean = np.add.reduce(chances, axis=0) / count
        chances -= mean
        chances *= chances
        return Expected(mean, np.sqrt(np.add.reduce(chances, axis=0) / count) + DOUBT)

    def tensors(self) -> Mapping[str, Tensor]:
        return {"first": self.first, "first_shift": self.first_shift, "heads": self.heads, "head_shift": self.head_shift}


@dataclass(frozen=True, slots=True)
class Recipe:
    """`width` of the hidden layer; `dropped`: share of it that is silent at each step; `nets`: how many."""

    width: int
    dropped: float
    nets: int
    pace: Pace


def train(rows: Floats, targets: Floats, outputs: int, recipe: Recipe, seed: int) -> Nets:
    """Nets from rows (n, d) to targets (n, t) in [0, 1], NaN unknown. Only the first `outputs` are kept; the others help to learn."""
    fitted = [_train(rows, targets, recipe, seed + turn) for turn in range(recipe.nets)]
    first, first_shift, heads, head_shift = (np.stack(arrays) for arrays in zip(*fitted, strict=True))
    return Nets(first, first_shift, np.ascontiguousarray(heads[:, :, :outputs]), np.ascontiguousarray(head_shift[:, :outputs]))


def read(stored: Stored, inputs: int | None = None) -> Nets:
    """Raises BadArtifact."""
    first = stored.array("first", None, inputs, None)
    nets, _, width = first.shape
    models = len(stored.models)
    shift, heads = stored.array("first_shift", nets, width), stored.array("heads", nets, width, models)
    return Nets(first, shift, heads, stored.array("head_shift", nets, models))


def _train(rows: Floats, targets: Floats, recipe: Recipe, seed: int) -> Sequence[Floats]:
    rng = np.random.default_rng([seed, 1])
    first = rng.normal(0, 1 / np.sqrt(rows.shape[1]), (rows.shape[1], recipe.width)).astype(np.float32)
    shift = logit(np.nanmean(targets, axis=0).astype(np.float32))
    start = [first, np.zeros(recipe.width, np.float32), np.zeros((recipe.width, targets.shape[1]), np.float32), shift]
    kept = np.float32(1 - recipe.dropped)

    def gradients(net: Sequence[Floats], where: Rows) -> Sequence[Floats]:
        taken = rows[where]
        before = taken @ net[0] + net[1]
        gates = ((before > 0) & (rng.random(before.shape, dtype=np.float32) < kept)).astype(np.float32) / kept
        hidden: Floats = before * gates
        error = masked_error(sigmoid(hidden @ net[2] + net[3]), targets[where])
        back: Floats = (error @ net[2].T) * gates
        return taken.T @ back, back.sum(axis=0), hidden.T @ error, error.sum(axis=0)

    descend(start, gradients, len(rows), recipe.pace, seed)
    return start

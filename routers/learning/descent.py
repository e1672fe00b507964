"""Minimises a loss by Adam on random portions, with a learning rate that rises shortly and falls along a cosine. (Kingma and Ba 2015)"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float32]
    Rows: TypeAlias = NDArray[np.int64]

WARM_UP = 20
"""Steps until the learning rate is whole."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How to descend. `decay`: each step takes this share, times the learning rate, of every matrix (not of vectors)."""

    epochs: int = 20
    rate: float = 3e-3
    decay: float = 0.03
    portion: int = 128


def descend(
    start: Sequence[Floats], gradients: Callable[[Sequence[Floats], Rows], Sequence[Floats]], rows: int, pace: Pace, seed: int
) -> None:
    """Changes the arrays of `start` in place. `gradients`: of the mean loss over some rows, one array for each of `start`.

    Deterministic from the seed.
    """
    rng = np.random.default_rng(seed)
    first = [np.zeros_like(array) for array in start]
    second = [np.zeros_like(array) for array in start]
    steps = pace.epochs * -(-rows // pace.portion)
    step = 0
    for _ in range(pace.epochs):
        order = rng.permutation(rows)
        for begin in range(0, rows, pace.portion):
            found = gradients(start, order[begin : begin + pace.portion])
            step += 1
            rate = pace.rate * 0.5 * (1 + np.cos(np.pi * step / steps)) * min(1.0, step / WARM_UP)
            for array, gradient, mean, square in zip(start, found, first, second, strict=True):
                mean += 0.1 * (gradient - mean)
                square += 0.001 * (gradient * gradient - square)
                move = mean / (1 - 0.9**step) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
                if array.ndim > 1:
                    move = move + pace.decay * array
                array -= (rate * move).astype(np.float32)


def masked_error(chances: Floats, scores: Floats) -> Floats:
    """Gradient of the mean cross-entropy by the logits, (n, m): what was foreseen less what came, 0 where nothing is known."""
    found: Floats = (np.where(np.isnan(scores), 0.0, chances - scores) / len(scores)).astype(np.float32)
    return found

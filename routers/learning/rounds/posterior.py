"""Fits the net that says how likely an answer is right, given who was asked and who said what."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from routers.learned import sigmoid
from routers.learning.descent import Pace, descend
from routers.rounds.net import Net
from routers.rounds.standing import Sides, claims

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from routers.learning.rounds.ground import Ground
    from routers.rounds.standing import Flags, Floats, Standing, Traits

WIDTHS = (64, 48)
DRAWS = 10
"""Sets of models by whom each question is taken to have been answered."""
PORTION = 4096
PACE = Pace(epochs=4, rate=3e-3, decay=0.2, portion=256)


def drawn_sets(rng: np.random.Generator, count: int, models: int, least: int = 1, most: int | None = None) -> Flags:
    """Sets of models (count, m), of `least` to `most` members; each size is as likely."""
    sizes = rng.integers(least, (models if most is None else most) + 1, count)
    ranks = rng.random((count, models)).argsort(axis=1).argsort(axis=1)
    found: Flags = ranks < sizes[:, None]
    return found


def unbounded(count: int) -> Floats:
    return np.full(count, np.inf, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Visited:
    """States to which a policy came: `rows` (s,), the questions; `asked` (s, m)."""

    rows: NDArray[np.int64]
    asked: Flags


def fit(ground: Ground, traits: Traits, seed: int, draws: int = DRAWS, visited: Visited | None = None, pace: Pace = PACE) -> Net:
    """Each question is answered by `draws` random sets of models, and by those of states that a policy visited: where a policy chooses to
    stop, it had better not be wrong about how sure it can be. Deterministic from the seed.
    """
    rng = np.random.default_rng([seed, 5])
    rows = np.repeat(np.arange(len(ground)), draws)
    asked = drawn_sets(rng, len(rows), ground.models)
    if visited is not None:
        rows, asked = np.concatenate([rows, visited.rows]), np.concatenate([asked, visited.asked])
    free = np.zeros(len(rows), dtype=np.float32)
    standing = ground.standing(rows, asked, free, unbounded(len(rows)))
    inputs, targets = gather(standing, traits, ground.scores[rows])
    fitted = Net.fresh(inputs, WIDTHS, 1, seed)
    chance = float(np.clip(targets.mean(), 0.01, 0.99))
    shift = np.array([np.log(chance / (1 - chance))], dtype=np.float32)
    fitted = replace(fitted, layers=(*fitted.layers[:-1], shift))

    def gradients(layers: Sequence[Floats], where: NDArray[np.int64]) -> Sequence[Floats]:
        made = fitted.hidden(inputs[where])
        error = (sigmoid(made[-1]) - targets[where, None]) / np.float32(len(where))
        return fitted.gradients(made, error)

    descend(fitted.layers, gradients, len(inputs), pace, seed)
    return fitted


def gather(standing: Standing, traits: Traits, scores: Floats) -> tuple[Floats, Floats]:
    """The net's inputs for each different answer, and how good it was: the mean of those who gave it."""
    inputs, targets = [], []
    for start in range(0, len(standing), PORTION):
        part = standing.take(slice(start, start + PORTION))
        sides = Sides.of(part)
        inputs.append(claims(part, sides, traits)[sides.first])
        mean = np.einsum("bij,bj->bi", sides.same, scores[start : start + PORTION]) / np.maximum(sides.same.sum(axis=2), 1)
        targets.append(mean[sides.first])
    return np.concatenate(inputs), np.concatenate(targets).astype(np.float32)

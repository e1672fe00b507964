"""Recorded answers made ready to be played on: for each question what would be expected, answered, charged, and how good it would be."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from routers.answers import options
from routers.rounds.standing import AGREE_WRONGLY, NO_VOTE, USUAL_OPTIONS, Standing, Traits

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from routers.learned import Expected
    from routers.learning.answers import Recorded
    from routers.rounds.standing import Flags, Floats, Votes

    Rows = NDArray[np.int64]

KNOWN_WRONG = 10.0
"""So many wrong answers of the usual kind are added to those by which two models are compared."""
KNOWN = 5.0
"""The same for what is counted of one model alone."""


@dataclass(frozen=True, slots=True)
class Ground:
    """n questions, m models. `expected`, `spread`, `costs` (expected, in units), `paid` (in units), `scores`, `votes`, `lengths`: (n, m);
    `options` (n,).
    """

    expected: Floats
    spread: Floats
    costs: Floats
    paid: Floats
    scores: Floats
    votes: Votes
    lengths: Floats
    options: Floats

    def __len__(self) -> int:
        return len(self.expected)

    @property
    def models(self) -> int:
        return len(self.expected[0])

    def take(self, rows: Rows) -> Ground:
        return Ground(*(getattr(self, name)[rows] for name in Ground.__slots__))

    def joined(self, other: Ground) -> Ground:
        """These questions and those of another one, of the same models."""
        return Ground(*(np.concatenate([getattr(self, name), getattr(other, name)]) for name in Ground.__slots__))

    def of(self, columns: list[int]) -> Ground:
        """With these models alone."""
        matrices = {name: getattr(self, name)[:, columns] for name in Ground.__slots__ if name != "options"}
        return replace(self, **matrices)

    def standing(self, rows: Rows, asked: Flags, weight: Floats, left: Floats) -> Standing:
        """How questions stand when these models (b, m) have been asked. Answers of the others are hidden."""
        return Standing(
            self.expected[rows],
            self.spread[rows],
            self.costs[rows],
            self.options[rows],
            asked,
            np.where(asked, self.votes[rows], NO_VOTE).astype(np.int32),
            np.where(asked, self.lengths[rows], np.nan).astype(np.float32),
            weight.astype(np.float32),
            left.astype(np.float32),
        )


def ground(recorded: Recorded, expected: Expected, unit: float, costs: Floats) -> Ground:
    """`unit`: USD, the best single model's mean cost. `costs`: expected, in units: (n, m), or (m,): the same on every question."""
    counts = [len(options(prompt)) or USUAL_OPTIONS for prompt in recorded.prompts]
    return Ground(
        expected.mean.astype(np.float32),
        expected.spread.astype(np.float32),
        np.broadcast_to(costs, recorded.costs.shape).astype(np.float32),
        (recorded.costs / unit).astype(np.float32),
        recorded.scores.astype(np.float32),
        recorded.votes,
        recorded.lengths.astype(np.float32),
        np.array(counts, dtype=np.float32),
    )


def traits(recorded: Recorded, unit: float) -> Traits:
    """What answers say of their models. What little is known of is taken to be as usual."""
    seen = np.ones(recorded.scores.shape, dtype=bool)
    logs = np.where(np.isfinite(recorded.lengths), np.log1p(np.nan_to_num(recorded.lengths)), np.nan)
    length = _shrunk(logs, seen)
    away = _shrunk((logs - length) ** 2, seen)
    return Traits(
        _shrunk(recorded.scores, seen).astype(np.float32),
        _shrunk(recorded.costs / unit, seen, 0.0).astype(np.float32),
        _shrunk((recorded.votes == NO_VOTE).astype(float), seen).astype(np.float32),
        length.astype(np.float32),
        np.sqrt(np.maximum(away, 1e-2)).astype(np.float32),
        _together(recorded, seen),
    )


def _shrunk(values: NDArray[np.float64], seen: Flags, prior: float = KNOWN) -> NDArray[np.float64]:
    """The mean of each column over what is seen and known of it, drawn to the mean of all; 1 where nothing is known at all."""
    counted = seen & ~np.isnan(values)
    total, count = np.where(counted, values, 0).sum(axis=0), counted.sum(axis=0)
    middle = total.sum() / count.sum() if count.sum() else 1.0
    found: NDArray[np.float64] = (total + prior * middle) / np.maximum(count + prior, 1)
    return found


def _together(recorded: Recorded, seen: Flags) -> Floats:
    """(m, m): how often two that are both wrong say the same."""
    wrong = seen & (recorded.scores < 0.5) & (recorded.votes != NO_VOTE)
    both = wrong[:, :, None] & wrong[:, None, :]
    same = both & (recorded.votes[:, :, None] == recorded.votes[:, None, :])
    found: Floats = ((same.sum(axis=0) + KNOWN_WRONG * AGREE_WRONGLY) / (both.sum(axis=0) + KNOWN_WRONG)).astype(np.float32)
    return found

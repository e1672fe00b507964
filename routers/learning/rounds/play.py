"""Plays a policy on recorded answers, always taking what it thinks best: a point of cost and accuracy for each weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from routers.learning.rounds.posterior import unbounded
from routers.rounds.policy import STOP, spoken

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from routers.learning.rounds.ground import Ground
    from routers.rounds.policy import Policy

    Doubles: TypeAlias = NDArray[np.float64]

WEIGHTS: Doubles = np.concatenate([np.logspace(-3, 1, 33), [np.inf]])
"""The prices of a unit of cost that a frontier is swept over; infinity is "the cheapest, once"."""


@dataclass(frozen=True, slots=True)
class Played:
    """n questions at w weights. `scores`, `costs` (in units), `calls`: (w, n). `firsts` (w, n): who was asked first."""

    weights: Doubles
    scores: Doubles
    costs: Doubles
    calls: NDArray[np.int64]
    firsts: NDArray[np.int64]


def play(ground: Ground, policy: Policy, weights: Doubles = WEIGHTS) -> Played:
    """Every question at every weight. The answer given is the likeliest; of those who gave it, the one of whom most is expected."""
    scores, costs, calls, firsts = zip(*(_play(ground, policy, weight) for weight in weights.tolist()), strict=True)
    return Played(weights, np.stack(scores), np.stack(costs), np.stack(calls), np.stack(firsts))


def _play(ground: Ground, policy: Policy, weight: float) -> tuple[Doubles, Doubles, NDArray[np.int64], NDArray[np.int64]]:
    rows = np.arange(len(ground))
    asked = np.zeros((len(ground), ground.models), dtype=bool)
    weights, left = np.full(len(rows), weight, dtype=np.float32), unbounded(len(rows))
    firsts = np.zeros(len(rows), dtype=np.int64)
    going = rows
    while len(going):
        standing = ground.standing(going, asked[going], weights[going], left[going])
        chosen = policy.choose(standing, policy.look(standing))
        going, chosen = going[chosen != STOP], chosen[chosen != STOP]
        fresh = ~asked[going].any(axis=1)
        firsts[going[fresh]] = chosen[fresh]
        asked[going, chosen] = True
    standing = ground.standing(rows, asked, weights, left)
    given = spoken(policy.chances(standing), standing)
    paid = np.where(asked, ground.paid, 0).sum(axis=1, dtype=np.float64)
    return ground.scores[rows, given].astype(np.float64), paid, asked.sum(axis=1), firsts

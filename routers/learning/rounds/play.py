"""Plays a policy on recorded answers, always taking what it thinks best: a point of cost and accuracy for each weight."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from routers.learning import figures
from routers.learning.rounds.posterior import unbounded
from routers.rounds.policy import STOP, spoken
from routers.rounds.swift import Question, Swift, sides
from routers.rounds.swift import spoken as spoken_alone

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from routers.learning.rounds.ground import Ground
    from routers.rounds.policy import Policy

    Doubles: TypeAlias = NDArray[np.float64]

WEIGHTS: Doubles = figures.WEIGHTS
"""The prices of a unit of cost that a frontier is swept over: as many as of routers that ask once, for with more points it is higher."""
FEW: Doubles = np.concatenate([np.logspace(-3, 1, 33), [np.inf]])
"""The same where each question is played on its own, which takes long."""


@dataclass(frozen=True, slots=True)
class Played:
    """n questions at w weights. `scores`, `costs` (in units), `calls`: (w, n). `firsts` (w, n): who was asked first."""

    weights: Doubles
    scores: Doubles
    costs: Doubles
    calls: NDArray[np.int64]
    firsts: NDArray[np.int64]


def play(ground: Ground, policy: Policy, weights: Doubles) -> Played:
    """Every question at every weight. The answer given is the likeliest; of those who gave it, the one of whom most is expected."""
    one = _play_alone if any(policy.late) else _play
    scores, costs, calls, firsts = zip(*(one(ground, policy, weight) for weight in weights.tolist()), strict=True)
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


def _play_alone(ground: Ground, policy: Policy, weight: float) -> tuple[Doubles, Doubles, NDArray[np.int64], NDArray[np.int64]]:
    """The same, a question at a time: so models are heard that joined later."""
    swift, count = Swift.of(policy), len(ground)
    scores, costs, calls, firsts = np.zeros(count), np.zeros(count), np.zeros(count, np.int64), np.zeros(count, np.int64)
    for row in range(count):
        order, given = one_by_one(swift, ground, row, weight)
        scores[row], calls[row], firsts[row] = ground.scores[row, given], len(order), order[0]
        costs[row] = ground.paid[row, order].sum(dtype=np.float64)
    return scores, costs, calls, firsts


def one_by_one(swift: Swift, ground: Ground, row: int, weight: float) -> tuple[list[int], int]:
    """Who is asked a question, in order, and whose words are the answer."""
    votes, lengths, order = ground.votes[row].tolist(), np.nan_to_num(ground.lengths[row]).tolist(), list[int]()
    known = (ground.expected[row].tolist(), ground.spread[row].tolist(), ground.costs[row].tolist(), float(ground.options[row]))
    while True:
        question = Question(*known, [j in order for j in range(len(votes))], votes, lengths, weight, math.inf)
        heard = sides(question)
        chosen, chances = swift.decide(question, heard)
        if chosen == STOP:
            return order, spoken_alone(question, heard, chances)
        order.append(chosen)

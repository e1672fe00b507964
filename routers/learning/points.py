"""What a way of asking came to on recorded answers, and the ways that need nothing learned but the models' records on train."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from routers.credence import NO_VOTE
from routers.planners.ensemble import vote_weight

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from routers.learning.answers import Recorded
    from routers.learning.figures import Floats


@dataclass(frozen=True, slots=True)
class Points:
    """A planner at w settings on n questions: scores, costs (USD), calls: float64 (w, n). `settings` (w,): what sets each, for JSON."""

    settings: tuple[Mapping[str, Any], ...]
    scores: Floats
    costs: Floats
    calls: Floats

    @classmethod
    def one(cls, scores: Floats, costs: Floats, calls: Floats) -> Points:
        """Of something that cannot be set: (n,) each."""
        return cls(({},), scores[None], costs[None], calls[None])

    @classmethod
    def all_asked(cls, pool: Recorded, scores: Floats) -> Points:
        """Every model is asked; `scores` (n,) of the answer that was made of theirs."""
        return cls.one(scores, pool.costs.sum(axis=1), np.full(len(pool), float(len(pool.models))))


def rules(recorded: Recorded, split: str) -> dict[str, Points]:
    """On the questions of a split: `majority` of all models, `weighted_vote` of all by the log-odds of their mean scores on train, and
    `agreement_cascade`: from the cheapest up until two agree. Raises ValueError if the split or train has no questions.
    """
    lesson, pool = recorded.split("train"), recorded.split(split)
    usual, costs = lesson.scores.mean(axis=0), lesson.costs.mean(axis=0)
    weights = np.array([vote_weight(float(one)) for one in usual])
    return {
        "majority": Points.all_asked(pool, voted(pool, np.ones(len(usual)), usual)),
        "weighted_vote": Points.all_asked(pool, voted(pool, weights, usual)),
        "agreement_cascade": agreement(pool, np.argsort(costs, kind="stable").tolist()),
    }


def voted(pool: Recorded, weights: Floats, usual: Floats) -> Floats:
    """(n,): scores of the answer with the most weight (m,) behind it; equals are decided by the backers' mean score on train."""
    agree = (pool.votes[:, :, None] == pool.votes[:, None, :]) & (pool.votes != NO_VOTE)[:, :, None]
    behind = np.einsum("bij,j->bi", agree, weights) + 1e-6 * np.einsum("bij,j->bi", agree, usual)
    chosen: NDArray[np.int64] = np.where(pool.votes == NO_VOTE, -1, behind).argmax(axis=1)
    found: Floats = pool.scores[np.arange(len(pool)), chosen]
    return found


def agreement(pool: Recorded, order: Sequence[int]) -> Points:
    """Asks in this order until two agree; if none do, the last one that settles on something counts."""
    score, cost, calls = np.zeros((3, len(pool)))
    for row in range(len(pool)):
        seen: set[int] = set()
        for column in order:
            cost[row] += pool.costs[row, column]
            calls[row] += 1
            vote = int(pool.votes[row, column])
            if vote == NO_VOTE:
                continue
            score[row] = pool.scores[row, column]
            if vote in seen:
                break
            seen.add(vote)
    return Points.one(score, cost, calls)

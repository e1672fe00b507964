"""What votes and cascades are worth on recorded answers that nobody fitted anything to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from routers.credence import NO_VOTE, Said
from routers.hearing import Heard
from routers.learned import Prompts
from routers.learning.figures import hull
from routers.learning.stopping import Way, walk
from routers.planners.ensemble import vote_weight

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from routers.api import Embeddings
    from routers.credence import Credence
    from routers.learned import Floats
    from routers.learning.answers import Recorded
    from routers.learning.cascade import Fitted

    Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Point:
    """Accuracy, mean cost in USD, and mean number of calls of one way of asking."""

    accuracy: float
    cost_usd: float
    calls: float


@dataclass(frozen=True, slots=True)
class Report:
    """`best_single`: chosen on train. `majority`, `weighted`, `learned`: votes of all models. `agreement`: from the cheapest up until two
    agree. `chosen`: the fitted order and threshold. `aiq`, `at_best_cost`, `cost_match` (share of the best single's cost; None: never): of
    the fitted frontier, by the definitions of `routers.learning.figures`.
    """

    best_single: Point
    majority: Point
    weighted: Point
    learned: Point
    agreement: Point
    chosen: Point
    aiq: float
    at_best_cost: float
    cost_match: float | None


@dataclass(frozen=True, slots=True)
class Early:
    """What ending a vote early saves. Answers are taken to arrive in the order of their lengths, for want of times.

    `cancelled`: the share of asks that were still running; `cost`: the share of the cost of all asks that was not spent, if a cancelled ask
    has cost as much of its answer as the longest one that was waited for; `changed`: the share of questions with another answer.
    """

    cancelled: float
    cost: float
    changed: float


def report(fitted: Fitted, recorded: Recorded, vectors: Embeddings, split: str = "test") -> Report:
    """On one split. `vectors` (n, d): of the prompts of `recorded`. Raises ValueError if the split has no questions."""
    splits = np.array(recorded.splits)
    train, rows = np.flatnonzero(splits == "train"), np.flatnonzero(splits == split)
    if not len(rows):
        raise ValueError(f"the split {split!r} has no question that all models answered at a known cost")
    known, pool = recorded.take(train), recorded.take(rows)
    expected = fitted.credence.near.expect(Prompts(vectors[rows], pool.prompts)).mean
    usual, mean_costs = known.scores.mean(axis=0), known.costs.mean(axis=0)
    best = int(np.lexsort((mean_costs, -usual))[0])
    everyone = list(range(len(pool.models)))
    votes = {
        name: Point(float(voted(pool, np.array(weights), usual).mean()), float(pool.costs.sum(axis=1).mean()), float(len(everyone)))
        for name, weights in (("majority", [1.0] * len(everyone)), ("weighted", [vote_weight(float(one)) for one in usual]))
    }
    looks = _Looks(fitted.credence, pool, expected)
    points = [looks.walked(way) for way in fitted.ways]
    costs, least = pool.costs.mean(axis=0), float(pool.costs.mean(axis=0).min())
    upper = hull(np.array([p.cost_usd for p in points]), np.array([p.accuracy for p in points]), least)
    match = upper.cost_of(float(pool.scores[:, best].mean()))
    return Report(
        best_single=Point(float(pool.scores[:, best].mean()), float(costs[best]), 1.0),
        majority=votes["majority"],
        weighted=votes["weighted"],
        learned=Point(float(looks.of(everyone)[1].mean()), float(pool.costs.sum(axis=1).mean()), float(len(everyone))),
        agreement=agreement(pool, np.argsort(mean_costs, kind="stable").tolist()),
        chosen=looks.walked(fitted.way),
        aiq=upper.area(least, float(costs.max())),
        at_best_cost=upper.at(float(costs[best])),
        cost_match=None if match is None else match / float(costs[best]),
    )


def look(credence: Credence, pool: Recorded, expected: Floats, columns: Sequence[int]) -> tuple[Floats, Floats]:
    """(n,), (n,): the chance and the score of the likeliest answer when these models were asked, as it is served: in the words of the
    backer of which most is expected.
    """
    asked = np.zeros(expected.shape, dtype=bool)
    asked[:, list(columns)] = True
    seen = credence.claims(Said(pool.votes, asked, pool.lengths.astype(np.float32), expected))
    chances = credence.chances(seen)
    order = np.lexsort((-chances, seen.owner))
    owner, first = np.unique(seen.owner[order], return_index=True)
    best = order[first]
    speaker = np.where(seen.backers[best], expected[owner], -1).argmax(axis=1)
    chance, score = np.zeros((2, len(pool)), dtype=np.float32)
    chance[owner], score[owner] = chances[best], pool.scores[owner, speaker]
    return chance, score


def voted(pool: Recorded, weights: Doubles, usual: Doubles) -> Doubles:
    """(n,): scores of the answer with the most weight (m,) behind it; equals are decided by the backers' mean score on train."""
    agree = (pool.votes[:, :, None] == pool.votes[:, None, :]) & (pool.votes != NO_VOTE)[:, :, None]
    behind = np.einsum("bij,j->bi", agree, weights) + 1e-6 * np.einsum("bij,j->bi", agree, usual)
    chosen = np.where(pool.votes == NO_VOTE, -1, behind).argmax(axis=1)
    found: Doubles = pool.scores[np.arange(len(pool)), chosen]
    return found


def agreement(pool: Recorded, order: Sequence[int]) -> Point:
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
    return Point(float(score.mean()), float(cost.mean()), float(calls.mean()))


def early(credence: Credence, pool: Recorded, expected: Floats) -> tuple[Early, Early]:
    """Of plain majorities, and of learned votes, when all models are asked. `expected` (n, m): by the credence's neighbours."""
    plain, learned = [], []
    for row in range(len(pool)):
        order = np.argsort(pool.lengths[row], kind="stable").tolist()
        plain.append(_ended(pool, row, order, partial(_majority, pool.votes[row], order)))
        said = Said(pool.votes[[row]], np.ones((1, len(order)), dtype=bool), pool.lengths[[row]].astype(np.float32), expected[[row]])
        learned.append(_ended(pool, row, order, partial(_learned, credence, said, order)))
    first, second = (Early(*np.mean(found, axis=0).tolist()) for found in (plain, learned))
    return first, second


def _ended(pool: Recorded, row: int, order: Sequence[int], after: Callable[[int], tuple[int, bool]]) -> tuple[float, float, float]:
    """Shares cancelled, saved and changed, on one question. `after`: so many answers -> the vote that leads, and whether it is decided."""
    end = after(len(order))[0]
    seen, vote = next((seen, vote) for seen in range(1, len(order) + 1) for vote, decided in [after(seen)] if decided)
    costs, lengths = pool.costs[row], np.maximum(pool.lengths[row], 1)
    spent = np.minimum(1.0, lengths[order[seen - 1]] / lengths)
    return 1 - seen / len(order), float(1 - (costs * spent).sum() / costs.sum()), float(vote != end)


def _majority(votes: NDArray[np.int32], order: Sequence[int], seen: int) -> tuple[int, bool]:
    counts = np.bincount([votes[column] for column in order[:seen] if votes[column] != NO_VOTE], minlength=2)
    first, second = np.sort(counts)[::-1][:2].tolist()
    tied = [vote for vote in votes[sorted(order[:seen])].tolist() if vote != NO_VOTE and counts[vote] == first]
    return tied[0] if tied else NO_VOTE, seen == len(order) or first - second > len(order) - seen


def _learned(credence: Credence, said: Said, order: Sequence[int], seen: int) -> tuple[int, bool]:
    heard = list(order[:seen])
    asked = np.zeros(said.asked.shape, dtype=bool)
    asked[0, heard] = True
    distinct = dict.fromkeys(vote for vote in said.votes[0, heard].tolist() if vote != NO_VOTE)
    numbers = {vote: place for place, vote in enumerate(distinct)}
    votes = np.array([[numbers.get(vote, NO_VOTE) if asked[0, place] else NO_VOTE for place, vote in enumerate(said.votes[0].tolist())]])
    now = Said(votes.astype(np.int32), asked, np.where(asked, said.lengths, np.nan).astype(np.float32), said.expected)
    claims = credence.claims(now)
    out = [credence.models[column] for column in order[seen:]]
    if not len(claims.owner):
        return NO_VOTE, not out
    best = int(credence.chances(claims).argmax())
    vote = int(said.votes[0, claims.backers[best].argmax()])
    return vote, Heard(credence, (), (), now, len(numbers)).decided(out)


class _Looks:
    """What a credence says of each set of models, computed once."""

    def __init__(self, credence: Credence, pool: Recorded, expected: Floats) -> None:
        self._credence = credence
        self._pool = pool
        self._expected = expected
        self._known: dict[frozenset[int], tuple[Floats, Floats]] = {}

    def of(self, columns: Sequence[int]) -> tuple[Floats, Floats]:
        asked = frozenset(columns)
        if asked not in self._known:
            self._known[asked] = look(self._credence, self._pool, self._expected, sorted(asked))
        return self._known[asked]

    def walked(self, way: Way) -> Point:
        looks = [self.of(way.order[:place]) for place in range(1, len(way.order) + 1)]
        score, cost, calls = walk(way.order, way.threshold, self._pool.costs, looks)
        return Point(float(score.mean()), float(cost.mean()), float(calls.mean()))

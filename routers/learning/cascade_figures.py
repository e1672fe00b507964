"""What learned votes and cascades are worth on recorded answers that nobody fitted anything to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from routers.credence import NO_VOTE, Said
from routers.hearing import Heard
from routers.learned import Prompts
from routers.learning.cascade import looks
from routers.learning.points import Points
from routers.learning.stopping import walk
from routers.looks import Options

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from routers.api import Embeddings
    from routers.credence import Credence
    from routers.learned import Floats
    from routers.learning.answers import Recorded
    from routers.stages import Step


@dataclass(frozen=True, slots=True)
class Early:
    """What ending a vote early saves. Answers are taken to arrive in the order of their lengths, for want of times.

    `cancelled`: the share of asks that were still running; `cost`: the share of the cost of all asks that was not spent, if a cancelled ask
    has cost as much of its answer as the longest one that was waited for; `changed`: the share of questions with another answer.
    """

    cancelled: float
    cost: float
    changed: float


@dataclass(frozen=True, slots=True)
class Shown:
    """Questions as a credence sees them: what is expected on each, (n, m), and how the options look that were named, are found once."""

    credence: Credence
    pool: Recorded
    expected: Floats
    looks: Floats

    @classmethod
    def of(cls, credence: Credence, pool: Recorded, vectors: Embeddings) -> Shown:
        """`vectors` (n, d): of the pool's prompts, by the credence's encoder. Raises ValueError if the pool's models are not the
        credence's.
        """
        if set(pool.models) != set(credence.models):
            raise ValueError(f"weighs {', '.join(credence.models)} together; name these models, not {', '.join(pool.models)}")
        ordered = pool.of(credence.models)
        return cls(credence, ordered, credence.question.expect(Prompts(vectors, pool.prompts)).mean, looks(ordered))

    def expected_of(self, models: Sequence[str]) -> NDArray[np.float64]:
        """What is expected of these models, in this order, before anyone is asked: (n, m)."""
        return self.expected[:, [self.credence.models.index(name) for name in models]].astype(np.float64)

    def said(self, asked: NDArray[np.bool_]) -> Said:
        """`asked` (n, m)"""
        pool = self.pool
        return Said(pool.votes, asked, pool.lengths.astype(np.float32), self.expected, self.looks)


def cascade_points(shown: Shown, frontier: Sequence[Step]) -> Points:
    """The orders and thresholds of a frontier, each played on all questions."""
    models, costs = shown.pool.models, shown.pool.costs
    known: dict[frozenset[str], tuple[Floats, Floats]] = {}
    found = []
    for step in frontier:
        steps = [frozenset(step.order[:place]) for place in range(1, len(step.order) + 1)]
        known.update({asked: look(shown, [models.index(name) for name in asked]) for asked in steps if asked not in known})
        columns = tuple(models.index(name) for name in step.order)
        found.append(walk(columns, step.threshold, costs, [known[asked] for asked in steps]))
    settings = tuple({"order": list(step.order), "threshold": step.threshold} for step in frontier)
    scores, paid, calls = (np.stack(part).astype(np.float64) for part in zip(*found, strict=True))
    return Points(settings, scores, paid, calls)


def learned_vote(shown: Shown) -> Points:
    """All models are asked, and the likeliest answer is given: the planner `ensemble` with `combine: weighted` and the artifact."""
    return Points.all_asked(shown.pool, look(shown, range(len(shown.pool.models)))[1].astype(np.float64))


def look(shown: Shown, columns: Sequence[int]) -> tuple[Floats, Floats]:
    """(n,), (n,): the chance and the score of the likeliest answer when these models were asked, as it is served: in the words of the
    backer of which most is expected.
    """
    credence, pool, expected = shown.credence, shown.pool, shown.expected
    asked = np.zeros(expected.shape, dtype=bool)
    asked[:, list(columns)] = True
    seen = credence.claims(shown.said(asked))
    chances = credence.chances(seen)
    order = np.lexsort((-chances, seen.owner))
    owner, first = np.unique(seen.owner[order], return_index=True)
    best = order[first]
    speaker = np.where(seen.backers[best], expected[owner], -1).argmax(axis=1)
    chance, score = np.zeros((2, len(pool)), dtype=np.float32)
    chance[owner], score[owner] = chances[best], pool.scores[owner, speaker]
    return chance, score


def early(shown: Shown) -> tuple[Early, Early]:
    """Of plain majorities, and of learned votes, when all models are asked."""
    pool, plain, learned = shown.pool, [], []
    for row in range(len(pool)):
        order = np.argsort(pool.lengths[row], kind="stable").tolist()
        plain.append(_ended(pool, row, order, partial(_majority, pool.votes[row], order)))
        learned.append(_ended(pool, row, order, partial(_learned, shown, row, order)))
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


def _learned(shown: Shown, row: int, order: Sequence[int], seen: int) -> tuple[int, bool]:
    credence, pool, heard = shown.credence, shown.pool, list(order[:seen])
    given, asked = pool.votes[row].tolist(), np.zeros((1, len(order)), dtype=bool)
    asked[0, heard] = True
    distinct = dict.fromkeys(given[column] for column in heard if given[column] != NO_VOTE)
    numbers = {vote: place for place, vote in enumerate(distinct)}
    votes = np.array([[numbers.get(vote, NO_VOTE) if asked[0, place] else NO_VOTE for place, vote in enumerate(given)]], dtype=np.int32)
    lengths = np.where(asked, pool.lengths[[row]], np.nan).astype(np.float32)
    looks = Options.of(pool.prompts[row]).said([pool.said[row][vote] for vote in distinct], len(order))
    now = Said(votes, asked, lengths, shown.expected[[row]], looks[None])
    claims = credence.claims(now)
    out = [credence.models[column] for column in order[seen:]]
    if not len(claims.owner):
        return NO_VOTE, not out
    best = int(credence.chances(claims).argmax())
    return given[int(claims.backers[best].argmax())], Heard(credence, (), (), now, len(numbers)).decided(out)

"""Which of a pool's backends takes a call: the scorers' opinions, weighed."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from random import Random
from typing import TypeVar, cast

from backends.scorers.api import Eligible, Learner, Scorer
from backends.scorers.in_flight import InFlight
from backends.work import Work

B = TypeVar("B", bound=Eligible)

NEAR = 0.02
"""Scores that differ by less than this share of all weights are equal."""


class Chooser:
    """Takes the backend with the highest score = Σ weight · opinion. Of equal ones, two are drawn and the one with fewer calls wins.

    Where a scorer has no opinion on a backend, its mean over the others stands in: unknown is neither good nor bad. Nobody is asked about a
    single backend. With no scorer but calls in flight it is the power of two choices over all backends.
    """

    __slots__ = ("_by_calls", "_had_several", "_learners", "_near", "_rng", "_scorers")

    def __init__(self, weighted: Sequence[tuple[Scorer, float]], rng: Random) -> None:
        self._scorers = tuple((scorer, weight) for scorer, weight in weighted if weight > 0)
        self._learners = tuple(cast(Learner, scorer) for scorer, _ in self._scorers if hasattr(scorer, "chosen"))
        self._by_calls = all(isinstance(scorer, InFlight) for scorer, _ in self._scorers)
        self._near = NEAR * sum(weight for _, weight in self._scorers)
        self._had_several = False
        self._rng = rng

    @property
    def remembered(self) -> int:
        """Entries in the scorers' memories."""
        return sum(len(scorer) for scorer in self._learners if isinstance(scorer, Sized))

    def choose(self, work: Work, backends: Sequence[B]) -> B:
        """The backend for a call, of those that can take it. `backends`: at least one."""
        if len(backends) == 1:
            found = backends[0]
            if not self._had_several:
                return found
        elif self._by_calls:
            return self._less_busy(backends)
        else:
            self._had_several = True
            found = self._best(work, backends)
        for learner in self._learners:
            learner.chosen(work, found)
        return found

    def _best(self, work: Work, backends: Sequence[B]) -> B:
        totals = [0.0] * len(backends)
        for scorer, weight in self._scorers:
            opinions = _completed(scorer.score(work, backends))
            totals = [total + weight * opinion for total, opinion in zip(totals, opinions, strict=True)]
        bound = max(totals) - self._near
        near = [backend for backend, total in zip(backends, totals, strict=True) if total >= bound]
        return near[0] if len(near) == 1 else self._less_busy(near)

    def _less_busy(self, backends: Sequence[B]) -> B:
        """The one with fewer calls of two that are drawn at random; either if both have as many."""
        count, draw = len(backends), self._rng.random
        place = int(draw() * count)
        other = place + 1 + int(draw() * (count - 1))
        first, second = backends[place], backends[other if other < count else other - count]
        return first if first.inflight <= second.inflight else second


def _completed(opinions: Sequence[float | None]) -> Sequence[float]:
    """The mean of the others in place of each missing opinion."""
    if None not in opinions:
        return cast(Sequence[float], opinions)
    known = [opinion for opinion in opinions if opinion is not None]
    mean = sum(known) / len(known) if known else 0.0
    return [mean if opinion is None else opinion for opinion in opinions]

"""Models that joined a policy after its training. Its nets never see them: of models that are like none of those that a net was trained
with it believes anything, such as that they are as good as their price. What a guest's answer would be worth, and what it proves once it is
there, is reckoned by Bayes from how one more model usually answers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np

from routers.rounds.standing import NO_VOTE

if TYPE_CHECKING:
    from routers.artifacts import Tensor
    from routers.learned import Stored

CAUTION = 1.0
"""So many standard deviations are taken off what is expected of a guest that would be asked first: then its answer alone has to do, since
what others are worth after it is reckoned one step ahead.
"""
BELIEVED = 0.7
"""The share of what a later guest's answer would be worth that counts: that was reckoned from what little is known of it."""
LEAST_NONE = 0.02
"""None of the answers is right at least so often."""
SUREST = 4.0
ROUNDING = 1e-9
"""What is worth less is worth nothing."""
RIGHT, FRESH = 6, 5


@dataclass(frozen=True, slots=True)
class Manners:
    """How one more model answers, given who said what and what is right. Learned from the models that a policy was trained with, each of
    them taken in turn for the one more.

    `right` (6,): what makes the log-odds that it says what is right, if somebody said that: a constant, the model's own log-odds on the
    question, those that were given to what is right before, how many more than one said it, how many said something else, how many gave no
    vote. `fresh` (5,): the same if nobody said it: a constant, its own log-odds, those that nobody did, how many have voted, how many have
    not. `joins`, `follows`: the share of its wrong answers that were said before, where something right was said too, and where not.
    """

    right: tuple[float, ...]
    fresh: tuple[float, ...]
    joins: float
    follows: float

    def tensors(self) -> Mapping[str, Tensor]:
        return {"manners": np.array([*self.right, *self.fresh, self.joins, self.follows], dtype=np.float32)}


def read(stored: Stored) -> Manners:
    """Raises BadArtifact."""
    numbers = stored.array("manners", RIGHT + FRESH + 2).tolist()
    return Manners(tuple(numbers[:RIGHT]), tuple(numbers[RIGHT : RIGHT + FRESH]), numbers[-2], numbers[-1])


@dataclass(frozen=True, slots=True)
class Said:
    """Something that was said. `vote`: what it is counted as; `backers`: how many said it; `chance`: that it is right."""

    vote: int
    backers: int
    chance: float


@dataclass(frozen=True, slots=True)
class Beliefs:
    """What was said, and the chance that none of it is right. `silent`: how many gave no vote; `answered`: how many did."""

    said: tuple[Said, ...]
    none: float
    silent: int = 0

    @classmethod
    def of(cls, said: Sequence[Said], silent: int = 0) -> Self:
        """Of chances that need not add up."""
        none = max(1 - sum([one.chance for one in said]), LEAST_NONE)
        total = none + sum([one.chance for one in said])
        return cls(tuple(replace(one, chance=one.chance / total) for one in said), none / total, silent)

    @property
    def answered(self) -> int:
        return sum([one.backers for one in self.said])

    @property
    def best(self) -> float:
        return max([one.chance for one in self.said], default=0.0)


@dataclass(frozen=True, slots=True)
class Forecast:
    """What one more model would say. `right` (k,): it says what was said and is right. `wrong` (k,): that was right, and it says something
    else. `share`: of these, what goes to each other thing that was said. `new`: nothing of it is right, and it says what is. `lost`: nor
    does it. `tail`: of these, what goes to each thing that was said.
    """

    right: list[float]
    wrong: list[float]
    share: float
    new: float
    lost: float
    tail: float

    def after(self, vote: int | None) -> list[float]:
        """The weight of each thing that was said, of it saying something new that is right, and of nothing being right, once it has voted
        for the thing at this place; None: for something new.
        """
        count = len(self.right)
        if vote is None:
            rest, left = 1 - self.share * (count - 1), 1 - self.tail * count
            return [*(one * rest for one in self.wrong), self.new, self.lost * left]
        found = [one * self.share for one in self.wrong]
        found[vote] = self.right[vote]
        return [*found, 0.0, self.lost * self.tail]


def forecast(manners: Manners, beliefs: Beliefs, odds: float) -> Forecast:
    """`odds`: the model's own log-odds on the question."""
    said, answered, count = beliefs.said, beliefs.answered, len(beliefs.said)
    base, own, before, more, others, mute = manners.right
    base += own * odds + mute * beliefs.silent
    found = [base + before * logit(one.chance) + more * (one.backers - 1) + others * (answered - one.backers) for one in said]
    right = [_sigmoid(value) for value in found]
    base, own, before, others, mute = manners.fresh
    known = said or beliefs.silent
    fresh = _sigmoid(base + own * odds + before * logit(beliefs.none) + others * answered + mute * beliefs.silent if known else odds)
    return Forecast(
        [one.chance * chance for one, chance in zip(said, right, strict=True)],
        [one.chance * (1 - chance) for one, chance in zip(said, right, strict=True)],
        manners.joins / (count - 1) if count > 1 else 0.0,
        beliefs.none * fresh,
        beliefs.none * (1 - fresh),
        manners.follows / count if count else 0.0,
    )


def worth(manners: Manners, beliefs: Beliefs, odds: float, silent: float) -> float:
    """By how much the chance of the likeliest answer would rise on average. `silent`: how often the model's answer is no vote."""
    ahead = forecast(manners, beliefs, odds)
    reached = sum([max(ahead.after(vote)[:-1]) for vote in (*range(len(beliefs.said)), None)])
    found = (1 - silent) * (reached - beliefs.best)
    return found if found > ROUNDING else 0.0


def hear(manners: Manners, beliefs: Beliefs, odds: float, vote: int) -> Beliefs:
    """Once the model has answered. `vote`: what that counts as; NO_VOTE: it gave none."""
    if vote == NO_VOTE:
        return replace(beliefs, silent=beliefs.silent + 1)
    place = next((place for place, one in enumerate(beliefs.said) if one.vote == vote), None)
    *weights, new, none = forecast(manners, beliefs, odds).after(place)
    total = sum(weights) + new + none
    said = [replace(one, chance=weight / total) for one, weight in zip(beliefs.said, weights, strict=True)]
    if place is None:
        return Beliefs((*said, Said(vote, 1, new / total)), none / total, beliefs.silent)
    said[place] = replace(said[place], backers=said[place].backers + 1)
    return Beliefs(tuple(said), none / total, beliefs.silent)


def logit(chance: float) -> float:
    """Within ±SUREST."""
    if not 0 < chance < 1:
        return -SUREST if chance <= 0 else SUREST
    return min(max(math.log(chance / (1 - chance)), -SUREST), SUREST)


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-min(max(value, -30.0), 30.0)))

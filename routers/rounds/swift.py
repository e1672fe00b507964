"""What `standing` and `policy` say, of one question at a time. Of so few numbers numpy takes longer to begin than to compute: a round would
take 3 ms. Here only the nets are numpy. The two must agree; tests hold them to each other, on recorded questions too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from routers.rounds.guests import BELIEVED, CAUTION, Beliefs, Manners, Said, hear, worth
from routers.rounds.policy import HEAVIEST, SAME, STOP
from routers.rounds.standing import AGREE_WRONGLY, LEAST, LEAST_WEIGHT, MOST, MOST_LEFT, MOST_PRICE, MOST_WEIGHT, NO_VOTE, SOME_WRONG

if TYPE_CHECKING:
    from routers.rounds.policy import Policy

_LEAST, _MOST = float(LEAST), float(MOST)
_PRICE, _LEFT, _HEAVIEST, _SAME = float(MOST_PRICE), float(MOST_LEFT), float(HEAVIEST), float(SAME)
_LOG_AGREE, _LOG_SOME = math.log(AGREE_WRONGLY), math.log(SOME_WRONG)
_NOTHING = 1e-4


@dataclass(frozen=True, slots=True)
class Question:
    """One question in the middle of its rounds, and m models: as `Standing` has it. `votes` and `lengths` count where `asked`; a length
    that is not known is 0.
    """

    expected: Sequence[float]
    spread: Sequence[float]
    costs: Sequence[float]
    options: float
    asked: Sequence[bool]
    votes: Sequence[int]
    lengths: Sequence[float]
    weight: float
    left: float

    @property
    def affordable(self) -> list[int]:
        """Who may be asked next: not asked yet, and within what is left."""
        return [j for j, cost in enumerate(self.costs) if not self.asked[j] and cost <= self.left]

    def among(self, columns: list[int]) -> Question:
        """With these models alone."""
        parts = (self.expected, self.spread, self.costs)
        expected, spread, costs = ([part[j] for j in columns] for part in parts)
        asked, votes, lengths = [self.asked[j] for j in columns], [self.votes[j] for j in columns], [self.lengths[j] for j in columns]
        return Question(expected, spread, costs, self.options, asked, votes, lengths, self.weight, self.left)


@dataclass(frozen=True, slots=True)
class Side:
    """Those who say the same, and whoever votes for something else. `vote`: what they say is counted as; NO_VOTE: one who gives none."""

    vote: int
    backers: list[int]
    rivals: list[int]


@dataclass(frozen=True, slots=True)
class Lead:
    """The likeliest answer: who gave it, the chance that it is right, and that of the next likely one."""

    backers: list[int]
    chance: float
    second: float


def sides(question: Question) -> list[Side]:
    """In the order of their first models. Whoever gives no vote is on a side of his own."""
    votes = question.votes
    asked = [j for j, was in enumerate(question.asked) if was]
    voters = [j for j in asked if votes[j] != NO_VOTE]
    found: list[Side] = []
    counted: set[int] = set()
    for i in asked:
        if votes[i] == NO_VOTE:
            found.append(Side(NO_VOTE, [i], voters))
        elif votes[i] not in counted:
            counted.add(votes[i])
            backers, rivals = [j for j in voters if votes[j] == votes[i]], [j for j in voters if votes[j] != votes[i]]
            found.append(Side(votes[i], backers, rivals))
    return found


@dataclass(frozen=True, slots=True)
class Swift:
    """A policy, and its traits of m models as plain numbers; of `policy` itself only the nets are used. `late`: as in `Policy`. `core`: the
    same without guests; None: there are none.
    """

    policy: Policy
    late: list[bool]
    score: list[float]
    silent: list[float]
    length: list[float]
    length_spread: list[float]
    together: list[list[float]]
    core: Swift | None = None

    @classmethod
    def of(cls, policy: Policy) -> Swift:
        traits = policy.traits
        vectors = (traits.score, traits.silent, traits.length, traits.length_spread)
        score, silent, length, spread = (vector.tolist() for vector in vectors)
        late = list(policy.late) or [False] * len(score)
        return cls(policy, late, score, silent, length, spread, traits.together.tolist()).among(list(range(len(late))))

    def among(self, columns: list[int]) -> Swift:
        """For these of its models alone, in this order."""
        core = self._cut([j for j in columns if not self.late[j]]) if any(self.late[j] for j in columns) else None
        return replace(self._cut(columns), core=core)

    def _cut(self, columns: list[int]) -> Swift:
        vectors = (self.score, self.silent, self.length, self.length_spread)
        score, silent, length, spread = ([vector[j] for j in columns] for vector in vectors)
        late, together = [self.late[j] for j in columns], [[self.together[i][j] for j in columns] for i in columns]
        return Swift(self.policy, late, score, silent, length, spread, together)

    def decide(self, question: Question, heard: list[Side]) -> tuple[int, list[float]]:
        """The column of whom to ask next, or STOP, and how likely each side's answer is right. `heard`: by `sides`."""
        free = question.affordable
        if self.core is not None:
            chances, gains = self._with_guests(self.core, question, heard, free)
        else:
            chances = self.chances(question, heard)
            gains = self._gains(question, heard, chances, free) if free else []
        return _chosen(question, heard, free, gains), chances

    def _with_guests(self, core: Swift, question: Question, heard: list[Side], free: list[int]) -> tuple[list[float], list[float]]:
        """How likely each side is right, and what asking each of those who are free would gain: as without guests until one is asked."""
        known = [j for j, late in enumerate(self.late) if not late]
        part = question.among(known)
        said = sides(part)
        told = core.chances(part, said)
        voted = [(side, one) for side, one in zip(said, told, strict=True) if side.vote != NO_VOTE]
        beliefs = Beliefs.of([Said(side.vote, len(side.backers), one) for side, one in voted], len(said) - len(voted))
        came = [j for j, late in enumerate(self.late) if late and question.asked[j]]
        for guest in came:
            beliefs = hear(self._manners, beliefs, _odds(question.expected[guest]), question.votes[guest])
        now = {one.vote: one.chance for one in beliefs.said} if came else {}
        told = [now.get(side.vote, one) for side, one in zip(said, told, strict=True)]
        silent = {known[side.backers[0]]: one for side, one in zip(said, told, strict=True)}
        chances = [now[side.vote] if side.vote in now else silent.get(side.backers[0], 0.0) for side in heard]
        found = {j: self._reckoned(question, beliefs, j, first=not heard) for j in free if self.late[j] or not said}
        if said or not came:
            ahead = max(beliefs.best - max(told, default=0.0), 0.0) if came else 0.0
            able = part.affordable
            gains = core._gains(part, said, told, able) if able else []
            found |= {known[j]: one - ahead for j, one in zip(able, gains, strict=True)}
        return chances, [found[j] for j in free]

    def _reckoned(self, question: Question, beliefs: Beliefs, j: int, first: bool) -> float:
        """What asking a model would gain, without the nets. A guest must be worth asking first even if it was lucky so far."""
        price = min(question.weight, _HEAVIEST) * question.costs[j]
        if first:
            return question.expected[j] - CAUTION * question.spread[j] - price
        return BELIEVED * worth(self._manners, beliefs, _odds(question.expected[j]), self.silent[j]) - self.policy.margin - price

    @property
    def _manners(self) -> Manners:
        manners = self.policy.manners
        if manners is None:
            raise ValueError("this policy was trained before models could join it later")
        return manners

    def chances(self, question: Question, heard: list[Side]) -> list[float]:
        """How likely each side's answer is right."""
        if not heard:
            return []
        rows = np.array(self._claims(question, heard), dtype=np.float32)
        return [1 / (1 + math.exp(-min(max(value, -60.0), 60.0))) for value in self.policy.posterior.apply(rows)[:, 0].tolist()]

    def _gains(self, question: Question, heard: list[Side], chances: list[float], free: list[int]) -> list[float]:
        weight, first = min(question.weight, _HEAVIEST), not heard
        share, margin = (self.policy.trust, 0.0) if first else (1.0, self.policy.margin)
        base = [(question.expected[j] if first else 0.0) - margin - weight * question.costs[j] for j in free]
        if not share:
            return base
        rows = np.array(self._outlook(question, heard, chances, free), dtype=np.float32)
        return [known + share * more for known, more in zip(base, self.policy.gain.apply(rows)[:, 0].tolist(), strict=True)]

    def _claims(self, question: Question, heard: list[Side]) -> list[list[float]]:
        """As `standing.claims`: a row for each side."""
        chance = _bounded(question.expected)
        odds = [math.log(one / (1 - one)) for one in chance]
        long = [self._long(question, j) for j in range(len(chance))]
        likely, none = naive(chance, odds, question, heard)
        silent = sum([side.vote == NO_VOTE for side in heard])
        unasked = [one for one, was in zip(chance, question.asked, strict=True) if not was]
        whole = [
            float(sum(question.asked)),
            float(silent),
            float(len(heard)),
            none,
            sum(chance) / len(chance),
            max(chance),
            min(chance),
            sum(unasked) / max(len(unasked), 1),
            sum(question.spread) / len(chance),
            question.options,
        ]
        size = {j: len(side.backers) for side in heard for j in side.backers}
        rows = []
        for place, side in enumerate(heard):
            backers, rivals = side.backers, side.rivals
            count, score, together = len(backers), self.score, self.together
            pairs = sum(together[i][j] for i in backers for j in backers if i != j) / (count * (count - 1)) if count > 1 else 0.0
            rows.append(
                [
                    count,
                    len(rivals),
                    sum([odds[j] for j in backers]),
                    sum([odds[j] for j in rivals]),
                    max([chance[j] for j in backers]),
                    max([chance[j] for j in rivals], default=0.0),
                    sum([long[j] for j in backers]) / count,
                    sum([long[j] for j in rivals]) / max(len(rivals), 1),
                    sum([long[j] * odds[j] for j in backers]),
                    pairs,
                    math.log(likely[place] + _NOTHING),
                    math.log(max([one for other, one in enumerate(likely) if other != place], default=0.0) + _NOTHING),
                    max([size[j] for j in rivals], default=0),
                    sum([score[j] for j in backers]) / count,
                    max([score[j] for j in backers]),
                    max([score[j] for j in rivals], default=0.0),
                    float(side.vote == NO_VOTE),
                    *whole,
                ]
            )
        return rows

    def _long(self, question: Question, j: int) -> float:
        """How long an answer is beside others of its model, in standard deviations; 0 if nobody knows."""
        length = question.lengths[j]
        return (math.log1p(length) - self.length[j]) / self.length_spread[j] if question.asked[j] and length > 0 else 0.0

    def _outlook(self, question: Question, heard: list[Side], chances: list[float], free: list[int]) -> list[list[float]]:
        """As `standing.outlook`: a row for each of those who may be asked."""
        chance, costs = _bounded(question.expected), question.costs
        lead = _lead(heard, chances)
        weight = min(max(question.weight, LEAST_WEIGHT), MOST_WEIGHT)
        priced = [min(weight * cost, _PRICE) for cost in costs]
        count = len(free)
        stands = [
            float(sum(question.asked)),
            float(count),
            lead.chance,
            lead.second,
            1 - sum(chances),
            float(len(heard)),
            float(len(lead.backers)),
            math.log(weight),
            min(question.left, _LEFT),
            max([chance[j] for j in free]),
            sum([chance[j] for j in free]) / count,
            min([priced[j] for j in free]),
            sum([priced[j] for j in free]) / count,
            sum(chance) / len(chance),
            sum(question.spread) / len(chance),
            question.options,
            float(sum([side.vote == NO_VOTE for side in heard])),
            max([chance[j] for side in heard for j in side.backers], default=0.0),
        ]
        return [[*self._each(question, chance, priced, lead, free, j), *stands] for j in free]

    def _each(self, question: Question, chance: list[float], priced: list[float], lead: Lead, free: list[int], j: int) -> list[float]:
        """What speaks for asking a model, apart from how the question stands."""
        costs, shared = question.costs, [self.together[j][k] for k in lead.backers]
        return [
            chance[j],
            math.log(chance[j] / (1 - chance[j])),
            chance[j] - max([chance[k] for k in free]),
            question.spread[j],
            costs[j],
            priced[j],
            priced[j] - min([priced[k] for k in free]),
            self.score[j],
            max(shared, default=0.0),
            sum(shared) / max(len(shared), 1),
            chance[j] * (1 - lead.chance),
            float(sum([costs[k] < costs[j] for k in free])),
            float(sum([chance[k] > chance[j] for k in free])),
            self.silent[j],
        ]


def _lead(heard: list[Side], chances: list[float]) -> Lead:
    if not heard:
        return Lead([], 0.0, 0.0)
    first = max(range(len(heard)), key=chances.__getitem__)
    second = max([one for place, one in enumerate(chances) if place != first], default=0.0)
    return Lead(heard[first].backers if chances[first] > 0 else [], chances[first], second)


def _chosen(question: Question, heard: list[Side], free: list[int], gains: list[float]) -> int:
    if not free:
        return STOP
    if math.isinf(question.weight):
        return STOP if heard else min(free, key=question.costs.__getitem__)
    place = max(range(len(free)), key=gains.__getitem__)
    return free[place] if not heard or gains[place] > 0 else STOP


def naive(chance: Sequence[float], odds: Sequence[float], question: Question, heard: list[Side]) -> tuple[list[float], float]:
    """As `standing.naive`: the chance that each side is right, and that none is, if all erred independently. `chance`, `odds`: bounded."""
    wrong = [(len(side.backers) - 1) * _LOG_AGREE + _LOG_SOME for side in heard]
    every = sum([math.log(1 - chance[j]) for side in heard for j in side.backers]) + sum(wrong)
    scores = [every + sum([odds[j] for j in side.backers]) - one for side, one in zip(heard, wrong, strict=True)]
    most = max([every, *scores])
    weights, none = [math.exp(score - most) for score in scores], math.exp(every - most)
    total = sum(weights) + none
    return [weight / total for weight in weights], none / total


def spoken(question: Question, heard: list[Side], chances: list[float]) -> int:
    """Whose words are the answer: the likeliest one's, and of those who gave it whom most is expected of."""
    best = max(chances)
    backers = [j for side, one in zip(heard, chances, strict=True) if one >= best - _SAME for j in side.backers]
    return max(sorted(backers), key=question.expected.__getitem__)


def _odds(expected: float) -> float:
    chance = min(max(expected, _LEAST), _MOST)
    return math.log(chance / (1 - chance))


def _bounded(expected: Sequence[float]) -> list[float]:
    return [min(max(one, _LEAST), _MOST) for one in expected]

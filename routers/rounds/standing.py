"""How a question stands in the middle of its rounds, as numbers that do not depend on the models' order or on how many there are.

Everything is for b questions and m models at once. Nothing here knows a model by its place: what a net is to know of a model is its traits,
so one more model can join with its own traits, and the nets stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from routers.artifacts import Tensor
    from routers.learned import Stored

    Floats: TypeAlias = NDArray[np.float32]
    Flags: TypeAlias = NDArray[np.bool_]
    Votes: TypeAlias = NDArray[np.int32]

LEAST, MOST = np.float32(0.02), np.float32(0.98)
NO_VOTE = -1
AGREE_WRONGLY = 0.25
"""How often two that are wrong say the same, before anything is known of them."""
SOME_WRONG = 0.5
USUAL_OPTIONS = 10.0


@dataclass(frozen=True, slots=True)
class Traits:
    """What is known of m models apart from a question. `score`: mean; `cost`: mean, in units (the best single model's mean cost is 1);
    `silent`: share of answers that are no vote; `length`, `length_spread`: mean and standard deviation of log(1 + tokens): all (m,).

    `together` (m, m): how often two that are both wrong say the same.
    """

    score: Floats
    cost: Floats
    silent: Floats
    length: Floats
    length_spread: Floats
    together: Floats

    def tensors(self) -> Mapping[str, Tensor]:
        return {f"traits/{name}": getattr(self, name) for name in TRAITS}

    def of(self, columns: list[int]) -> Traits:
        """Of these models alone."""
        vectors = {name: getattr(self, name)[columns] for name in TRAITS if name != "together"}
        return Traits(**vectors, together=self.together[np.ix_(columns, columns)])


TRAITS = ("score", "cost", "silent", "length", "length_spread", "together")


def read_traits(stored: Stored) -> Traits:
    """Raises BadArtifact."""
    count = len(stored.models)
    vectors = {name: stored.array(f"traits/{name}", count) for name in TRAITS if name != "together"}
    return Traits(**vectors, together=stored.array("traits/together", count, count))


@dataclass(frozen=True, slots=True)
class Standing:
    """b questions in the middle of their rounds, m models.

    `expected`, `spread` (b, m): each model's expected score and how far off that may be. `costs` (b, m): expected, in units. `options`
    (b,): how many the question offers. `asked` (b, m). `votes` (b, m), `lengths` (b, m) in tokens: of those who were asked. `weight` (b,):
    the price of one unit of cost, in score. `left` (b,): units that may still be spent; infinity: unbounded.
    """

    expected: Floats
    spread: Floats
    costs: Floats
    options: Floats
    asked: Flags
    votes: Votes
    lengths: Floats
    weight: Floats
    left: Floats

    def __len__(self) -> int:
        return len(self.expected)

    def take(self, rows: NDArray[np.int64] | slice) -> Standing:
        """The questions at these places."""
        return Standing(*(getattr(self, name)[rows] for name in Standing.__slots__))

    def of(self, columns: list[int]) -> Standing:
        """With these models alone."""
        parts = {name: getattr(self, name) for name in Standing.__slots__}
        return Standing(**{name: part[:, columns] if part.ndim == 2 else part for name, part in parts.items()})

    @property
    def affordable(self) -> Flags:
        """(b, m): who may be asked next: not asked yet, and within what is left."""
        found: Flags = ~self.asked & (self.costs <= self.left[:, None])
        return found


@dataclass(frozen=True, slots=True)
class Sides:
    """Who says what. `same` (b, m, m): i and j were asked and say the same (an answer that is no vote is like itself alone); `against`: j
    votes for something else than i; `first` (b, m): the first of those who say it; `voted` (b, m).
    """

    same: Floats
    against: Floats
    first: Flags
    voted: Flags

    @classmethod
    def of(cls, standing: Standing) -> Sides:
        asked, votes = standing.asked, standing.votes
        voted = asked & (votes != NO_VOTE)
        agree = (votes[:, :, None] == votes[:, None, :]) & voted[:, :, None] & voted[:, None, :]
        places = np.arange(asked.shape[1])
        agree[:, places, places] = asked
        against = voted[:, None, :] & asked[:, :, None] & ~agree
        first = asked & ~np.tril(agree, -1).any(axis=2)
        return cls(agree.astype(np.float32), against.astype(np.float32), first, voted)


def log_odds(chance: Floats) -> Floats:
    bounded = np.clip(chance, LEAST, MOST)
    found: Floats = np.log(bounded / (1 - bounded))
    return found


def naive(standing: Standing, sides: Sides) -> tuple[Floats, Floats]:
    """The chance that each answer is right (b, m), 0 but for the first of each side, and that none is (b,), if they erred independently."""
    chance = np.clip(standing.expected, LEAST, MOST)
    right, wrong = np.log(chance), np.log(1 - chance)
    size = sides.same.sum(axis=2)
    wrong_side = np.where(size > 0, (size - 1) * np.log(AGREE_WRONGLY) + np.log(SOME_WRONG), 0)
    all_wrong = (wrong * standing.asked).sum(axis=1) + (wrong_side * sides.first).sum(axis=1)
    gain = np.einsum("bij,bj->bi", sides.same, right - wrong) - wrong_side
    score = np.where(sides.first, all_wrong[:, None] + gain, -np.inf)
    most = np.maximum(score.max(axis=1), all_wrong)
    weights, none = np.exp(score - most[:, None]), np.exp(all_wrong - most)
    total = weights.sum(axis=1) + none
    return (weights / total[:, None]).astype(np.float32), (none / total).astype(np.float32)


def claims(standing: Standing, sides: Sides, traits: Traits) -> Floats:
    """What speaks for and against each answer: (b, m, CLAIM). Rows of those who were not asked mean nothing."""
    same, against, asked = sides.same, sides.against, standing.asked
    chance, odds = np.clip(standing.expected, LEAST, MOST), log_odds(standing.expected)
    known = np.where(asked & np.isfinite(standing.lengths), standing.lengths, 0)
    long = np.where(known > 0, (np.log1p(known) - traits.length) / traits.length_spread, 0).astype(np.float32)
    size, rivals = same.sum(axis=2), against.sum(axis=2)
    few, fewer = np.maximum(size, 1), np.maximum(rivals, 1)
    pairs = (same @ traits.together * same).sum(axis=2) - same @ np.diag(traits.together)
    likely, none = naive(standing, sides)
    spoken = np.einsum("bij,bj->bi", same, likely * sides.first)
    others = (np.where(sides.first[:, None, :] & (same == 0), likely[:, None, :], 0)).max(axis=2)
    columns = [
        size,
        rivals,
        np.einsum("bij,bj->bi", same, odds),
        np.einsum("bij,bj->bi", against, odds),
        (same * chance[:, None]).max(axis=2),
        (against * chance[:, None]).max(axis=2),
        np.einsum("bij,bj->bi", same, long) / few,
        np.einsum("bij,bj->bi", against, long) / fewer,
        np.einsum("bij,bj->bi", same, long * odds),
        np.where(size > 1, pairs / np.maximum(size * (size - 1), 1), 0),
        np.log(spoken + 1e-4),
        np.log(others + 1e-4),
        (against * size[:, None]).max(axis=2),
        same @ traits.score / few,
        (same * traits.score).max(axis=2),
        (against * traits.score).max(axis=2),
        asked & ~sides.voted,
    ]
    unasked = np.maximum((~asked).sum(axis=1), 1)
    whole = [
        asked.sum(axis=1),
        (asked & ~sides.voted).sum(axis=1),
        sides.first.sum(axis=1),
        none,
        chance.mean(axis=1),
        chance.max(axis=1),
        chance.min(axis=1),
        (chance * ~asked).sum(axis=1) / unasked,
        standing.spread.mean(axis=1),
        standing.options,
    ]
    every = np.broadcast_to(np.stack([one.astype(np.float32) for one in whole], axis=-1)[:, None], (*asked.shape, len(whole)))
    return np.concatenate([np.stack([one.astype(np.float32) for one in columns], axis=-1), every], axis=-1)


MOST_PRICE = np.float32(2.0)
"""Dearer than that makes no difference: no answer is worth more than 1."""
CLAIM = 27
"""Numbers that speak of one answer."""
LEAST_WEIGHT, MOST_WEIGHT = 1e-3, 30.0
MOST_LEFT = np.float32(4.0)


def outlook(standing: Standing, sides: Sides, traits: Traits, chances: Floats) -> tuple[Floats, Floats]:
    """What speaks for asking each model next, (b, m, ASK), and how the question stands, (b, ROUND). `chances` (b, m): of each answer.

    Rows of those who were asked mean nothing.
    """
    asked, free = standing.asked, standing.affordable
    led = np.where(sides.first, chances, 0)
    lead = led.argmax(axis=1)
    rows = np.arange(len(standing))
    best = led[rows, lead]
    backers = sides.same[rows, lead] * (best > 0)[:, None]
    second = np.where(np.arange(asked.shape[1]) == lead[:, None], 0, led).max(axis=1)
    weight = np.clip(standing.weight, LEAST_WEIGHT, MOST_WEIGHT)
    priced = np.minimum(weight[:, None] * standing.costs, MOST_PRICE)
    chance = np.clip(standing.expected, LEAST, MOST)
    open_chance, open_price = np.where(free, chance, 0), np.where(free, priced, MOST_PRICE)
    count = free.sum(axis=1)
    whole = [
        asked.sum(axis=1),
        count,
        best,
        second,
        1 - led.sum(axis=1),
        sides.first.sum(axis=1),
        backers.sum(axis=1),
        np.log(weight),
        np.minimum(standing.left, MOST_LEFT),
        open_chance.max(axis=1),
        open_chance.sum(axis=1) / np.maximum(count, 1),
        open_price.min(axis=1),
        np.where(free, priced, 0).sum(axis=1) / np.maximum(count, 1),
        chance.mean(axis=1),
        standing.spread.mean(axis=1),
        standing.options,
        (asked & ~sides.voted).sum(axis=1),
        (np.where(asked, chance, 0)).max(axis=1),
    ]
    stands = np.stack([one.astype(np.float32) for one in whole], axis=-1)
    each = _each(standing, traits, backers, best, priced, open_price)
    every = np.broadcast_to(stands[:, None], (*asked.shape, stands.shape[1]))
    return np.concatenate([each, every], axis=-1), stands


def _each(standing: Standing, traits: Traits, backers: Floats, best: Floats, priced: Floats, open_price: Floats) -> Floats:
    """What speaks for asking each model, apart from how the question stands: (b, m, ASK - ROUND). `backers` (b, m): of the likeliest
    answer, whose chance is `best` (b,). `priced` (b, m): each one's price; `open_price`: the same, but the most of who may not be asked.
    """
    asked, free = standing.asked, standing.affordable
    chance = np.clip(standing.expected, LEAST, MOST)
    open_chance = np.where(free, chance, 0)
    cheaper = (free[:, None, :] & (standing.costs[:, None, :] < standing.costs[:, :, None])).sum(axis=2)
    better = (free[:, None, :] & (chance[:, None, :] > chance[:, :, None])).sum(axis=2)
    columns = [
        chance,
        log_odds(chance),
        chance - open_chance.max(axis=1)[:, None],
        standing.spread,
        standing.costs,
        priced,
        priced - open_price.min(axis=1)[:, None],
        np.broadcast_to(traits.score, asked.shape),
        (backers[:, None, :] * traits.together).max(axis=2),
        backers @ traits.together / np.maximum(backers.sum(axis=1), 1)[:, None],
        chance * (1 - best)[:, None],
        cheaper,
        better,
        np.broadcast_to(traits.silent, asked.shape),
    ]
    each: Floats = np.stack([one.astype(np.float32) for one in columns], axis=-1)
    return each


ROUND = 18
"""Numbers that say how a question stands."""
ASK = 14 + ROUND
"""Numbers that speak of one ask."""

"""Learns how one more model answers, from recorded answers: each in turn is taken for the one more, after random sets of the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from routers.learned import logit
from routers.learning.rounds.posterior import drawn_sets, unbounded
from routers.rounds.guests import LEAST_NONE, SUREST, Manners
from routers.rounds.standing import NO_VOTE, Sides

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from routers.learning.rounds.ground import Ground
    from routers.rounds.policy import Policy
    from routers.rounds.standing import Flags

    Doubles = NDArray[np.float64]

USUAL = 0.5
"""How often a wrong answer was said before, where nothing is known of that; it counts as much as KNOWN wrong answers."""
KNOWN = 20.0
FIRMNESS = 0.5
STEPS = 25


def fit(held: Ground, policy: Policy, seed: int) -> Manners:
    """From at least two models. `policy`: says how likely answers are right. Deterministic from the seed."""
    rng = np.random.default_rng([seed, 29])
    parts = [_beside(rng, held, policy, model) for model in range(held.models)]
    said, none = (np.concatenate([part[place] for part in parts]) for place in (0, 1))
    joins, follows = (np.sum([part[2][place] for part in parts], axis=0) for place in (0, 1))
    share = [float((same + KNOWN * USUAL) / (count + KNOWN)) for same, count in (joins, follows)]
    return Manners(tuple(logistic(said[:, :-1], said[:, -1])), tuple(logistic(none[:, :-1], none[:, -1])), *share)


def _beside(rng: np.random.Generator, held: Ground, policy: Policy, model: int) -> tuple[Doubles, Doubles, Doubles]:
    """Of one model after random others: rows for `right` and for `fresh`, the last column being whether it was right; and how many of its
    wrong answers were said before, of how many: (2, 2), where something right was said, and where not.
    """
    others = [other for other in range(held.models) if other != model]
    asked = np.zeros((len(held), held.models), dtype=bool)
    asked[:, others] = drawn_sets(rng, len(held), len(others))
    voted, own = held.votes != NO_VOTE, held.votes[:, model] != NO_VOTE
    heard, right = asked & voted, held.scores > 0.5
    good, answered, silent = (heard & right).sum(axis=1), heard.sum(axis=1), (asked & ~voted).sum(axis=1)
    before = (heard & (held.votes == held.votes[:, [model]])).any(axis=1)
    odds, one = logit(held.expected[:, model]).astype(np.float64), np.ones(len(held))
    chance, nobody = _believed(held, policy.of(others), others, asked, right)
    at = own & (good > 0)
    said = np.stack([one, odds, chance, good - 1, answered - good, silent, right[:, model]], axis=1)[at]
    lost = own & (good == 0)
    none = np.stack([one, odds, nobody, answered, silent, right[:, model]], axis=1)[lost]
    wrong = own & ~right[:, model]
    return said, none, np.array([_counted(before, wrong & (good > 0) & (answered > good)), _counted(before, wrong & lost & (answered > 0))])


def _believed(held: Ground, policy: Policy, others: list[int], asked: Flags, right: Flags) -> tuple[Doubles, Doubles]:
    """The log-odds (n,) that are given to what is right, and to that nothing is: as `Beliefs` has them."""
    rows, free = np.arange(len(held)), np.zeros(len(held), np.float32)
    standing = held.standing(rows, asked, free, unbounded(len(held))).of(others)
    sides = Sides.of(standing)
    chances = np.where(sides.first & sides.voted, policy.chances(standing, sides), 0).astype(np.float64)
    total = chances.sum(axis=1)
    none = np.maximum(1 - total, LEAST_NONE)
    good = np.where(right[:, others], chances, 0).sum(axis=1)
    return _bounded(good / (total + none)), _bounded(none / (total + none))


def _bounded(chance: Doubles) -> Doubles:
    inside = np.clip(chance, 1e-9, 1 - 1e-9)
    found: Doubles = np.clip(np.log(inside / (1 - inside)), -SUREST, SUREST)
    return found


def _counted(before: Flags, where: Flags) -> tuple[int, int]:
    return int((before & where).sum()), int(where.sum())


def logistic(rows: Doubles, right: Doubles) -> list[float]:
    """Weights (d,) of a logistic regression on (n, d)."""
    weights = np.zeros(rows.shape[1])
    for _ in range(STEPS):
        chance = 1 / (1 + np.exp(-rows @ weights))
        curvature = (rows * (chance * (1 - chance))[:, None]).T @ rows + FIRMNESS * np.eye(len(weights))
        weights = weights + np.linalg.solve(curvature, rows.T @ (right - chance) - FIRMNESS * weights)
    found: list[float] = weights.tolist()
    return found

"""How a question stands: who says the same, and that the order of models does not matter."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from routers.learning.rounds.train import Trained
from routers.rounds.standing import ASK, CLAIM, ROUND, Sides, Standing, claims, naive, outlook

COUNT = 3


def standing(votes: list[list[int]], asked: list[list[bool]], seed: int = 1) -> Standing:
    rng = np.random.default_rng(seed)
    rows = len(votes)
    expected, spread, costs = (
        rng.uniform(low, high, (rows, COUNT)).astype(np.float32) for low, high in ((0.3, 0.9), (0.02, 0.05), (0.1, 1))
    )
    flags = np.array(asked)
    lengths = np.where(flags, rng.uniform(10, 300, (rows, COUNT)), np.nan).astype(np.float32)
    every = np.ones(rows, dtype=np.float32)
    return Standing(expected, spread, costs, 4 * every, flags, np.array(votes, dtype=np.int32), lengths, 0.1 * every, np.inf * every)


STANDING = standing([[0, 0, 1], [-1, -1, 0], [2, 1, 0], [0, -1, -1]], [[True] * 3, [True] * 3, [True, True, False], [True, False, False]])


def test_who_says_the_same() -> None:
    sides = Sides.of(STANDING)
    assert sides.same[0].tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert sides.same[1].tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]  # no vote is like itself alone
    assert sides.first.tolist() == [[True, False, True], [True] * 3, [True, True, False], [True, False, False]]
    assert sides.against[1].tolist() == [[0, 0, 1], [0, 0, 1], [0, 0, 0]]


def test_two_that_agree_are_likelier_than_one_alone() -> None:
    equal = replace(STANDING, expected=np.full_like(STANDING.expected, 0.6))
    chances, none = naive(equal, Sides.of(equal))
    assert chances[0, 0] > chances[0, 2]
    assert chances[0, 1] == 0
    assert (chances.sum(axis=1) + none).tolist() == pytest.approx([1] * 4)


def test_numbers_have_the_widths_that_are_promised_and_are_finite(trained: Trained) -> None:
    sides = Sides.of(STANDING)
    chances = trained.policy.chances(STANDING)
    said, (asks, stands) = claims(STANDING, sides, trained.policy.traits), outlook(STANDING, sides, trained.policy.traits, chances)
    assert said.shape == (4, 3, CLAIM)
    assert asks.shape == (4, 3, ASK)
    assert stands.shape == (4, ROUND)
    assert all(np.isfinite(numbers).all() for numbers in (said, asks, stands))


@pytest.mark.parametrize("order", [[2, 0, 1], [1, 0, 2], [2, 1, 0]])
def test_the_order_of_models_does_not_matter(trained: Trained, order: list[int]) -> None:
    moved = replace(
        STANDING, **{name: getattr(STANDING, name)[:, order] for name in ("expected", "spread", "costs", "asked", "votes", "lengths")}
    )
    policy, other = trained.policy, trained.policy.of(order)
    here, there = policy.look(STANDING), other.look(moved)
    np.testing.assert_allclose(there.chances, here.chances[:, order], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(other.gains(moved, there), policy.gains(STANDING, here)[:, order], rtol=1e-3, atol=1e-4)


def test_at_an_infinite_price_the_cheapest_is_asked_and_nobody_else(trained: Trained) -> None:
    fresh = replace(STANDING, asked=np.zeros_like(STANDING.asked), weight=np.full(4, np.inf, dtype=np.float32))
    policy = trained.policy
    assert policy.choose(fresh, policy.look(fresh)).tolist() == fresh.costs.argmin(axis=1).tolist()
    later = replace(STANDING, weight=np.full(4, np.inf, dtype=np.float32))
    assert policy.choose(later, policy.look(later)).tolist() == [-1] * 4

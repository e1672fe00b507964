"""Rewards, by values that were computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from routers.learning.rounds.reward import EPISODES, Priced, RouterR1

WHOLE = np.zeros(1, dtype=bool)


def one(value: float) -> np.ndarray:
    return np.array([value], dtype=np.float32)


def seen(alpha: float | None = 0.5) -> RouterR1:
    """Has seen costs whose roots are 0, 1, …, 100: their 5th percentile is 5, their 95th 95."""
    reward = RouterR1(alpha)
    reward.remember(float(root) ** 2 for root in range(101))
    return reward


@pytest.mark.parametrize(("paid", "expected"), [(25.0, 1.0), (9025.0, 0.0), (2500.0, 0.5), (0.0, 1.0), (1e6, 0.0), (225.0, 1 - 10 / 90)])
def test_the_cost_reward_falls_with_the_root_of_cost_between_two_percentiles(paid: float, expected: float) -> None:
    assert seen().cost_reward(one(paid))[0] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("alpha", "right", "paid", "expected"),
    [
        (0.0, 1.0, 2500.0, 1.0),
        (0.6, 1.0, 2500.0, 0.4 + 0.6 * 0.5),
        (1.0, 1.0, 2500.0, 0.5),
        (0.6, 0.0, 25.0, 0.0),  # wrong: cheapness is worth nothing
        (0.6, 0.5, 2500.0, 0.5 * (0.4 + 0.6 * 0.5)),
    ],
)
def test_right_and_cheap_are_weighed_by_alpha(alpha: float, right: float, paid: float, expected: float) -> None:
    # The episode itself counts among those that costs are told by: one more root of 50 leaves both percentiles where they are.
    assert seen(alpha).of(one(right), one(paid), one(0.3), WHOLE)[0] == pytest.approx(expected, abs=1e-2)


def test_a_broken_episode_is_worth_minus_one_and_its_cost_is_not_remembered() -> None:
    reward = RouterR1(0.5)
    assert reward.of(one(1.0), one(4.0), one(0.1), ~WHOLE)[0] == -1
    assert reward.cost_reward(one(1e9))[0] == 1  # nothing was seen yet
    assert Priced().of(one(1.0), one(0.0), one(0.1), ~WHOLE)[0] == -1


def test_only_the_last_thousand_episodes_count() -> None:
    reward = RouterR1(0.5)
    reward.remember([1e6] * 500)
    reward.remember(float(root) ** 2 for root in np.linspace(0, 100, EPISODES))
    assert reward.cost_reward(one(2500.0))[0] == pytest.approx(0.5, abs=1e-3)


def test_without_an_alpha_the_weight_says_it() -> None:
    assert seen(None).of(one(1.0), one(9025.0), one(3.0), WHOLE)[0] == pytest.approx(1 / 4, abs=1e-2)


def test_alpha_is_a_share() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        RouterR1(1.5)


def test_priced_is_the_score_less_the_price() -> None:
    found = Priced().of(np.array([1.0, 0.0, 1.0]), np.array([0.5, 2.0, 0.0]), np.array([0.2, 1.0, 4.0]), np.zeros(3, dtype=bool))
    assert found.tolist() == pytest.approx([0.9 / 1.2, -1.0, 0.2])

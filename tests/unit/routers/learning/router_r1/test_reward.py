"""What episodes are worth, by values that were computed by hand."""

from __future__ import annotations

import pytest

from routers.learning.rounds.reward import EPISODES
from routers.learning.router_r1.episodes import RecordedExperts, play
from routers.learning.router_r1.reward import Ending, Rewards
from tests.unit.routers.learning.router_r1.toys import QUESTION, Told, stage

SEEN = [float(root) ** 2 for root in range(101)]
"""Costs whose roots are 0, 1, …, 100: their 5th percentile is 5, their 95th 95."""


def worth(alpha: float, broken: bool, right: float, cost: float) -> float:
    return Rewards(alpha, SEEN).of([Ending(broken, right, cost)])[0]


@pytest.mark.parametrize(
    ("alpha", "broken", "right", "cost", "expected"),
    [
        (0.5, True, 0.0, 0.0, -1.0),
        (0.0, True, 1.0, 0.0, -1.0),  # broken is broken, whatever was said and at whatever weight
        (0.0, False, 1.0, 9025.0, 1.0),
        (0.0, False, 0.0, 0.0, 0.0),
        (0.6, False, 1.0, 2500.0, 0.4 + 0.6 * 0.5),  # the root of 2500 is 50, half way from 95 to 5
        (0.6, False, 1.0, 25.0, 1.0),
        (0.6, False, 1.0, 9025.0, 0.4),
        (0.6, False, 0.0, 25.0, 0.0),  # wrong: cheapness is worth nothing
        (1.0, False, 1.0, 1e6, 0.0),
    ],
)
def test_right_and_cheap_are_weighed_by_alpha(alpha: float, broken: bool, right: float, cost: float, expected: float) -> None:
    # The episode is itself one of those by which costs are told: one more root moves a percentile by less than one.
    assert worth(alpha, broken, right, cost) == pytest.approx(expected, abs=0.012)


def test_a_batch_is_judged_by_all_of_it() -> None:
    # Costs 1, 4 and 9 have the roots 1, 2 and 3: the 5th percentile is 1.1, the 95th 2.9.
    endings = [Ending(False, 1.0, cost) for cost in (1.0, 4.0, 9.0)]
    assert Rewards(1.0).of(endings) == pytest.approx([1.0, 0.5, 0.0])
    assert Rewards(1.0).of(endings[::-1]) == pytest.approx([0.0, 0.5, 1.0])
    assert Rewards(0.5).of([*endings, Ending(True, 0.0, 1e9)])[:3] == pytest.approx([1.0, 0.75, 0.5])


def test_what_was_seen_outlives_a_restart() -> None:
    first = Rewards(0.5)
    first.of([Ending(False, 1.0, cost) for cost in SEEN])
    first.of([Ending(True, 0.0, 1e9)])
    again = Rewards(0.5, first.seen)
    ending = [Ending(False, 1.0, 400.0)]
    assert again.of(ending) == first.of(ending)
    assert again.seen == first.seen == [*SEEN, 400.0]


def test_only_the_last_thousand_episodes_are_remembered() -> None:
    rewards = Rewards(0.5)
    rewards.of([Ending(False, 0.0, 1e6)] * 300)
    rewards.of([Ending(False, 0.0, 1.0)] * EPISODES)
    assert rewards.seen == [1.0] * EPISODES


def test_where_nothing_differs_nothing_is_dear() -> None:
    assert Rewards(0.5).of([Ending(False, 1.0, 0.0)] * 4) == [1.0] * 4
    assert Rewards(0.5).of([]) == []
    with pytest.raises(ValueError, match="between 0 and 1"):
        Rewards(1.1)


def test_a_repaired_turn_counts_as_broken() -> None:
    scripts = [["<answer>B</answer>"], ["no", "<answer>B</answer>"], ["no", "no"]]
    episodes = play(stage(), [QUESTION] * 3, Told(scripts), RecordedExperts())
    assert [Ending.of(one) for one in episodes] == [Ending(False, 1.0, 0.0), Ending(True, 1.0, 0.0), Ending(True, 0.0, 0.0)]
    assert Rewards(0.5).of([Ending.of(one) for one in episodes]) == [1.0, -1.0, -1.0]

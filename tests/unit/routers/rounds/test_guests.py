"""What one more model's answer would be worth, and what it proves."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routers.learning.rounds import manners
from routers.learning.rounds.train import Trained, prepared
from routers.rounds.guests import Beliefs, Manners, Said, forecast, hear, worth
from routers.rounds.standing import NO_VOTE
from tests.unit.routers.rounds.recordings import Recording

USUAL = Manners((0.7, 0.9, 0.3, 0.2, -0.6, -0.2), (-0.5, 0.5, -0.3, -0.3, -0.5), 0.5, 0.6)
CHANCES = st.lists(st.floats(0.01, 0.99), max_size=5)


def beliefs(*chances: float, backers: int = 1) -> Beliefs:
    return Beliefs.of([Said(place, backers, chance) for place, chance in enumerate(chances)])


def test_chances_add_up_to_one() -> None:
    found = beliefs(0.9, 0.8)
    assert sum(one.chance for one in found.said) + found.none == pytest.approx(1)
    assert found.none == pytest.approx(0.02 / 1.72)
    assert beliefs().none == 1


@given(CHANCES, st.floats(-4, 4))
def test_what_it_may_say_adds_up_too_and_nothing_is_learned_on_average(chances: list[float], odds: float) -> None:
    now = beliefs(*chances)
    ahead = forecast(USUAL, now, odds)
    weights = [ahead.after(vote) for vote in (*range(len(chances)), None)]
    assert sum(sum(row) for row in weights) == pytest.approx(1)
    for place, one in enumerate(now.said):
        assert sum(row[place] for row in weights) == pytest.approx(one.chance)


@given(CHANCES, st.floats(-4, 4), st.floats(0, 1))
def test_one_more_answer_never_does_harm(chances: list[float], odds: float, silent: float) -> None:
    assert worth(USUAL, beliefs(*chances), odds, silent) >= -1e-12


def test_it_is_worth_nothing_where_it_can_change_nothing() -> None:
    assert worth(USUAL, beliefs(0.97), 0.5, 0.0) == pytest.approx(0, abs=1e-9)
    assert worth(USUAL, beliefs(0.5, 0.4), 0.5, 1.0) == 0
    assert worth(USUAL, beliefs(0.5, 0.4), 2.0, 0.0) > worth(USUAL, beliefs(0.5, 0.4), 0.0, 0.0) > 0
    assert worth(USUAL, beliefs(), 0.0, 0.0) == pytest.approx(0.5)


def test_who_agrees_raises_a_chance_and_who_says_something_new_is_a_side_of_its_own() -> None:
    now = beliefs(0.5, 0.3)
    agreed = hear(USUAL, now, 0.6, 0)
    assert agreed.said[0].chance > 0.5
    assert [one.backers for one in agreed.said] == [2, 1]
    new = hear(USUAL, now, 0.6, 7)
    assert [one.vote for one in new.said] == [0, 1, 7]
    assert new.said[0].chance < now.said[0].chance
    for one in (agreed, new):
        assert sum(said.chance for said in one.said) + one.none == pytest.approx(1)
    mute = hear(USUAL, now, 0.6, NO_VOTE)
    assert (mute.said, mute.none, mute.silent) == (now.said, now.none, 1)
    assert worth(USUAL, Beliefs((), 1.0, 1), 0.6, 0.0) < worth(USUAL, beliefs(), 0.6, 0.0)
    alone = hear(USUAL, beliefs(), 0.6, 3)
    assert alone.best == pytest.approx(1 / (1 + math.exp(-0.6)))


def test_manners_are_learned_from_all_models_in_turn(made: Recording, trained: Trained) -> None:
    held = prepared(made.recorded, made.vectors, trained.question, trained.unit, trained.policy.traits, "train")
    learned = manners.fit(held, trained.policy, 0)
    assert learned == manners.fit(held, trained.policy, 0)
    assert trained.policy.manners is not None
    assert 0 < learned.joins < 1
    assert 0 < learned.follows < 1


def test_the_regression_finds_what_made_its_rows() -> None:
    rng = np.random.default_rng(0)
    rows = np.stack([np.ones(20_000), rng.normal(size=20_000)], axis=1)
    right = rng.random(20_000) < 1 / (1 + np.exp(-(rows @ [0.5, -1.0])))
    assert manners.logistic(rows, right.astype(float)) == pytest.approx([0.5, -1.0], abs=0.06)

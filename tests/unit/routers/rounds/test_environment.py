"""Episodes over recorded answers."""

from __future__ import annotations

import numpy as np
import pytest

from routers.learning.rounds.environment import Episodes
from routers.learning.rounds.ground import Ground
from routers.learning.rounds.reward import Priced
from routers.learning.rounds.train import Trained, prepared
from routers.rounds.policy import STOP
from routers.rounds.standing import NO_VOTE
from tests.unit.routers.rounds.recordings import Recording


@pytest.fixture(scope="module")
def held(made: Recording, trained: Trained) -> Ground:
    return prepared(made.recorded, made.vectors, trained.question, trained.unit, trained.policy.traits, "test")


def episodes(held: Ground, trained: Trained, left: float = np.inf, count: int = 6) -> Episodes:
    weight = np.full(count, 0.25, dtype=np.float32)
    return Episodes(held, trained.policy, Priced(), np.arange(count), weight, np.full(count, left, dtype=np.float32))


def test_what_was_not_asked_is_hidden(held: Ground, trained: Trained) -> None:
    playing = episodes(held, trained)
    playing.step(playing.running, np.array([0, 1, 2, 0, 1, 2]))
    standing = playing.standing(playing.running)
    assert (standing.votes[~standing.asked] == NO_VOTE).all()
    assert np.isnan(standing.lengths[~standing.asked]).all()
    assert standing.asked.sum(axis=1).tolist() == [1] * 6


def test_asking_costs_what_was_recorded_and_stopping_is_paid_by_the_answer(held: Ground, trained: Trained) -> None:
    playing = episodes(held, trained)
    first = playing.step(playing.running, np.full(6, 2))
    assert not first.ended.any()
    assert not first.rewards.any()
    assert playing.paid.tolist() == pytest.approx(held.paid[:6, 2].tolist())
    last = playing.step(playing.running, np.full(6, STOP))
    assert last.ended.all()
    assert last.rewards.tolist() == pytest.approx(((held.scores[:6, 2] - 0.25 * held.paid[:6, 2]) / 1.25).tolist(), abs=1e-6)


def test_what_must_not_be_done_breaks_the_episode(held: Ground, trained: Trained) -> None:
    playing = episodes(held, trained, left=0.5)
    done = playing.step(playing.running, np.array([STOP, 2, 0, 0, 0, 0]))  # nothing heard; beyond what is left
    assert done.rewards.tolist() == [-1, -1, 0, 0, 0, 0]
    assert playing.running.tolist() == [2, 3, 4, 5]
    again = playing.step(np.array([2]), np.array([0]))  # asked twice
    assert again.rewards[2] == -1
    with pytest.raises(ValueError, match="ended"):
        playing.step(np.array([2]), np.array([1]))


def test_what_is_left_shrinks(held: Ground, trained: Trained) -> None:
    playing = episodes(held, trained, left=3.0)
    playing.step(playing.running, np.full(6, 2))
    assert playing.standing(playing.running).left.tolist() == pytest.approx((3.0 - held.paid[:6, 2]).tolist(), abs=1e-5)
    assert not playing.standing(playing.running).affordable[:, 2].any()

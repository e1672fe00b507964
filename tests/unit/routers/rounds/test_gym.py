"""The episodes as an environment of gymnasium, where that is installed."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from routers.learning.rounds.ground import Ground
from routers.learning.rounds.gym import environment
from routers.learning.rounds.reward import Priced
from routers.learning.rounds.train import Trained, prepared
from routers.rounds.standing import ASK
from tests.unit.routers.rounds.recordings import Recording

pytest.importorskip("gymnasium", reason="gymnasium is not installed; it is no dependency")


@pytest.fixture(scope="module")
def held(made: Recording, trained: Trained) -> Ground:
    return prepared(made.recorded, made.vectors, trained.question, trained.unit, trained.policy.traits, "test")


@pytest.fixture
def rounds(held: Ground, trained: Trained) -> Any:
    return environment(held, trained.policy, Priced())


def test_gymnasium_finds_nothing_to_complain_of(rounds: Any) -> None:
    from gymnasium.utils.env_checker import check_env

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a Box is unbounded
        check_env(rounds, skip_render_check=True)


def test_an_episode_is_paid_at_its_end(rounds: Any, held: Ground) -> None:
    seen, told = rounds.reset(options={"row": 3, "weight": 0.25, "left": np.inf})
    assert seen.shape == (3, ASK)
    assert told["action_mask"].tolist() == [1, 1, 1, 0]
    _, reward, ended, cut, told = rounds.step(2)
    assert (reward, ended, cut) == (0.0, False, False)
    assert told["action_mask"].tolist() == [1, 1, 0, 1]
    _, reward, ended, _, told = rounds.step(3)
    assert ended
    assert told["paid"] == pytest.approx(held.paid[3, 2])
    assert reward == pytest.approx((held.scores[3, 2] - 0.25 * held.paid[3, 2]) / 1.25, abs=1e-6)
    with pytest.raises(ValueError, match="reset"):
        rounds.step(0)


def test_the_same_seed_draws_the_same_episodes(rounds: Any) -> None:
    first = [rounds.reset(seed=5)[0], rounds.reset()[0]]
    again = [rounds.reset(seed=5)[0], rounds.reset()[0]]
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


def test_what_must_not_be_done_ends_it(rounds: Any) -> None:
    rounds.reset(seed=0)
    assert rounds.step(3)[1:3] == (-1.0, True)

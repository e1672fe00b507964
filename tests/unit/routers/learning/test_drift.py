"""An alarm when prompts have changed, and hardly ever one when they have not."""

from __future__ import annotations

import numpy as np
import pytest

from routers.learning.drift import drift


def sample(count: int, seed: int, shift: float = 0.0, width: int = 16) -> np.ndarray:
    """Vectors of unit length about three topics; `shift` moves them."""
    rng = np.random.default_rng(seed)
    topics = np.random.default_rng(99).normal(size=(3, width))
    found = topics[rng.integers(3, size=count)] + rng.normal(scale=0.7, size=(count, width))
    found[:, 0] += shift
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def test_a_shift_raises_the_alarm() -> None:
    found = drift(sample(600, 0), sample(300, 1, shift=2.0))
    assert found["alarm"] is True
    assert found["statistic"] > 5 * found["level"]
    assert found["p_value"] == pytest.approx(1 / 201)
    assert found["psi"] > max(0.1, found["psi_level"])
    assert found["queries"] == [600, 300]


def test_the_topics_may_stay_and_their_shares_change() -> None:
    old, new = sample(900, 0), sample(900, 1)
    topic = np.argmax(new @ sample(3, 2).T, axis=1)
    found = drift(old, new[topic == 0])
    assert found["alarm"] is True
    assert found["psi"] > 0.25


def test_alarms_without_a_change_are_as_rare_as_promised() -> None:
    alarms = [drift(sample(150, 2 * seed), sample(100, 2 * seed + 1), alpha=0.1)["alarm"] for seed in range(25)]
    assert sum(alarms) <= 8, "2.5 of 25 are expected, more than 8 once in 2,000 times"


def test_cells_see_no_change_where_there_is_none_in_many_dimensions() -> None:
    rng = np.random.default_rng(0)
    found = drift(rng.normal(size=(1_000, 384)), rng.normal(size=(600, 384)))
    assert found["psi"] < found["psi_level"]


def test_the_same_arguments_give_the_same_answer_and_long_samples_are_drawn_from() -> None:
    old, new = sample(2_500, 0, width=8), sample(2_100, 1, width=8)
    assert drift(old, new) == drift(old, new)
    assert drift(old, new)["queries"] == [2_500, 2_100]


def test_vectors_that_are_all_alike_are_no_change() -> None:
    same = np.ones((40, 4))
    found = drift(same, same)
    assert found["alarm"] is False
    assert np.isfinite([found["statistic"], found["psi"]]).all()


@pytest.mark.parametrize(
    ("train", "new", "words"),
    [
        (np.ones((5, 4)), np.ones((40, 4)), "train: at least 20"),
        (np.ones((40, 4)), np.ones(40), "new: at least 20"),
        (np.ones((40, 4)), np.full((40, 4), np.nan), "new: a vector holds numbers that are not finite"),
        (np.ones((40, 4)), np.ones((40, 5)), "vectors of 4 and of 5"),
    ],
)
def test_what_cannot_be_compared_is_refused(train: np.ndarray, new: np.ndarray, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        drift(train, new)


@pytest.mark.parametrize("alpha", [0.0, 1.0, 0.001])
def test_an_alarm_level_that_permutations_cannot_tell_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha"):
        drift(np.ones((40, 4)), np.ones((40, 4)), alpha=alpha)

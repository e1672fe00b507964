"""Estimates from a log are right on average where the log's own mean is not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from routers.learning.off_policy import Logged, Predicted, off_policy

LOGGING = np.array([0.7, 0.2, 0.1])
COSTS = np.array([0.001, 0.004, 0.02])


class World:
    """Requests of two kinds. The policy that served liked the cheap model; the target sends the hard kind to the dear one."""

    def __init__(self, requests: int, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.hard = self.rng.random(requests) < 0.4
        self.quality = np.where(self.hard[:, None], [0.2, 0.5, 0.9], [0.8, 0.85, 0.9])
        self.target = np.where(self.hard[:, None], [0.0, 0.1, 0.9], [0.9, 0.1, 0.0])

    def log(self) -> Logged:
        chosen = self.rng.choice(3, size=len(self.hard), p=LOGGING)
        rows = np.arange(len(chosen))
        scores = (self.rng.random(len(chosen)) < self.quality[rows, chosen]).astype(np.float64)
        return Logged(chosen, LOGGING[chosen], scores, COSTS[chosen] * self.rng.uniform(0.9, 1.1, len(chosen)))

    @property
    def truth(self) -> tuple[float, float]:
        return float((self.target * self.quality).sum(axis=1).mean()), float((self.target * COSTS).sum(axis=1).mean())


def estimates(many: list[dict[str, Any]], side: str, kind: str) -> np.ndarray:
    return np.array([one[side][kind]["value"] for one in many])


def test_estimates_are_unbiased_where_the_naive_mean_is_not() -> None:
    world = World(400, 0)
    wrong = Predicted(np.full((400, 3), 0.6), np.tile(COSTS * 2, (400, 1)))
    many = [off_policy(world.log(), world.target, wrong) for _ in range(40)]
    for side, truth in zip(("score", "cost_usd"), world.truth, strict=True):
        for kind in ("ips", "dr"):
            found = estimates(many, side, kind)
            assert abs(found.mean() - truth) < 3 * found.std(ddof=1) / len(found) ** 0.5, (side, kind)
        naive = estimates(many, side, "naive")
        assert abs(naive.mean() - truth) > 30 * naive.std(ddof=1) / len(naive) ** 0.5
        snips = estimates(many, side, "snips")
        assert abs(snips.mean() - truth) < 0.05 * truth
    covered = [one["score"]["ips"]["interval_95"][0] <= world.truth[0] <= one["score"]["ips"]["interval_95"][1] for one in many]
    assert sum(covered) >= 32


def test_a_good_prediction_makes_doubly_robust_steadier() -> None:
    world = World(400, 1)
    right = Predicted(world.quality, np.tile(COSTS, (400, 1)))
    many = [off_policy(world.log(), world.target, right) for _ in range(15)]
    for side in ("score", "cost_usd"):
        assert estimates(many, side, "dr").std() < 0.7 * estimates(many, side, "ips").std()


def test_the_policy_that_served_is_worth_what_was_logged() -> None:
    logged = World(300, 2).log()
    found = off_policy(logged, np.tile(LOGGING, (300, 1)))
    assert found["effective_sample_size"] == pytest.approx(300)
    assert found["matched"] == 1.0
    for side, mean in (("score", logged.scores.mean()), ("cost_usd", logged.costs.mean())):
        assert set(found[side]) == {"ips", "snips", "naive"}
        for estimate in found[side].values():
            assert estimate["value"] == pytest.approx(mean)
            assert estimate["interval_95"][0] < mean < estimate["interval_95"][1]


def test_the_further_the_target_is_from_the_log_the_fewer_requests_count() -> None:
    world = World(300, 3)
    logged = world.log()
    sizes = [
        off_policy(logged, np.tile(share * np.array([0.0, 0.0, 1.0]) + (1 - share) * LOGGING, (300, 1)))["effective_sample_size"]
        for share in (0.0, 0.5, 1.0)
    ]
    assert sizes[0] > sizes[1] > sizes[2] == pytest.approx((logged.chosen == 2).sum())


def test_a_target_that_the_log_never_tried_has_no_value() -> None:
    logged = Logged(np.zeros(50, dtype=np.int64), np.full(50, 0.9), np.ones(50), np.ones(50))
    found = off_policy(logged, np.tile([0.0, 1.0], (50, 1)))
    assert (found["effective_sample_size"], found["matched"]) == (0.0, 0.0)
    assert np.isnan(found["score"]["snips"]["value"])


def wrong(column: str, place: int, value: float) -> Logged:
    logged = World(30, 4).log()
    changed = getattr(logged, column).copy()
    changed[place] = value
    return replace(logged, **{column: changed})


@pytest.mark.parametrize(
    ("logged", "words"),
    [
        (wrong("propensities", 3, 0.0), r"record 3 \(counted from 0\) has a propensity that is 0, unknown"),
        (wrong("propensities", 4, np.nan), "record 4 .* propensity"),
        (wrong("propensities", 0, 1.5), "record 0 .* propensity"),
        (wrong("chosen", 2, 3), "record 2 .* chose a model that is none of the 3"),
        (wrong("chosen", 2, -1), "record 2 .* chose a model"),
        (wrong("scores", 5, np.nan), "record 5 .* unknown score"),
        (wrong("costs", 5, np.inf), "record 5 .* unknown score or cost"),
    ],
)
def test_records_that_cannot_be_used_are_refused(logged: Logged, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        off_policy(logged, np.tile(LOGGING, (30, 1)))


def test_shapes_and_probabilities_have_to_fit() -> None:
    logged = World(30, 5).log()
    target = np.tile(LOGGING, (30, 1))
    nothing = Logged(np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0), np.zeros(0))
    for arguments, words in (
        ((logged, target * 0.5), "do not add up to 1"),
        ((logged, np.tile([1.5, -0.5, 0.0], (30, 1))), "do not add up to 1"),
        ((logged, target[:5]), "do not fit"),
        ((logged, target, Predicted(target[:, :2], target)), "do not fit"),
        ((nothing, target[:0]), "no request"),
    ):
        with pytest.raises(ValueError, match=words):
            off_policy(*arguments)

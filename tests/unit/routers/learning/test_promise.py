"""The promise on quality: kept as often as it says, worth something, and honest where nothing can be promised."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from routers.learning.promise import CAREFUL, Held, betting_p, binomial_p, chosen, holds, promise
from tests.outcome_tables import table

COSTS = np.array([1.0, 4.0, 20.0])
LADDER = (
    "Phi-3-mini-4k-instruct",
    "Llama-3.1-8B-Instruct",
    "mathstral-7B",
    "Mixtral-8x7B-Instruct-v0.1",
    "Yi-34B",
    "Qwen1.5-72B-Chat",
    "Llama-3.1-70B-Instruct",
    "gemini-1.5-pro-002",
)


class Population:
    """Questions on 12 topics, which three models master to different degrees, and a router that is wrong about them by topic."""

    def __init__(self) -> None:
        rng = np.random.default_rng(7)
        self.skill = np.clip(rng.beta(4, 3, (12, 1)) + np.array([-0.15, 0, 0.12]) + rng.normal(0, 0.08, (12, 3)), 0.02, 0.98)
        self.believed = np.clip(self.skill + rng.normal(0.03, 0.06, (12, 3)), 0.01, 0.99)
        self.spread = 0.05 + 0.03 * rng.random((12, 3))

    def draw(self, count: int, seed: int, graded: bool) -> Held:
        rng = np.random.default_rng(seed)
        topic = rng.integers(0, 12, count)
        skill = self.skill[topic]
        scores = rng.beta(4 * skill, 4 * (1 - skill)) if graded else (rng.random(skill.shape) < skill).astype(np.float64)
        return Held(self.believed[topic], self.spread[topic], scores, COSTS)

    def true_quality(self, q: float, z: float) -> tuple[float, float]:
        """Mean quality and cost over the whole population."""
        served = chosen(Held(self.believed, self.spread, self.skill, COSTS), q, z)
        return float(self.skill[np.arange(12), served].mean()), float(COSTS[served].mean())


@pytest.mark.parametrize(("q", "alpha", "graded"), [(0.55, 0.2, False), (0.55, 0.1, False), (0.55, 0.2, True)])
def test_a_promise_is_broken_no_more_often_than_it_says_and_saves_money(q: float, alpha: float, graded: bool) -> None:
    population, draws = Population(), 60
    made = [promise(population.draw(400, seed, graded), q, alpha) for seed in range(draws)]
    kept = [population.true_quality(q, one.z) for one in made if one.z is not None]
    broken = sum(quality < q for quality, _ in kept) / draws
    assert broken <= alpha + 2.5 * math.sqrt(alpha * (1 - alpha) / draws)
    assert len(kept) > 0.9 * draws
    always_best = population.true_quality(q, math.inf)[1]
    assert np.mean([cost for _, cost in kept]) < 0.6 * always_best


def test_what_cannot_be_kept_is_not_promised() -> None:
    held = Population().draw(400, 1, graded=False)
    best = held.scores[np.arange(400), chosen(held, 0.9, None)]
    found = promise(held, 0.9, 0.1)
    assert found.z is None
    assert found.quality == best.mean()
    assert promise(held, 1.0, 0.1).z is None
    few = promise(Held(held.mean[:5], held.spread[:5], np.ones((5, 3)), COSTS), 0.8, 0.1)
    assert few.z is None  # five right answers are too few to promise anything: 0.8 ** 5 = 0.33


def test_more_care_is_never_worse_for_a_bolder_promise() -> None:
    held = Population().draw(2000, 5, graded=False)
    sure, bold = promise(held, 0.55, 0.02), promise(held, 0.55, 0.3)
    assert sure.z is not None
    assert bold.z is not None
    assert bold.z <= sure.z
    assert bold.cost_usd <= sure.cost_usd


def test_the_rule() -> None:
    held = Held(np.array([[0.5, 0.7, 0.6]] * 2), np.array([[0.0, 0.1, 0.05], [0.3, 0.1, 0.05]]), np.ones((2, 3)), np.array([3.0, 9.0, 1.0]))
    assert chosen(held, 0.5, 0.0).tolist() == [2, 2]
    assert chosen(held, 0.57, 1.0).tolist() == [1, 1]
    assert chosen(held, 0.65, 1.0).tolist() == [1, 1]
    assert chosen(held, 0.9, -2.0).tolist() == [1, 0]
    assert chosen(held, 0.5, None).tolist() == [1, 1]
    assert chosen(held, 0.5, 0.0, (0, 1)).tolist() == [0, 0]


def test_the_most_careful_comes_first() -> None:
    assert CAREFUL[0] == math.inf
    assert list(CAREFUL) == sorted(CAREFUL, reverse=True)
    assert 0.0 in CAREFUL


@pytest.mark.parametrize(("successes", "trials", "q"), [(0, 9, 0.5), (5, 9, 0.5), (9, 9, 0.5), (30, 40, 0.6), (25, 40, 0.62)])
def test_the_binomial_tail(successes: int, trials: int, q: float) -> None:
    p = Fraction(q)
    exact = sum(math.comb(trials, k) * p**k * (1 - p) ** (trials - k) for k in range(successes, trials + 1))
    found = binomial_p(successes, trials, q)
    assert found >= float(exact) - 1e-12
    if successes > trials * q:
        assert found == pytest.approx(float(exact), rel=1e-9)


def test_bets_against_a_true_hypothesis_seldom_pay() -> None:
    rng = np.random.default_rng(3)
    for draw in (lambda: rng.beta(2, 2, 300), lambda: (rng.random(300) < 0.5).astype(float), lambda: rng.uniform(0.4, 0.6, 300)):
        lucky = np.mean([betting_p(draw(), 0.5, 0.1) <= 0.1 for _ in range(1000)])
        assert lucky <= 0.1 + 0.03
    # Where scores hardly vary a bet sees a small lead that coin tosses would hide.
    assert betting_p(rng.uniform(0.52, 0.6, 300), 0.5, 0.1) < 1e-3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": np.zeros(3)}, "mean has shape"),
        ({"mean": np.zeros((0, 3))}, "mean has shape"),
        ({"spread": np.zeros((2, 2))}, "spread has shape"),
        ({"costs": np.zeros(2)}, "costs has shape"),
        ({"scores": np.full((2, 3), np.nan)}, "scores holds numbers that are not finite"),
        ({"scores": np.full((2, 3), 1.5)}, "scores holds numbers outside"),
        ({"spread": np.full((2, 3), -0.1)}, "spread holds negative"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(change: dict[str, Any], message: str) -> None:
    good = Held(np.full((2, 3), 0.5), np.full((2, 3), 0.1), np.ones((2, 3)), COSTS)
    with pytest.raises(ValueError, match=message):
        replace(good, **change)


@pytest.mark.parametrize(("q", "alpha"), [(0.0, 0.1), (1.1, 0.1), (0.5, 0.0), (0.5, 1.0)])
def test_bounds(q: float, alpha: float) -> None:
    with pytest.raises(ValueError, match="must be above 0"):
        promise(Population().draw(10, 1, graded=False), q, alpha)


@pytest.fixture(scope="module")
def ladder() -> dict[str, Held]:
    """The pool mmlupro-ladder8, as a router sees it that knows each subject's means on train, and how few they were taken from."""
    columns = ["query_id", "dataset", "split", "model", "score", "cost_usd"]
    read = pq.read_table(table("mmlupro"), columns=columns, filters=[("model", "in", LADDER)])
    answers: dict[tuple[str, str, str], dict[str, tuple[float, float]]] = defaultdict(dict)
    for row in zip(*(read[name].to_pylist() for name in columns), strict=True):
        answers[row[:3]][row[3]] = row[4:]
    whole = {key: found for key, found in answers.items() if len(found) == len(LADDER)}
    scores = np.array([[found[name][0] for name in LADDER] for found in whole.values()])
    costs = np.array([[found[name][1] for name in LADDER] for found in whole.values()])
    datasets, splits = (np.array([key[place] for key in whole]) for place in (1, 2))
    train, mean, spread = splits == "train", np.zeros_like(scores), np.zeros_like(scores)
    for name in np.unique(datasets):
        known = scores[train & (datasets == name)]
        share = (known.sum(axis=0) + 1) / (len(known) + 2)
        mean[datasets == name], spread[datasets == name] = share, np.sqrt(share * (1 - share) / (len(known) + 3))
    means = costs[train].mean(axis=0)
    return {part: Held(mean[splits == part], spread[splits == part], scores[splits == part], means) for part in ("validation", "test")}


@pytest.mark.parametrize("alpha", [0.1, 0.2])
@pytest.mark.parametrize("q", [0.5, 0.6, 0.7])
def test_the_promise_holds_on_questions_of_real_models(ladder: dict[str, Held], q: float, alpha: float) -> None:
    made = promise(ladder["validation"], q, alpha)
    checked = holds(ladder["test"], q, made.z)
    assert checked.holds_within
    if q < 0.7:
        assert made.z is not None
        assert checked.holds
        assert checked.quality < q + 0.04
        assert checked.cost_usd < 0.55 * ladder["test"].costs.max()
    else:  # the best that this router does on validation is 0.694: nothing to promise
        assert made.z is None

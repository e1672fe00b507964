"""The budget: what is spent on average, and what that buys."""

from __future__ import annotations

import threading
from dataclasses import replace
from random import Random

import numpy as np
import pytest

from routers.api import Outcome, Preferences, RouteRequest, Scored
from routers.pickers.budget import Budget, price

REQUEST = RouteRequest()
PRICES = np.array([1e-5, 8e-5, 1e-3])
Table = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


def stream(count: int, seed: int = 3, steps: int = 0) -> tuple[Table, Table]:
    """Expected qualities and costs (USD) of three models on requests, (n, 3). `steps`: only so many different qualities."""
    rng = np.random.default_rng(seed)
    hard = rng.beta(2, 2, (count, 1))
    quality = np.clip(1 - hard * np.array([0.9, 0.6, 0.3]) + rng.normal(0, 0.05, (count, 3)), 0, 1)
    if steps:
        quality = np.round(quality * steps) / steps
    return quality, rng.lognormal(0, 0.5, (count, 1)) * PRICES


def scored(quality: Table, cost: Table) -> list[Scored]:
    found = [Scored(name, float(q), {}, float(q), float(c)) for name, q, c in zip("abc", quality, cost, strict=True)]
    return sorted(found, key=lambda one: -one.score)


def served(picker: Budget, quality: Table, cost: Table, bill: float = 1.0) -> tuple[Table, Table]:
    """Quality and cost of each request as it was served. `bill`: real cost over expected cost; the picker hears of it."""
    found = []
    for q, c in zip(quality, cost, strict=True):
        first = picker.pick(REQUEST, scored(q, c), Random(0))[0]
        paid = (first.cost_usd or 0.0) * bill
        if bill != 1.0:
            picker.observe(Outcome(REQUEST, first.name, None, paid, None, None, None))
        found.append((first.quality, paid))
    table = np.array(found, dtype=np.float64)
    return table[:, 0], table[:, 1]


def best_mix(quality: Table, cost: Table, spend: float) -> float:
    """What coins that do not look at the requests buy for that mean cost: two models at most."""
    q, c = quality.mean(axis=0), cost.mean(axis=0)
    found = [q[m] for m in range(3) if c[m] <= spend]
    for low in range(3):
        for high in range(3):
            if c[low] <= spend < c[high]:
                share = (spend - c[low]) / (c[high] - c[low])
                found.append(q[low] + share * (q[high] - q[low]))
    return float(max(found))


@pytest.mark.parametrize("target", [3e-5, 1e-4, 4e-4, 8e-4])
@pytest.mark.parametrize("steps", [0, 5])
def test_the_mean_cost_is_the_target_and_buys_more_than_any_fixed_mix(target: float, steps: int) -> None:
    quality, cost = stream(1000, steps=steps)
    got, paid = served(Budget(target, horizon=1000), quality, cost)
    assert paid.mean() == pytest.approx(target, rel=0.03)
    assert got.mean() > best_mix(quality, cost, float(paid.mean())) + 0.01


def test_it_is_near_what_one_who_knew_all_requests_would_reach() -> None:
    quality, cost = stream(3000)
    got, paid = served(Budget(2e-4, horizon=1000), quality, cost)
    known = price(quality, cost, float(paid.mean()))
    best = quality[np.arange(3000), np.argmax(quality - known * cost, axis=1)]
    assert got.mean() > best.mean() - 0.005


def test_a_shift_of_prices_is_followed() -> None:
    quality, cost = stream(3000)
    cost[1000:] *= 3
    _, paid = served(Budget(3e-4, horizon=1000), quality, cost)
    assert paid[:1000].mean() == pytest.approx(3e-4, rel=0.03)
    assert paid[1000:2000].mean() == pytest.approx(3e-4, rel=0.05)
    assert paid[2000:].mean() == pytest.approx(3e-4, rel=0.03)


def test_bills_that_differ_from_what_was_expected_are_learned() -> None:
    quality, cost = stream(3000)
    _, paid = served(Budget(3e-4, horizon=1000), quality, cost, bill=2.5)
    assert paid[1000:].mean() == pytest.approx(3e-4, rel=0.05)


def test_plenty_is_not_spent_for_its_own_sake_and_too_little_buys_the_cheapest() -> None:
    quality, cost = stream(300)
    rich = Budget(1.0, horizon=100)
    got, _ = served(rich, quality, cost)
    assert rich.price == 0.0
    assert got.mean() == quality.max(axis=1).mean()
    _, paid = served(Budget(1e-9, horizon=100), quality, cost)
    assert paid.mean() == cost.min(axis=1).mean()


def test_the_same_requests_get_the_same_choices() -> None:
    quality, cost = stream(500)
    first, second = (served(Budget(1e-4), quality, cost)[1] for _ in range(2))
    assert (first == second).all()
    assert not Budget(1e-4).deterministic


def test_what_is_unknown() -> None:
    picker = Budget(1e-4)
    a, b, c = Scored("a", 0.9, {}, 0.9, None), Scored("b", 0.5, {}, None, 1e-5), Scored("c", 0.4, {}, 0.4, 2e-5)
    assert [one.name for one in picker.pick(REQUEST, (a, b, c), Random(0))] == ["b", "c", "a"]
    nothing = (a, replace(b, cost_usd=None))
    assert picker.pick(REQUEST, nothing, Random(0)) == nothing
    no_quality = (replace(b, score=0.2), replace(c, quality=None, score=0.7))
    assert picker.pick(REQUEST, no_quality, Random(0))[0].name == "c"
    picker.observe(Outcome(REQUEST, "stranger", 1.0, 1.0, None, None, None))
    picker.observe(Outcome(REQUEST, "b", 1.0, None, None, None, None))


def test_what_a_request_asks_for_comes_first() -> None:
    picker = Budget(1e-6, horizon=20)
    ranked = (Scored("a", 0.9, {}, 0.9, 1e-3), Scored("b", 0.3, {}, 0.3, 1e-5))
    for _ in range(30):
        assert picker.pick(REQUEST, ranked, Random(0))[0].name in "ab"
    assert picker.pick(REQUEST, ranked, Random(0))[0].name == "b"
    picky = RouteRequest(preferences=Preferences(min_quality=0.8))
    assert [one.name for one in picker.pick(picky, ranked, Random(0))] == ["a", "b"]


def test_candidates_may_come_and_go() -> None:
    picker = Budget(1e-4, horizon=100)
    quality, cost = stream(200)
    for row, (q, c) in enumerate(zip(quality, cost, strict=True)):
        able = scored(q, c)[: 1 + row % 3]
        assert {one.name for one in picker.pick(REQUEST, able, Random(0))} == {one.name for one in able}


def test_threads_share_a_budget() -> None:
    picker = Budget(2e-4, horizon=1000)
    quality, cost = stream(1200)
    parts = [slice(start, 1200, 4) for start in range(4)]
    paid: list[float] = []
    threads = [threading.Thread(target=lambda part=part: paid.extend(served(picker, quality[part], cost[part])[1])) for part in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert np.mean(paid) == pytest.approx(2e-4, rel=0.03)

"""A quantile in fixed memory against the sorted list."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.quantile import Quantile


@given(st.lists(st.floats(0.002, 500), min_size=20, max_size=400), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_it_is_near_the_sorted_lists(seconds: list[float], share: float) -> None:
    quantile = Quantile(share)
    for one in seconds:
        quantile.add(one)
    ranked = sorted(seconds)
    exact = ranked[max(0, math.ceil(share * len(ranked) - 1e-9) - 1)]
    assert quantile.value == pytest.approx(exact, rel=0.05)


@pytest.mark.parametrize("share", [0.5, 0.95, 0.99])
def test_it_follows_what_changes(share: float) -> None:
    quantile, rng = Quantile(share), Random(1)
    for _ in range(20_000):
        quantile.add(rng.uniform(1.0, 2.0))
    before = quantile.value
    assert before is not None
    for _ in range(2_000):
        quantile.add(rng.uniform(0.01, 0.02))
    after = quantile.value
    assert after is not None
    assert 1.0 <= before <= 2.1
    assert 0.009 <= after <= 0.021


def test_nothing_is_said_from_little() -> None:
    quantile = Quantile(minimum=20)
    for _ in range(19):
        quantile.add(1.0)
    assert quantile.value is None
    quantile.add(1.0)
    assert quantile.value == pytest.approx(1.0, rel=0.05)


@pytest.mark.parametrize("odd", [0.0, 1e-9, 1e12, math.inf])
def test_its_ends(odd: float) -> None:
    quantile = Quantile(minimum=1)
    quantile.add(odd)
    assert quantile.value is not None
    assert 0 < quantile.value < 2000


def test_what_is_no_duration_is_left_out() -> None:
    quantile = Quantile(minimum=1)
    quantile.add(-1.0)
    quantile.add(math.nan)
    assert quantile.value is None

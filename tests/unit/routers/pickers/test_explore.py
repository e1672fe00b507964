"""Exploring: by how much, and with which chances."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routers.api import Choice, Pick, Preferences, RouteRequest, Scored
from routers.pickers import Weighted
from routers.pickers.explore import Explore
from routers.pipeline import decide
from tests.unit.routers.plugins import Clock, Picks, Says, candidate, policy

REQUEST = RouteRequest()
METHODS: list[Literal["thompson", "ucb", "uniform"]] = ["thompson", "ucb", "uniform"]


def ranked(*scores: float, spreads: tuple[float | None, ...]) -> list[Scored]:
    return [Scored("abcdef"[n], s, {}, s, 1e-4, u) for n, (s, u) in enumerate(zip(scores, spreads, strict=True))]


def test_thompson_chances_are_those_of_the_greatest_sample() -> None:
    found = ranked(0.7, 0.65, 0.6, 0.2, spreads=(0.02, 0.05, 0.2, 0.05))
    samples = np.random.default_rng(1).normal([0.7, 0.65, 0.6, 0.2], [0.02, 0.05, 0.2, 0.05], (400_000, 4))
    wanted = np.bincount(samples.argmax(axis=1), minlength=4) / 400_000
    assert Explore(1.0).chances(found) == pytest.approx(wanted, abs=0.004)


def test_thompson_of_two_is_the_normal_difference() -> None:
    from statistics import NormalDist

    chance = NormalDist().cdf(-0.1 / (0.1**2 + 0.05**2) ** 0.5)
    assert Explore(1.0).chances(ranked(0.6, 0.5, spreads=(0.1, 0.05)))[1] == pytest.approx(chance, abs=1e-3)


@settings(deadline=None, max_examples=60)
@given(
    share=st.floats(0.001, 1),
    method=st.sampled_from(METHODS),
    said=st.lists(st.tuples(st.floats(0, 1), st.none() | st.floats(0, 1)), min_size=1, max_size=6),
)
def test_chances_add_up_and_keep_to_the_share(
    share: float, method: Literal["thompson", "ucb", "uniform"], said: list[tuple[float, float | None]]
) -> None:
    said.sort(key=lambda one: -one[0])
    chances = Explore(share, method).chances(ranked(*(s for s, _ in said), spreads=tuple(u for _, u in said)))
    assert sum(chances) == pytest.approx(1, abs=1e-9)
    assert min(chances) >= 0
    assert sum(chances[1:]) <= share + 1e-9


@pytest.mark.parametrize("method", METHODS)
def test_what_is_logged_is_what_happens(method: Literal["thompson", "ucb", "uniform"]) -> None:
    picker, rng, found = Explore(0.3, method), Random(4), ranked(0.6, 0.55, 0.5, spreads=(0.05, 0.1, 0.2))
    picks = [picker.pick(REQUEST, found, rng) for _ in range(8000)]
    first = picks[0]
    assert isinstance(first, Pick)
    assert first.chances is not None
    counts = Counter(pick[0].name for pick in picks)
    for name, chance in first.chances.items():
        assert counts[name] / 8000 == pytest.approx(chance, abs=0.02)


def test_ucb_tries_the_one_that_could_be_best_and_nobody_else() -> None:
    assert Explore(0.1, "ucb").chances(ranked(0.6, 0.5, 0.4, spreads=(0.01, 0.02, 0.3))) == pytest.approx([0.9, 0, 0.1])
    assert Explore(0.1, "ucb").chances(ranked(0.6, 0.5, spreads=(0.2, 0.02))) == [1.0, 0.0]


def test_without_uncertainties_all_are_tried_alike() -> None:
    for method in METHODS:
        assert Explore(0.1, method).chances(ranked(0.6, 0.5, 0.1, spreads=(None,) * 3)) == pytest.approx([0.9, 0.05, 0.05])


def test_a_request_that_wants_quality_is_no_experiment_below_it() -> None:
    picky = RouteRequest(preferences=Preferences(min_quality=0.5))
    found = Explore(1.0, "uniform").pick(picky, ranked(0.7, 0.6, 0.4, spreads=(0.1, 0.1, 0.1)), Random(1))
    assert isinstance(found, Pick)
    assert found.chances == {"a": 0.0, "b": 1.0, "c": 0.0}


def choose(picker: object) -> Choice:
    chosen = policy(Says({"a": 0.9, "b": 0.5, "c": 0.1}), picker=picker)  # type: ignore[arg-type]
    return decide(chosen, REQUEST, [candidate(name) for name in "abc"], Random(2), Clock(), float("inf"))


def test_the_chances_reach_the_choice() -> None:
    choice = choose(Explore(0.4, "uniform"))
    chances = {scored.name: scored.propensity for scored in choice.ranking}
    assert chances == pytest.approx({"a": 0.6, "b": 0.2, "c": 0.2})
    assert not choice.errors
    drawn = choose(Weighted())
    assert {s.name: s.propensity for s in drawn.ranking} == pytest.approx({"a": 0.6, "b": 1 / 3, "c": 0.1 / 1.5})


def test_a_plain_sequence_has_no_propensity() -> None:
    choice = choose(Picks(lambda found: list(found)[::-1]))
    assert [(scored.name, scored.propensity) for scored in choice.ranking] == [("c", None), ("b", None), ("a", None)]


@pytest.mark.parametrize(
    "chances",
    [{"a": 0.5}, {"a": 1.5, "b": -0.5}, {"a": 0.5, "z": 0.5}, {"b": 1.0}, {"a": float("nan"), "b": 1.0}, {}],
)
def test_chances_that_cannot_be_are_the_pickers_error(chances: dict[str, float]) -> None:
    choice = choose(Picks(lambda found: Pick(found, chances)))
    assert choice.model == "a"
    assert choice.errors == {"picker": "returned chances that are none"}
    assert choice.ranking[0].propensity is None

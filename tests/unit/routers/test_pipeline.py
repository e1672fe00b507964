"""A policy decides: the best of what the filters leave, whatever its plugins do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import FrozenInstanceError, fields, replace
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routers.api import Budget, Candidate, Choice, Model, NoCandidate, Preferences, RouteRequest, Scored, Task, Transcript
from routers.expectation import expected_cost
from routers.filters import AllowList, MaxCost
from routers.filters import Budget as BudgetFilter
from routers.pickers import Best, Weighted
from routers.pipeline import SHORT, Policy, decide, default_choice
from routers.planners.single import Single
from routers.scorers.cost import Cost
from tests.unit.routers.plugins import FILTERS, NEVER, Clock, Picks, Rejects, Says, candidate, policy

NAMES = ("a", "b", "c", "d")
REQUEST = RouteRequest(prompt_tokens=100)
ALL = [candidate(name, price) for name, price in zip(NAMES, (4.0, 3.0, 2.0, 1.0), strict=True)]
UNIT = st.floats(0, 1)
ODD: st.SearchStrategy[Any] = st.one_of(st.floats(), st.sampled_from([None, "0.5", "much", math.nan, math.inf, -1, 7, b"1", [], True]))


def choose(chosen: Policy, request: RouteRequest = REQUEST, candidates: Sequence[Candidate] = ALL, seed: int = 0) -> Choice:
    return decide(chosen, request, candidates, Random(seed), Clock(), NEVER)


def order(choice: Choice) -> list[str]:
    return [scored.name for scored in choice.ranking]


@st.composite
def fleets(draw: st.DrawFn) -> list[Candidate]:
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    return [
        candidate(
            name,
            draw(st.none() | st.floats(0, 100)),
            context_window=draw(st.none() | st.integers(1, 1000)),
            healthy=draw(st.booleans()),
            answer_tokens=draw(st.none() | st.floats(0, 500)),
        )
        for name in names
    ]


preferences = st.builds(
    Preferences,
    models=st.none() | st.frozensets(st.sampled_from(NAMES)),
    exclude=st.frozensets(st.sampled_from(NAMES)),
    max_cost_usd=st.none() | st.floats(0, 0.1),
    min_quality=st.none() | UNIT,
    cost_weight=st.none() | st.floats(0, 3),
)
requests = st.builds(
    RouteRequest,
    prompt_tokens=st.integers(0, 2000),
    max_tokens=st.none() | st.integers(1, 500),
    n=st.integers(1, 3),
    preferences=preferences,
)
opinions = st.dictionaries(st.sampled_from((*NAMES, "stranger")), ODD) | st.none() | st.just([("a", 1.0)])


@given(fleets(), requests, st.lists(opinions, max_size=3), st.booleans(), st.integers())
def test_whatever_plugins_say_the_ranking_is_those_that_passed(
    fleet: list[Candidate], request: RouteRequest, said: list[Any], drawn: bool, seed: int
) -> None:
    chosen = policy(*(Says(opinion, predicts="quality") for opinion in said), picker=Weighted(2.0) if drawn else Best())
    passed = {one.name for one in fleet if all(rule.reject(request, one) is None for _, rule in FILTERS)}
    if not passed:
        with pytest.raises(NoCandidate) as none:
            choose(chosen, request, fleet, seed)
        assert set(none.value.rejected) == {one.name for one in fleet}
        return
    choice = choose(chosen, request, fleet, seed)
    assert sorted(order(choice)) == sorted(passed)
    assert set(choice.rejected) == {one.name for one in fleet} - passed
    for scored in choice.ranking:
        assert math.isfinite(scored.score)
        assert all(0 <= opinion <= 1 for opinion in scored.opinions.values())
        assert scored.quality is None or 0 <= scored.quality <= 1


@given(st.sampled_from(NAMES), st.sampled_from([math.nan, math.inf, -math.inf, np.float32("nan"), "1.0", None]))
def test_a_number_that_is_none_never_wins(name: str, odd: Any) -> None:
    good = {"a": 0.2, "b": 0.9, "c": 0.1, "d": 0.3}
    choice = choose(policy(Says(good), Says({name: odd}), weights=[1.0, 100.0]))
    assert choice.model == "b"
    assert set(choice.errors) == {"s1"}
    assert all("s1" not in scored.opinions for scored in choice.ranking)


@given(
    st.dictionaries(st.sampled_from(NAMES), UNIT, min_size=4), st.dictionaries(st.sampled_from(NAMES), UNIT, min_size=4), st.floats(0.1, 5)
)
def test_more_weight_never_hurts_the_favourite_of_a_scorer(first: dict[str, float], second: dict[str, float], more: float) -> None:
    favourite = max(first, key=lambda name: first[name])
    before = order(choose(policy(Says(first), Says(second), weights=[1.0, 1.0]))).index(favourite)
    after = order(choose(policy(Says(first), Says(second), weights=[1.0 + more, 1.0]))).index(favourite)
    ties = sum(value == first[favourite] for value in first.values()) > 1
    assert after <= before or ties


@given(st.permutations(ALL), st.dictionaries(st.sampled_from(NAMES), UNIT, min_size=4))
def test_the_order_of_candidates_does_not_decide(shuffled: list[Candidate], said: dict[str, float]) -> None:
    assert order(choose(policy(Says(said)), candidates=shuffled)) == order(choose(policy(Says(said))))


@pytest.mark.parametrize(
    ("opinion", "expected"),
    [
        (lambda *_: 1 / 0, "raised ZeroDivisionError"),
        (lambda _, candidates: setattr(candidates[0], "healthy", False), "raised FrozenInstanceError"),
        ({"stranger": 1.0}, "named a model that is no candidate"),
        ({1: 1.0}, "named a model that is no candidate"),
        ({"a": math.nan}, "returned a number that is not finite"),
        ({"a": "0.9"}, "returned a text instead of a number"),
        ({"a": None}, "raised TypeError"),
        (["a"], "returned no mapping"),
        (None, "returned no mapping"),
    ],
)
def test_a_scorer_that_breaks_loses_its_opinion_and_is_named(opinion: Any, expected: str) -> None:
    choice = choose(policy(Says(opinion), Says({"c": 1.0, "a": 0.5})))
    assert choice.errors == {"s0": expected}
    assert choice.model == "c"
    assert choice.reason == "best_score"


def test_opinions_are_clamped() -> None:
    choice = choose(policy(Says({"a": 7, "b": -3.0, "c": 0.5, "d": np.float32(0.25)})))
    assert {scored.name: dict(scored.opinions) for scored in choice.ranking} == {
        "a": {"s0": 1.0},
        "c": {"s0": 0.5},
        "d": {"s0": 0.25},
        "b": {"s0": 0.0},
    }


def test_no_opinion_on_a_model_is_neither_good_nor_bad() -> None:
    assert order(choose(policy(Says({"a": 1.0, "b": 0.2})))) == ["a", "d", "c", "b"]


def test_when_no_scorer_has_an_opinion_the_default_serves_then_the_cheapest() -> None:
    choice = choose(policy(Says({}), Says(None), default="b"))
    assert choice.reason == "no_opinion"
    assert order(choice) == ["b", "d", "c", "a"]


def test_a_default_that_was_rejected_does_not_serve() -> None:
    request = replace(REQUEST, preferences=Preferences(exclude=frozenset({"b"})))
    assert order(choose(policy(default="b"), request)) == ["d", "c", "a"]


def test_one_candidate_is_not_scored() -> None:
    request = replace(REQUEST, preferences=Preferences(models=frozenset({"c"})))
    choice = choose(policy(Says(lambda *_: pytest.fail("was asked"))), request)
    assert (choice.reason, choice.model, choice.errors) == ("only_candidate", "c", {})
    assert choice.rejected == dict.fromkeys("abd", "not_allowed")


def test_nobody_left_names_every_reason() -> None:
    fleet = [candidate("a", healthy=False), candidate("b", context_window=10), candidate("c", capabilities=frozenset())]
    with pytest.raises(NoCandidate) as caught:
        choose(policy(), candidates=fleet)
    assert caught.value.rejected == {"a": "unhealthy", "b": "context_length", "c": "no_capability"}
    assert str(caught.value) == "a: unhealthy; b: context_length; c: no_capability"


def test_a_filter_that_raises_rejects_nobody() -> None:
    chosen = policy(Says({"b": 1.0, "d": 0.0}), filters=[("odd", Rejects(lambda _: 1 / 0)), *FILTERS])
    choice = choose(chosen)
    assert (choice.model, choice.rejected) == ("b", {})
    assert choice.errors == {"odd": "raised ZeroDivisionError"}


@pytest.mark.parametrize(
    "way",
    [
        lambda _: 1 / 0,
        lambda _: None,
        lambda _: [],
        lambda ranked: ranked[:2],
        lambda ranked: [ranked[0]] * 4,
        lambda ranked: [*ranked, ranked[0]],
        lambda ranked: [scored.name for scored in ranked],
        lambda ranked: [replace(scored, score=9.0) for scored in ranked],
        lambda ranked: ranked.reverse(),
    ],
)
def test_a_picker_that_breaks_leaves_the_order_of_scores(way: Any) -> None:
    choice = choose(policy(Says({"a": 0.1, "b": 0.9, "c": 0.5, "d": 0.2}), picker=Picks(way)))
    assert order(choice) == ["b", "c", "d", "a"]
    assert set(choice.errors) == {"picker"}


def test_a_picker_may_change_the_order() -> None:
    choice = choose(policy(Says({"a": 0.1, "b": 0.9, "c": 0.5, "d": 0.2}), picker=Picks(lambda ranked: ranked[::-1])))
    assert (order(choice), choice.errors) == (["a", "d", "c", "b"], {})


def test_past_the_deadline_the_default_serves() -> None:
    asked: list[str] = []

    def ask(name: str) -> dict[str, float]:
        asked.append(name)
        return {"d": 1.0}

    slow = Says(lambda *_: ask("slow"))
    chosen = policy(slow, Says(lambda *_: ask("never")), default="b", filters=())
    choice = decide(chosen, REQUEST, ALL, Random(0), Clock(step=1.0), 2.0)
    assert (choice.reason, choice.model, asked) == ("deadline", "b", ["slow"])


def test_the_last_scorer_may_not_overrun_the_deadline_either() -> None:
    choice = decide(policy(Says({"d": 1.0}), default="b", filters=()), REQUEST, ALL, Random(0), Clock(step=1.0), 2.0)
    assert (choice.reason, choice.model) == ("deadline", "b")


def test_the_time_of_each_plugin_is_noted() -> None:
    choice = decide(policy(Says({"d": 1.0}), filters=FILTERS[1:2]), REQUEST, ALL, Random(0), Clock(step=0.5), NEVER)
    assert choice.plugin_seconds == {"capability": 0.5, "s0": 0.5, "picker": 0.5}


class Refuses:
    """Raises at one candidate, objects to another, and has nothing against the rest."""

    def __init__(self, raises: str, objects: str, idle: bool = False) -> None:
        self.raises, self.objects, self.idle = raises, objects, idle

    def reject(self, request: RouteRequest, candidate: Candidate) -> str | None:
        if candidate.name == self.raises:
            raise RuntimeError
        return "no_capability" if candidate.name == self.objects else None

    def is_idle(self, request: RouteRequest) -> bool:
        return self.idle


@pytest.mark.parametrize(("raises", "objects"), [("a", "b"), ("d", "a"), ("b", "d")])
def test_a_filter_that_raises_at_one_candidate_is_heard_on_the_others(raises: str, objects: str) -> None:
    choice = choose(policy(Says({"c": 1.0}), filters=[("odd", Refuses(raises, objects))]))
    assert choice.rejected == {objects: "no_capability"}
    assert choice.errors == {"odd": "raised RuntimeError"}
    assert set(order(choice)) == set(NAMES) - {objects}


def test_an_idle_filter_is_not_asked() -> None:
    choice = choose(policy(Says({"d": 1.0}), filters=[("odd", Refuses("a", "b", idle=True))]))
    assert (choice.rejected, choice.errors, "odd" in choice.plugin_seconds) == ({}, {}, False)


def test_an_idle_filter_would_object_to_nobody() -> None:
    requests = [
        REQUEST,
        replace(REQUEST, allowed=frozenset({"a"})),
        replace(REQUEST, budget_usd=0.0),
        replace(REQUEST, preferences=Preferences(models=frozenset({"b"}))),
        replace(REQUEST, preferences=Preferences(exclude=frozenset({"c"}))),
        replace(REQUEST, preferences=Preferences(max_cost_usd=0.0)),
    ]
    for rule in (AllowList(), MaxCost(), BudgetFilter()):
        idle = [rule.is_idle(request) for request in requests]
        assert any(idle)
        assert not all(idle)
        for request, is_idle in zip(requests, idle, strict=True):
            assert not is_idle or all(rule.reject(request, one) is None for one in ALL)


def test_a_request_is_the_same_but_for_what_is_read_of_it() -> None:
    vector = np.ones(3, dtype=np.float32)
    request = RouteRequest("completions", "", 7, 8, 2, frozenset({"tools"}), Preferences(cost_weight=0.5), None, frozenset({"a"}), 0.25)
    assert {field.name for field in fields(request) if getattr(request, field.name) == field.default} == {"text", "embedding"}
    assert request.reading("asked") == replace(request, text="asked")
    assert request.reading("asked", vector).embedding is vector
    assert replace(request.reading("asked", vector), embedding=None) == replace(request, text="asked")


def test_default_choice_keeps_the_filters() -> None:
    request = replace(REQUEST, preferences=Preferences(exclude=frozenset({"c"})))
    choice = default_choice(policy(default="c"), request, ALL, "deadline", Clock())
    assert (choice.reason, order(choice), choice.rejected) == ("deadline", ["d", "b", "a"], {"c": "not_allowed"})
    with pytest.raises(NoCandidate):
        default_choice(policy(), replace(REQUEST, needs=frozenset({"vision"})), ALL, "deadline", Clock())


def test_cost_weight_replaces_the_weight_of_the_cost_scorer() -> None:
    chosen = policy(Says({"a": 1.0, "b": 0.5, "c": 0.25, "d": 0.0}, predicts="quality"), Cost(), weights=[1.0, 0.0])
    assert choose(chosen).model == "a"
    assert choose(chosen, replace(REQUEST, preferences=Preferences(cost_weight=5.0))).model == "d"


def test_cost_weight_works_where_a_policy_has_no_cost_scorer() -> None:
    choice = choose(policy(Says({"a": 1.0, "d": 0.0})), replace(REQUEST, preferences=Preferences(cost_weight=5.0)))
    assert choice.model == "d"
    assert choice.ranking[0].opinions["cost"] == 1.0


def test_quality_is_the_weighted_mean_of_those_that_predict_it() -> None:
    chosen = policy(
        Says({"a": 1.0, "b": 0.2}, predicts="quality"), Says({"a": 0.4}, predicts="quality"), Says({"a": 0.0}), weights=[1.0, 3.0, 9.0]
    )
    quality = {scored.name: scored.quality for scored in choose(chosen).ranking}
    assert quality == {"a": pytest.approx(0.55), "b": pytest.approx(0.2), "c": None, "d": None}


def test_min_quality_goes_before_the_score() -> None:
    chosen = policy(Says({"a": 0.9, "b": 0.4, "c": 0.8, "d": 0.1}, predicts="quality"), Cost(), weights=[1.0, 10.0])
    assert order(choose(chosen)) == ["d", "c", "b", "a"]
    assert order(choose(chosen, replace(REQUEST, preferences=Preferences(min_quality=0.7)))) == ["c", "a", "d", "b"]


def test_every_candidate_has_its_expected_cost() -> None:
    choice = choose(policy(Says({"a": 1.0})), candidates=[*ALL, candidate("free", None)])
    assert {s.name: s.cost_usd for s in choice.ranking} == {c.name: expected_cost(REQUEST, c) for c in [*ALL, candidate("free", None)]}


def test_of_equals_the_cheaper_serves() -> None:
    assert order(choose(policy(Says(dict.fromkeys(NAMES, 0.5))))) == ["d", "c", "b", "a"]


def test_what_a_policy_says_of_itself() -> None:
    assert policy(Says({}), Says({}, needs=frozenset({"text"}))).needs == {"text"}
    assert policy(Says({})).instant
    assert not policy(Says({}), Says({}, instant=False)).instant
    assert not policy(Says({}), Says({}, instant=False)).at_once(REQUEST)
    assert policy(Says({})).at_once(replace(REQUEST, text="x" * 100_000))
    assert policy(Says({})).cacheable
    assert not policy(Says({}, needs=frozenset({"load"}))).cacheable
    assert not policy(Says({}), picker=Weighted()).cacheable


def test_a_scorer_that_wants_an_embedding_is_not_asked_without_one() -> None:
    choice = choose(policy(Says(lambda *_: pytest.fail("was asked"), needs=frozenset({"embedding"})), Says({"c": 1.0, "d": 0.0})))
    assert (choice.model, choice.errors) == ("c", {"s0": "there is no embedding"})


@pytest.mark.parametrize(
    ("encoder", "scorer", "text", "at_once"),
    [
        (True, True, "x" * SHORT, True),
        (True, True, "x" * (SHORT + 1), False),
        (True, False, "x", False),
        (False, True, "x", False),
    ],
)
def test_a_quick_policy_decides_at_once_on_short_texts(encoder: bool, scorer: bool, text: str, at_once: bool) -> None:
    reads, lengths = Says({}, needs=frozenset({"embedding"}), instant=False), Lengths()
    reads.quick, lengths.quick = scorer, encoder
    chosen = Policy("test", FILTERS, policy(reads, Says({})).scorers, Best(), Single(), "a", lengths)
    assert not chosen.instant
    assert chosen.at_once(replace(REQUEST, text=text)) is at_once


class Lengths:
    """Encodes a text as its length."""

    name = "lengths"
    hash = "0" * 64
    quick = False

    def encode(self, texts: Sequence[str]) -> Any:
        return np.array([[1.0 / len(text)] for text in texts], dtype=np.float32)


def test_the_encoder_runs_once_and_its_failure_costs_only_those_that_read_it() -> None:
    reads = Says(lambda request, _: {"c": float(request.embedding[0])}, needs=frozenset({"embedding"}), instant=False)
    chosen = Policy("test", FILTERS, policy(reads, Says({"b": 0.1})).scorers, Best(), Single(), "a", Lengths())
    assert chosen.instant is False
    seen = choose(chosen, replace(REQUEST, text="four"))
    assert next(s for s in seen.ranking if s.name == "c").opinions == {"s0": 0.25}
    assert "lengths" in seen.plugin_seconds
    broken = choose(chosen, replace(REQUEST, text=""))
    assert broken.errors == {"lengths": "raised ZeroDivisionError", "s0": "there is no embedding"}
    assert broken.reason == "best_score"


def test_a_choice_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        choose(policy()).ranking[0].score = 1.0  # type: ignore[misc]


def test_single_asks_once_with_the_whole_ranking() -> None:
    task = Task(REQUEST, [Scored("a", 1.0), Scored("b", 0.5)], {"a": Model("a"), "b": Model("b")})
    asks = Single().next(task, Transcript(), Budget())
    assert [(ask.models, ask.final) for ask in asks] == [(("a", "b"), True)]  # type: ignore[union-attr]

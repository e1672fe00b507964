"""Filters, pickers and the scorers that need no model of their own."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routers import cues
from routers.api import Candidate, Preferences, RouteRequest, Scored
from routers.expectation import expected_cost, expected_tokens_out
from routers.filters import AllowList, Capability, ContextWindow, Health, MaxCost
from routers.languages import language
from routers.pickers import Best, Weighted
from routers.registry import Registry
from routers.scorers.cost import Cost
from routers.scorers.load import Load
from routers.scorers.weights import Weights
from tests.unit.routers.plugins import candidate

TWO = (candidate("a"), candidate("b"))


def wishing(**wishes: Any) -> RouteRequest:
    return RouteRequest(prompt_tokens=1000, preferences=Preferences(**wishes))


@pytest.mark.parametrize(
    ("rule", "request_", "one", "expected"),
    [
        (AllowList(), wishing(), candidate("a"), None),
        (AllowList(), wishing(models=frozenset({"a"})), candidate("a"), None),
        (AllowList(), wishing(models=frozenset({"b"})), candidate("a"), "not_allowed"),
        (AllowList(), wishing(models=frozenset({"a"}), exclude=frozenset({"a"})), candidate("a"), "not_allowed"),
        (AllowList(), wishing(models=frozenset()), candidate("a"), "not_allowed"),
        (Capability(), RouteRequest(needs=frozenset({"tools"})), candidate("a"), "no_capability"),
        (Capability(), RouteRequest(needs=frozenset({"tools"})), candidate("a", capabilities=frozenset({"chat", "tools"})), None),
        (Capability(), RouteRequest("embeddings"), candidate("a"), "no_capability"),
        (Capability(), RouteRequest("embeddings"), candidate("a", capabilities=frozenset({"embeddings"})), None),
        (ContextWindow(), RouteRequest(prompt_tokens=100), candidate("a"), None),
        (ContextWindow(), RouteRequest(prompt_tokens=100), candidate("a", context_window=100), None),
        (ContextWindow(), RouteRequest(prompt_tokens=101), candidate("a", context_window=100), "context_length"),
        (ContextWindow(), RouteRequest(prompt_tokens=60, max_tokens=41), candidate("a", context_window=100), "context_length"),
        (MaxCost(), wishing(), candidate("a", None), None),
        (MaxCost(), wishing(max_cost_usd=1.0), candidate("a", None), "max_cost"),
        (MaxCost(), wishing(max_cost_usd=0.001256), candidate("a", 1.0), None),
        (MaxCost(), wishing(max_cost_usd=0.001255), candidate("a", 1.0), "max_cost"),
        (MaxCost(), wishing(max_cost_usd=0.0), candidate("a", 0.0), None),
        (Health(), RouteRequest(), candidate("a", healthy=False), "unhealthy"),
        (Health(), RouteRequest(), candidate("a"), None),
    ],
)
def test_filters(rule: Any, request_: RouteRequest, one: Candidate, expected: str | None) -> None:
    assert rule.reject(request_, one) == expected


@pytest.mark.parametrize(
    ("request_", "one", "tokens"),
    [
        (RouteRequest(), candidate("a"), 256),
        (RouteRequest(), candidate("a", answer_tokens=40.0), 40),
        (RouteRequest(max_tokens=10), candidate("a", answer_tokens=40.0), 10),
        (RouteRequest(max_tokens=100), candidate("a", answer_tokens=40.0), 40),
        (RouteRequest(max_tokens=10, n=3), candidate("a"), 30),
        (RouteRequest("embeddings"), candidate("a"), 0),
    ],
)
def test_expected_length_of_the_answer(request_: RouteRequest, one: Candidate, tokens: float) -> None:
    assert expected_tokens_out(request_, one) == tokens


def test_expected_cost_is_in_usd() -> None:
    assert expected_cost(RouteRequest(prompt_tokens=1000, max_tokens=500), candidate("a", 2.0, answer_tokens=900.0)) == pytest.approx(0.003)
    assert expected_cost(RouteRequest(), candidate("a", None)) is None


def test_cost_goes_from_the_cheapest_to_the_dearest() -> None:
    fleet = [candidate("a", 1.0), candidate("b", 3.0), candidate("c", 2.0), candidate("free", None)]
    assert Cost().score(RouteRequest(prompt_tokens=10), fleet) == {"a": 1.0, "b": 0.0, "c": pytest.approx(0.5)}
    assert Cost().score(RouteRequest(), [candidate("a", 2.0), candidate("b", 2.0)]) == {"a": 1.0, "b": 1.0}
    assert Cost().score(RouteRequest(), [candidate("a", None)]) == {}


def test_a_long_winded_model_is_dear() -> None:
    fleet = [candidate("brief", 2.0, answer_tokens=10.0), candidate("wordy", 1.0, answer_tokens=1000.0)]
    assert Cost().score(RouteRequest(prompt_tokens=10), fleet)["wordy"] == 0.0
    assert Cost().score(RouteRequest(prompt_tokens=10, max_tokens=10), fleet)["wordy"] == 1.0


@given(st.floats(0, 1e6), st.floats(0, 1e6))
def test_load_falls_and_stays_within_bounds(first: float, second: float) -> None:
    said = Load().score(RouteRequest(), [candidate("a", load=min(first, second)), candidate("b", load=max(first, second)), candidate("c")])
    assert 0 < said["b"] <= said["a"] <= 1
    assert "c" not in said


def test_load_is_a_half_at_half() -> None:
    assert Load(half=4.0).score(RouteRequest(), [candidate("a", load=4.0), candidate("b", load=0.0)]) == {"a": 0.5, "b": 1.0}


def test_weights_say_what_they_were_told() -> None:
    assert Weights({"a": 0.7, "gone": 1.0}).score(RouteRequest(), TWO) == {"a": 0.7}


RANKED = [Scored("a", 0.9), Scored("b", 0.3), Scored("c", 0.0)]


def test_best_keeps_the_order() -> None:
    assert list(Best().pick(RouteRequest(), RANKED, Random(1))) == RANKED


def test_weighted_draws_by_score_and_keeps_the_rest_in_order() -> None:
    rng = Random(7)
    picks = [[scored.name for scored in Weighted().pick(RouteRequest(), RANKED, rng)] for _ in range(2000)]
    assert {tuple(pick) for pick in picks} == {("a", "b", "c"), ("b", "a", "c")}
    assert Counter(pick[0] for pick in picks)["a"] == pytest.approx(1500, abs=100)


def test_a_sharp_draw_is_almost_best_and_scores_of_zero_are_no_draw() -> None:
    rng = Random(7)
    assert {Weighted(50.0).pick(RouteRequest(), RANKED, rng)[0].name for _ in range(500)} == {"a"}
    nothing = [Scored("a", 0.0), Scored("b", 0.0)]
    assert list(Weighted().pick(RouteRequest(), nothing, rng)) == nothing


def rules(*written: Mapping[str, object]) -> Any:
    return Registry().build("scorers", "rules", {"rules": list(written)})


def matches(when: Mapping[str, object], **request: Any) -> bool:
    said: Mapping[str, float] = rules({"when": when, "prefer": {"a": 1.0}}).score(RouteRequest(**request), TWO)
    assert said in ({}, {"a": 1.0, "b": 0.0})
    return bool(said)


@pytest.mark.parametrize(
    ("when", "request_", "expected"),
    [
        ({}, {}, True),
        ({"keywords": ["invoice"]}, {"text": "Please pay this INVOICE."}, True),
        ({"keywords": ["invoice"]}, {"text": "invoices"}, False),
        ({"keywords": ["c++", "go"]}, {"text": "a C++ question"}, True),
        ({"pattern": r"\b[A-Z]{2}\d{4}\b"}, {"text": "ticket AB1234"}, True),
        ({"pattern": r"\b[A-Z]{2}\d{4}\b"}, {"text": "ticket ab1234"}, False),
        ({"min_prompt_tokens": 100}, {"prompt_tokens": 100}, True),
        ({"min_prompt_tokens": 100}, {"prompt_tokens": 99}, False),
        ({"max_prompt_tokens": 100}, {"prompt_tokens": 101}, False),
        ({"code": True}, {"text": "def main():\n    return 1"}, True),
        ({"code": False}, {"text": "What is the capital of Peru?"}, True),
        ({"maths": True}, {"text": "Solve for x: 3x + 2 = 11"}, True),
        ({"json": True}, {"text": "Answer with a JSON object."}, True),
        ({"json": True}, {"needs": frozenset({"json_schema"})}, True),
        ({"tools": True}, {"needs": frozenset({"tools"})}, True),
        ({"tools": True}, {}, False),
        ({"tools": False}, {}, True),
        ({"language": ["de", "fr"]}, {"text": "Wie ist das Wetter und was soll ich anziehen?"}, True),
        ({"language": ["de"]}, {"text": "What is the weather and what should I wear?"}, False),
        ({"code": True, "min_prompt_tokens": 50}, {"text": "def f(x):", "prompt_tokens": 10}, False),
    ],
)
def test_conditions_of_rules(when: Mapping[str, object], request_: dict[str, Any], expected: bool) -> None:
    assert matches(when, **request_) is expected


def test_the_first_rule_that_matches_speaks() -> None:
    written = rules({"when": {"code": True}, "prefer": {"a": 0.9}}, {"prefer": {"b": 0.6, "elsewhere": 1.0}})
    assert written.score(RouteRequest(text="import numpy"), TWO) == {"a": 0.9, "b": 0.0}
    assert written.score(RouteRequest(text="hello"), TWO) == {"a": 0.0, "b": 0.6}


@pytest.mark.parametrize("pattern", [r"^(a+)+$", r"(a|aa)+$", r"(.*a){20}$"])
@pytest.mark.parametrize("length", [40, 19_000])
def test_a_pattern_that_never_ends_is_no_match_soon(pattern: str, length: int) -> None:
    text = "a" * length + "!"
    started = time.perf_counter()
    assert matches({"pattern": pattern}, text=text) is False
    assert time.perf_counter() - started < 0.25


def test_many_patterns_that_never_end_take_no_longer_than_a_few() -> None:
    endless = [{"when": {"pattern": r"^(a+)+$"}, "prefer": {"a": 1.0}} for _ in range(300)]
    written = rules(*endless, {"prefer": {"b": 1.0}})
    started = time.perf_counter()
    assert written.score(RouteRequest(text="a" * 40 + "!"), TWO) == {"a": 0.0, "b": 1.0}
    assert time.perf_counter() - started < 0.25


def test_keywords_are_looked_for_in_the_first_20_000_characters() -> None:
    assert matches({"keywords": ["needle"]}, text="x " * 9_990 + "needle")
    assert not matches({"keywords": ["needle"]}, text="x " * 10_001 + "needle")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("What is the weather like, and is it warm?", "en"),
        ("Wie ist das Wetter und ist es warm?", "de"),
        ("Quel est le temps et pourquoi fait-il chaud dans la ville ?", "fr"),
        ("¿Cómo está el tiempo y por qué es la ciudad del sol?", "es"),
        ("Как сегодня погода в Москве?", "ru"),
        ("今天天气怎么样", "zh"),
        ("今日の天気はどうですか", "ja"),
        ("오늘 날씨 어때요", "ko"),
        ("ما هو الطقس اليوم", "ar"),
        ("आज मौसम कैसा है", "hi"),
        ("12345", "other"),
        ("", "other"),
    ],
)
def test_languages(text: str, expected: str) -> None:
    assert language(text) == expected


@given(st.text(max_size=3000))
def test_cues_take_any_text(text: str) -> None:
    told = (cues.is_code(text), cues.is_maths(text), cues.asks_for_json(text))
    assert set(told) <= {True, False}
    assert language(text) == "other" or len(language(text)) == 2


@pytest.mark.parametrize("hostile", ["SELECT " * 3000, "1 " + " " * 20_000, '{"' + "a" * 20_000, "return " * 4000, "\\" * 20_000])
def test_cues_are_quick_on_hostile_texts(hostile: str) -> None:
    started = time.perf_counter()
    said: Sequence[bool] = [cues.is_code(hostile), cues.is_maths(hostile), cues.asks_for_json(hostile)]
    assert time.perf_counter() - started < 0.1
    assert len(said) == 3

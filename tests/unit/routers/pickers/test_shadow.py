"""The shadow: another picker's choice on record, at no risk to the one that serves."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import pytest

from routers.api import Choice, Outcome, Pick, Picker, RouteRequest, Scored
from routers.pickers import Best
from routers.pickers.budget import Budget
from routers.pickers.explore import Explore
from routers.pickers.shadow import Shadow
from routers.pipeline import decide, tell
from routers.registry import BadPlugin, Registry
from tests.unit.routers.plugins import Clock, Picks, Says, candidate, policy

REQUEST = RouteRequest()


def choose(picker: Picker) -> Choice:
    chosen = policy(Says({"a": 0.9, "b": 0.5}), picker=picker)
    return decide(chosen, REQUEST, [candidate("a"), candidate("b")], Random(2), Clock(), float("inf"))


def backwards(found: Sequence[Scored]) -> list[Scored]:
    return list(found)[::-1]


def test_one_serves_and_the_other_is_on_record() -> None:
    choice = choose(Shadow(Best(), Picks(backwards)))
    assert (choice.model, choice.shadow, choice.errors) == ("a", "b", {})
    assert "shadow" in choice.plugin_seconds


def test_the_chances_of_the_one_that_serves_stay() -> None:
    choice = choose(Shadow(Explore(0.2, "uniform"), Best()))
    assert {scored.name: scored.propensity for scored in choice.ranking} == pytest.approx({"a": 0.8, "b": 0.2})
    assert choice.shadow == "a"


def breaks(found: Sequence[Scored]) -> Any:
    raise RuntimeError("no")


@pytest.mark.parametrize(
    ("way", "error"),
    [
        (breaks, "raised RuntimeError"),
        (lambda found: found[:1], "returned something else than the candidates"),
        (lambda found: Pick(found, {"b": 1.0}), "returned chances that are none"),
    ],
)
def test_a_broken_shadow_costs_the_request_nothing(way: Any, error: str) -> None:
    choice = choose(Shadow(Picks(backwards), Picks(way)))
    assert (choice.model, choice.shadow) == ("b", None)
    assert choice.errors == {"shadow": error}


def test_it_is_as_deterministic_as_its_parts_and_learns_if_they_do() -> None:
    assert Shadow(Best(), Best()).deterministic
    assert not Shadow(Best(), Explore()).deterministic
    assert policy(Says({}), picker=Shadow(Best(), Best())).learners == ()
    learning = policy(Says({}), picker=Shadow(Best(), Budget(1e-4)))
    assert [name for name, _ in learning.learners] == ["picker"]
    assert tell(learning, Outcome(REQUEST, "a", 1.0, 1e-3, None, None, None)) == {}


def test_its_parts_are_configured_like_any_picker() -> None:
    built = Registry().build("pickers", "shadow", {"serve": {"type": "best"}, "shadow": {"type": "explore", "share": 0.5}})
    assert isinstance(built, Shadow)
    assert not built.deterministic
    nested = {"serve": {"type": "best"}, "shadow": {"type": "shadow", "serve": {"type": "best"}, "shadow": {"type": "best"}}}
    assert isinstance(Registry().build("pickers", "shadow", nested), Shadow)


@pytest.mark.parametrize(
    ("options", "path", "message"),
    [
        ({"serve": {"type": "best"}}, ("shadow",), "is required"),
        ({"serve": "best", "shadow": {"type": "best"}}, ("serve",), "must be a picker: {type: …}"),
        ({"serve": {"type": "best"}, "shadow": {"share": 1}}, ("shadow",), "must be a picker: {type: …}"),
        ({"serve": {"type": "bets"}, "shadow": {"type": "best"}}, ("serve", "type"), "did you mean 'best'?"),
        ({"serve": {"type": "best"}, "shadow": {"type": "explore", "share": 2}}, ("shadow", "share"), "less than or equal to 1"),
        ({"serve": {"type": "best", "x": 1}, "shadow": {"type": "best"}}, ("serve", "x"), "takes no parameters"),
    ],
)
def test_bad_parts_are_named_by_their_place(options: dict[str, object], path: tuple[str, ...], message: str) -> None:
    with pytest.raises(BadPlugin) as caught:
        Registry().build("pickers", "shadow", options)
    assert caught.value.path == path
    assert message in caught.value.message

"""The section `residency` of the configuration: what is refused, where, and in which words."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from pydantic import ValidationError

from backends.residency.policies.cost_aware import CostAware
from backends.residency.policies.pinned import Pinned
from gateway.build_residency import build_group
from gateway.sections.models import ModelSection
from gateway.sections.residency import ResidencySection, contradictions

MODELS = [ModelSection(name=name, backends=[f"http://gpu:800{number}/v1"]) for number, name in enumerate("abcd")]
SHARED = [ModelSection(name=name, backends=["http://gpu:8000/v1"]) for name in "abcd"]
FOUND = [*MODELS[:3], ModelSection.model_validate({"name": "d", "discovery": {"type": "file", "path": "d.yaml"}})]


def problems(*groups: dict[str, Any], models: list[ModelSection] = MODELS) -> list[tuple[str, str]]:
    sections = [ResidencySection.model_validate({"models": ["a", "b", "c"], "capacity": 2, **group}) for group in groups]
    return [(".".join(map(str, path)), message) for path, message in contradictions(sections, models)]


@pytest.mark.parametrize(
    ("group", "path", "message"),
    [
        ({"models": ["a", "b", "cc"]}, "residency.0.models.2", "no model named 'cc', did you mean 'c'?"),
        ({"models": ["a", "b", "a"]}, "residency.0.models.2", "'a' is named twice"),
        ({"sizes": {"b": 3}}, "residency.0.capacity", "is less than 'b' takes (3), so that it could never wake"),
        ({"sizes": {"d": 3}}, "residency.0.sizes.d", "'d' is not among the group's models"),
        ({"pinned": ["d"]}, "residency.0.pinned.0", "'d' is not among the group's models"),
        ({"pinned": ["a", "b", "c"]}, "residency.0.pinned", "take 3 together, more than `capacity` (2)"),
        ({"pinned": ["a", "b"]}, "residency.0.pinned", "leave 0 of `capacity`, and 'c' takes 1: it could never wake"),
        ({"policy": {"type": "pinned"}}, "residency.0.policy.type", "needs models in `pinned`"),
        ({"how": "lora", "paths": {"a": "/a", "b": "/b"}}, "residency.0.paths", "says nothing of 'c'"),
        ({"how": "lora", "level": 1, "paths": dict.fromkeys("abc", "/x")}, "residency.0.level", "is of sleep mode; adapters have none"),
        ({"paths": {"a": "/a"}}, "residency.0.paths", "are of adapters, and need `how: lora`"),
        ({"min_stay_seconds": 40}, "residency.0.min_stay_seconds", "is more than `max_wait_seconds` (30)"),
        ({"retry_seconds": 90}, "residency.0.retry_seconds", "is more than `max_retry_seconds` (60)"),
    ],
)
def test_what_cannot_hold_is_refused_with_its_path(group: dict[str, Any], path: str, message: str) -> None:
    assert problems(group) == [(path, message)]


def test_a_model_is_in_one_group() -> None:
    assert problems({}, {"models": ["c", "d"], "capacity": 1}) == [("residency.1.models.0", "'c' is in another group already")]


def test_servers_sleep_as_a_whole_and_must_be_known() -> None:
    [first, second] = problems({}, models=SHARED)
    assert first == ("residency.0.models.1", "'b' and 'a' are on one server, which can only sleep as a whole")
    assert second[0] == "residency.0.models.2"
    assert problems({"how": "lora", "paths": dict.fromkeys("abc", "/x")}, models=SHARED) == []
    [found] = problems({"models": ["a", "d"], "capacity": 1}, models=FOUND)
    assert found[0] == "residency.0.models.1"
    assert "discovery" in found[1]


@pytest.mark.parametrize(
    "group",
    [{"capacity": 0}, {"models": ["a"]}, {"level": 3}, {"how": "magic"}, {"policy": {"type": "fifo"}}, {"sizes": {"a": 0}}, {"color": 1}],
)
def test_what_no_section_may_say(group: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ResidencySection.model_validate({"models": ["a", "b"], "capacity": 1, **group})


def test_a_group_is_as_the_section_says() -> None:
    section = ResidencySection.model_validate(
        {
            "models": ["a", "b", "c"],
            "capacity": 24,
            "sizes": {"a": 16, "b": 8, "c": 8},
            "pinned": ["b"],
            "level": 2,
            "seconds": {"sleep": 3},
        }
    )
    assert isinstance(section.policy.build(), CostAware)
    group = build_group(section, lambda: 0.0, Random(0))
    assert (group.capacity, group.rules.level, group.rules.max_wait) == (24, 2, 30)
    assert {r.name: (r.size, r.expert.pinned, r.costs.down) for r in group.residents.values()} == {
        "a": (16, False, 3),
        "b": (8, True, 3),
        "c": (8, False, 3),
    }
    pinned = ResidencySection.model_validate({"models": ["a", "b"], "capacity": 1, "pinned": ["a"], "policy": {"type": "pinned"}})
    assert isinstance(pinned.policy.build(), Pinned)

"""Plugins are found, checked against their own constructor, and built."""

from __future__ import annotations

import subprocess
import sys
from typing import Annotated, Any

import pytest
from pydantic import Field

from routers.families import FAMILIES
from routers.pickers import Weighted
from routers.registry import BadPlugin, Kind, Registry
from routers.scorers.cost import Cost

BUILT_IN = {
    "filters": {"allow_list", "capability", "context_window", "health", "max_cost"},
    "scorers": {"cost", "load", "rules", "weights", *FAMILIES},
    "pickers": {"best", "budget", "explore", "shadow", "threshold", "weighted"},
    "planners": {"single"},
}


class Guest:
    """Comes from elsewhere.

    With a second paragraph.
    """

    def __init__(self, size: Annotated[int, Field(gt=0)], tags: list[str] | None = None) -> None:
        if size == 13:
            raise ValueError("13 is unlucky")
        self.size = size
        self.tags = tags


class Missing:
    """Needs a package that nobody has."""

    def __init__(self) -> None:
        import no_such_package_anywhere  # type: ignore[import-not-found]  # noqa: F401


@pytest.fixture
def registry() -> Registry:
    return Registry({("scorers", "guest"): Guest, ("scorers", "missing"): Missing})


@pytest.mark.parametrize("kind", BUILT_IN)
def test_built_in_plugins_are_installed(kind: Kind) -> None:
    assert set(Registry().names(kind)) >= BUILT_IN[kind]


def test_a_plugin_is_built_from_its_options(registry: Registry) -> None:
    assert isinstance(registry.build("scorers", "cost", {}), Cost)
    assert isinstance(registry.build("pickers", "weighted", {"sharpness": 3}), Weighted)
    guest = registry.build("scorers", "guest", {"size": 2, "tags": ["x"]})
    assert (guest.size, guest.tags) == (2, ["x"])


def rule(**when: Any) -> dict[str, Any]:
    return {"rules": [{"when": when, "prefer": {"a": 1.0}}]}


@pytest.mark.parametrize(
    ("kind", "name", "options", "path", "message"),
    [
        ("scorers", "costs", {}, (), "did you mean 'cost'?"),
        ("scorers", "nothing-like-it", {}, (), "known: adapter, blend,"),
        ("planners", "cost", {}, (), "no planner named 'cost'"),
        ("scorers", "cost", {"answer_token": 3}, ("answer_token",), "did you mean 'answer_tokens'?"),
        ("scorers", "cost", {"answer_tokens": 0}, ("answer_tokens",), "greater than 0"),
        ("scorers", "cost", {"answer_tokens": "many"}, ("answer_tokens",), "number"),
        ("filters", "health", {"strict": True}, ("strict",), "takes no parameters"),
        ("scorers", "weights", {}, ("models",), "is required"),
        ("scorers", "weights", {"models": {"a": 1.5}}, ("models", "a"), "less than or equal to 1"),
        ("scorers", "weights", {"models": {"a": float("nan")}}, ("models", "a"), "less than or equal to 1"),
        ("pickers", "weighted", {"sharpness": -1}, ("sharpness",), "greater than 0"),
        ("pickers", "weighted", {"sharpness": float("inf")}, ("sharpness",), "less than or equal to 100"),
        ("scorers", "rules", {"rules": []}, ("rules",), "at least 1"),
        ("scorers", "rules", rule(pattern="(unclosed"), ("rules", 0, "when", "pattern"), "regular expression"),
        ("scorers", "rules", rule(keyword=["x"]), ("rules", 0, "when", "keyword"), "not permitted"),
        ("scorers", "rules", rule(keywords=[]), ("rules", 0, "when", "keywords"), "at least 1"),
        ("scorers", "rules", {"rules": [{"when": {}, "prefer": {}}]}, ("rules", 0, "prefer"), "at least 1"),
        ("scorers", "rules", {"rules": [{"prefer": {"a": 2}}]}, ("rules", 0, "prefer", "a"), "less than or equal to 1"),
        ("scorers", "knn", {}, ("artifact",), "is required"),
        ("scorers", "knn", {"artifact": "/nowhere/at/all"}, ("artifact",), "manifest.json cannot be read"),
        ("scorers", "guest", {"size": 13}, (), "13 is unlucky"),
        ("scorers", "guest", {"size": 1, "tags": "x"}, ("tags",), "list"),
        ("scorers", "missing", {}, (), "needs no_such_package_anywhere"),
    ],
)
def test_bad_configurations(
    registry: Registry, kind: Kind, name: str, options: dict[str, object], path: tuple[str | int, ...], message: str
) -> None:
    with pytest.raises(BadPlugin) as caught:
        registry.build(kind, name, options)
    assert caught.value.path == path
    assert message in caught.value.message
    assert (caught.value.kind, caught.value.name) == (kind, name)


def test_plugins_describe_themselves(registry: Registry) -> None:
    described = {(one.kind, one.name): one for one in registry.describe()}
    guest = described["scorers", "guest"]
    assert guest.summary == "Comes from elsewhere."
    assert [(p.name, p.required, p.default) for p in guest.parameters] == [("size", True, None), ("tags", False, None)]
    assert described["scorers", "knn"].source == "pointsman"
    assert [name for (_, name), one in described.items() if one.problem or not one.summary] == []


def test_what_is_not_used_is_not_imported() -> None:
    code = (
        "import sys; from routers.registry import Registry; r = Registry(); r.build('scorers', 'cost', {}); "
        "print([m for m in ('numpy', 'onnxruntime', 'tokenizers', 'regex') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"

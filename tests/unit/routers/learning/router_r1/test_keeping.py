"""What a run leaves: a folder that a server and the planner read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("safetensors", reason="the extra `embed` is not installed")

from routers.api import Ask, Model, Price, Turn
from routers.artifacts import BadArtifact, Origin, load, write
from routers.learning.router_r1.course import Course, Point, read_curve
from routers.learning.router_r1.keeping import keep, report
from routers.planners.router_r1 import RouterR1, wording
from routers.planners.router_r1.learned import KIND, Learned
from routers.registry import BadPlugin, Registry
from tests.unit.routers.planners.playing import play, task

REGISTRY = Registry({("planners", "router_r1"): RouterR1})
NOW = datetime(2026, 1, 1, tzinfo=UTC)
COURSE = Course("models/tiny", steps=12, max_asks=2, policy_tokens=80, expert_tokens=200)
CURVE = [Point(step, -1 + step / 6, step / 12, 0.0, 0.5, 1.0, 1e-5, 40.0, 9.0, 0.1, 0.0, 1.0) for step in range(1, 13)]


def weights(text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "model.safetensors").write_text(text) and None


def kept(folder: Path) -> Path:
    keep(folder, weights("w"), COURSE, ["large", "small"], CURVE, "sha", NOW)
    return folder


def planner(**options: Any) -> RouterR1:
    found: RouterR1 = REGISTRY.build("planners", "router_r1", {"policy_model": "policy", **options})
    return found


def other(folder: Path, **change: object) -> Path:
    """An artifact whose settings were changed."""
    settings = {**Learned(2, 80, 200).settings(), **change}
    write(folder, Origin(str(change.pop("kind", KIND)), ["large"], "sha", NOW), {}, settings)
    return folder


def test_weights_artifact_curve_and_report_lie_together(tmp_path: Path) -> None:
    folder = kept(tmp_path / "r1")
    assert (folder / "model.safetensors").read_text() == "w"
    assert read_curve(folder / "curve.jsonl") == CURVE
    manifest = load(folder, KIND).manifest
    assert (manifest.models, manifest.data_hash) == (("large", "small"), "sha")
    assert manifest.metrics["format"] == pytest.approx(sum(range(3, 13)) / 120)
    assert load(folder).settings["policy"] == "tiny", "where it lay on a machine is nobody's business"
    assert [path.name for path in tmp_path.iterdir()] == ["r1"]


def test_another_run_replaces_it_and_nothing_else_is_touched(tmp_path: Path) -> None:
    folder = kept(tmp_path / "r1")
    keep(folder, weights("new"), COURSE, ["large"], CURVE, "sha", NOW)
    assert (folder / "model.safetensors").read_text() == "new"
    (tmp_path / "mine").mkdir()
    with pytest.raises(BadArtifact, match="is no artifact"):
        kept(tmp_path / "mine")

    def fails(folder: Path) -> None:
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        keep(folder, fails, COURSE, ["large"], CURVE, "sha", NOW)
    assert (folder / "model.safetensors").read_text() == "new"


def test_the_report_draws_what_is_known(tmp_path: Path) -> None:
    page = report(CURVE, COURSE)
    assert page.count("<polyline") == 8
    assert "tiny: 12 steps of 64 episodes" in page
    assert "http" not in page
    assert report(CURVE[:1], COURSE).count("<polyline") == 8
    assert "<polyline" not in report([], COURSE)


def test_the_planner_keeps_to_what_the_policy_was_trained_for(tmp_path: Path) -> None:
    folder = kept(tmp_path / "r1")
    found = planner(artifact=str(folder))
    assert found.artifact_hash == load(folder).hash
    says = {"policy": ["<search>small: a", "<search>small: a", "b"], "small": "x"}
    played = play(found, task(text="?"), says)
    assert [ask.max_tokens for ask in played.asks] == [80, 200, 80, 200, 80]
    assert "at most 2 times" in (played.asks[0].prompt or (("", ""),))[0][1]
    fewer = play(planner(artifact=str(folder), max_asks=1, policy_tokens=50), task(text="?"), says)
    assert [ask.max_tokens for ask in fewer.asks] == [50, 200, 50]


def test_without_an_artifact_the_usual_bounds_hold() -> None:
    played = play(planner(), task(text="?"), {"policy": ["<search>small: a"] * 4 + ["b"], "small": "x"})
    assert [ask.max_tokens for ask in played.asks] == [600, 1024] * 4 + [600]
    assert planner().artifact_hash == ""


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"wording": 0}, "wording 0 of the prompt, and this is wording"),
        ({"wording": None}, "trained on wording None"),
        ({"tags": ["think", "search", "answer"]}, "other tags"),
        ({"max_asks": 0}, "max_asks must be a whole number from 1 to 16"),
        ({"policy_tokens": "80"}, "policy_tokens must be a whole number"),
        ({"kind": "rl_rounds"}, "kind is 'rl_rounds'"),
    ],
)
def test_an_artifact_that_does_not_fit_is_refused(tmp_path: Path, change: dict[str, object], why: str) -> None:
    with pytest.raises(BadPlugin, match=why) as refused:
        planner(artifact=str(other(tmp_path / "r1", **change)))
    assert refused.value.path == ("artifact",)


def test_more_asks_than_it_was_trained_with_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadPlugin, match="trained to ask at most 2 times") as refused:
        planner(artifact=str(kept(tmp_path / "r1")), max_asks=3)
    assert refused.value.path == ("max_asks",)
    with pytest.raises(BadPlugin, match=r"manifest\.json cannot be read"):
        planner(artifact=str(tmp_path / "none"))


def test_the_wording_is_counted_up_where_it_changes() -> None:
    """If this fails, policies would read other words than those that they were trained on: count WORDING up, and note the new mark."""
    model = Model("a", Price(1, 2, request=0.1), 100, description="one.")
    turn = Turn(Ask(("small",)), "small", None, None, 0.0)
    said = [
        wording.opening("Why?", [model, Model("b", Price(0, 0, request=0.1)), Model("c", Price(0, 0))], 2),
        wording.opening("Why?", [model], 1),
        *(wording.information(turn), wording.refusal("d", ["a"]), wording.too_dear("a"), wording.complaint("it is broken")),
    ]
    assert (wording.WORDING, hashlib.sha256(json.dumps(said).encode()).hexdigest()[:12]) == (1, "4948c7415aec")

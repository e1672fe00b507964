"""The threshold: the cheapest that is good enough, by a calibration from an artifact."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from random import Random

import numpy as np
import pytest

from routers import artifacts
from routers.api import Preferences, RouteRequest, Scored
from routers.learning.promise import Held, chosen
from routers.pickers.threshold import Threshold
from routers.registry import BadPlugin, Registry
from tests.unit.routers.plugins import Says, policy

REQUEST = RouteRequest()
MODELS = ("large", "small", "middle")
COSTS = np.array([20.0, 1.0, 4.0])


def held(count: int = 800) -> Held:
    """A router that is right about three models; how hard a question is decides all."""
    rng = np.random.default_rng(5)
    mean = np.clip(1 - rng.beta(2, 2, (count, 1)) * np.array([0.3, 1.1, 0.7]), 0.02, 0.98).astype(np.float32).astype(np.float64)
    spread = np.full(mean.shape, 0.05, dtype=np.float32).astype(np.float64)
    return Held(mean, spread, (rng.random(mean.shape) < mean).astype(np.float64), COSTS)


def written(folder: Path, tensors: dict[str, artifacts.Tensor]) -> Path:
    artifacts.write(folder, artifacts.Origin("knn", MODELS, "none", datetime(2026, 1, 1, tzinfo=UTC)), tensors, {})
    return folder


def scored(mean: list[float], spread: float | None = 0.05, costs: tuple[float | None, ...] = (20.0, 1.0, 4.0)) -> list[Scored]:
    found = [Scored(name, q, {}, q, c, spread) for name, q, c in zip(MODELS, mean, costs, strict=True)]
    return sorted(found, key=lambda one: -one.score)


def names(picker: Threshold, ranked: list[Scored], min_quality: float | None = None) -> list[str]:
    request = RouteRequest(preferences=Preferences(min_quality=min_quality))
    return [one.name for one in picker.pick(request, ranked, Random(0))]


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return written(tmp_path / "artifact", dict(held().tensors()))


def test_it_serves_by_the_very_rule_that_was_calibrated(artifact: Path) -> None:
    picker, questions = Threshold(0.7, artifact), held()
    for q in (0.6, 0.7, 0.8):
        z = picker.promise(q).z
        assert z is not None
        served = [names(picker, scored(row), q)[0] for row in questions.mean.tolist()]
        assert served == [MODELS[place] for place in chosen(questions, q, z)]
        assert questions.scores[np.arange(800), [MODELS.index(name) for name in served]].mean() >= q


def test_the_cheapest_that_is_good_enough_comes_first_and_more_care_costs_more(artifact: Path) -> None:
    bold, careful = Threshold(0.75, artifact, 0.6), Threshold(0.75, artifact, 0.999)
    assert (bold.promise(0.75).z or 0) < (careful.promise(0.75).z or 0)
    assert bold.promise(0.75).cost_usd < careful.promise(0.75).cost_usd < 20
    assert names(bold, scored([0.95, 0.93, 0.94])) == ["small", "middle", "large"]
    assert names(bold, scored([0.95, 0.02, 0.94])) == ["middle", "large", "small"]
    assert names(bold, scored([0.3, 0.1, 0.2])) == ["large", "middle", "small"]


def test_without_a_promise_the_best_serves_and_it_says_so(artifact: Path) -> None:
    picker = Threshold(0.97, artifact)
    assert picker.promise(0.97).z is None
    assert names(picker, scored([0.95, 0.99, 0.94])) == ["small", "large", "middle"]
    assert names(picker, scored([0.95, 0.94, 0.93])) == ["large", "small", "middle"]
    assert picker.promise(1.0).z is None
    assert picker.promise(0.5).z is not None


def test_a_promise_is_made_for_those_who_can_serve(artifact: Path) -> None:
    picker = Threshold(0.7, artifact)
    assert picker.promise(0.7, ["small", "large"]).z is not None
    assert picker.promise(0.7, ["small"]).z is None
    assert names(picker, [one for one in scored([0.9, 0.9, 0.9]) if one.name != "small"]) == ["middle", "large"]
    assert names(picker, scored([0.9, 0.9, 0.9], costs=(1.0, 2.0, 3.0)))[0] == "large"
    with pytest.raises(KeyError):
        picker.promise(0.7, ["stranger"])


def test_what_is_unknown_comes_last(artifact: Path) -> None:
    picker = Threshold(0.7, artifact)
    stranger = Scored("stranger", 0.99, {}, 0.99, 0.1, 0.01)
    assert names(picker, [stranger, *scored([0.9, 0.9, 0.9])])[-1] == "stranger"
    assert names(picker, scored([0.7, 0.8, 0.9], spread=None)) == ["middle", "small", "large"]
    assert names(picker, scored([0.9, 0.9, 0.9], costs=(None, None, None)))[0] == "small"
    silent = Scored("small", 0.0)
    assert names(picker, [Scored("large", 0.3), silent]) == ["large", "small"]


def test_the_artifact_stands_behind_remembered_choices(artifact: Path) -> None:
    picker = Threshold(0.7, artifact)
    assert policy(Says({}), picker=picker).artifacts == ("", artifacts.load(artifact).hash, "")
    assert picker.deterministic


def test_nothing_is_promised_of_newcomers(tmp_path: Path) -> None:
    two = Held(*(part[:, :2] for part in (held().mean, held().spread, held().scores)), COSTS[:2])
    picker = Threshold(0.7, written(tmp_path / "two", dict(two.tensors(3))))
    assert picker.promise(0.7).z is not None
    assert names(picker, scored([0.9, 0.8, 0.95]))[-1] == "middle"
    with pytest.raises(KeyError):
        picker.promise(0.7, ["middle"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"promise/mean": None}, "tensor 'promise/mean' is missing"),
        ({"promise/costs": None}, "tensor 'promise/costs' is missing"),
        ({"promise/mean": np.zeros((800, 3))}, "tensor 'promise/mean' is float64"),
        ({"promise/spread": np.zeros((799, 3), np.float32)}, "promise/spread has shape (799, 3), expected (800, 3)"),
        ({"promise/scores": np.full((800, 3), 2, np.float32)}, "promise/scores holds numbers outside [0, 1]"),
        ({"promise/costs": np.full(3, np.nan, np.float32)}, "promise/mean has shape (800, 0)"),
        ({"promise/costs": np.full(3, np.inf, np.float32)}, "promise/costs holds numbers that are not finite"),
        ({"promise/costs": np.array([np.nan, 1, 4], np.float32)}, "promise/costs holds numbers that are not finite"),
        ({"promise/scores": np.full((800, 3), np.nan, np.float32)}, "promise/scores holds numbers that are not finite"),
    ],
)
def test_an_artifact_that_does_not_fit_is_refused(tmp_path: Path, change: dict[str, artifacts.Tensor | None], message: str) -> None:
    tensors = {name: found for name, found in {**held().tensors(), **change}.items() if found is not None}
    folder = written(tmp_path / "bad", tensors)
    with pytest.raises(BadPlugin) as caught:
        Registry().build("pickers", "threshold", {"min_quality": 0.7, "artifact": str(folder)})
    assert message in caught.value.message
    assert caught.value.path == ("artifact",)


def test_a_calibration_over_other_models_is_refused(tmp_path: Path) -> None:
    two = Held(*(part[:, :2] for part in (held().mean, held().spread, held().scores)), COSTS[:2])
    with pytest.raises(artifacts.BadArtifact, match="promise/costs has 2 models, the manifest 3"):
        Threshold(0.7, written(tmp_path / "two", dict(two.tensors())))

"""Every family of learned routers: what it must do whatever its idea is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from routers import artifacts
from routers.api import Model, Opinion, Price, RouteRequest
from routers.embedding import ENCODERS
from routers.families import FAMILIES, serve
from routers.learned import Calibration, Expected, LearnedScorer, Lessons, Making, Prompts, write
from routers.registry import BadPlugin, Registry
from tests.trained import WHEN
from tests.unit.routers.plugins import candidate

pytest.importorskip("onnxruntime", reason="the extra `embed` is not installed")
pytest.importorskip("sklearn", reason="the extra `train` is not installed")

MODELS = ("small-7B", "coder-7B", "large-70B")
CARDS = tuple(Model(name, Price(price, price)) for name, price in zip(MODELS, (0.1, 0.1, 1.0), strict=True))
THINGS = "rain cats autumn trains bread snow lamps rivers houses songs clocks gardens winters bridges letters oceans".split()


def prompts() -> tuple[list[str], np.ndarray[Any, Any], list[str]]:
    """Poems that all can write, code that the coder and the large one can, sums that only the large one can."""
    poems = [f"Write a short poem about {thing} number {n}." for n in range(5) for thing in THINGS]
    code = [f"def sort_{thing}_{n}(items):\n    # complete this function" for n in range(5) for thing in THINGS]
    sums = [f"What is {n * 7 + 3} times {len(thing) + n}, and then minus {n}?" for n in range(5) for thing in THINGS]
    chances = [(0.95, 0.85, 0.95)] * len(poems) + [(0.2, 0.9, 0.9)] * len(code) + [(0.05, 0.2, 0.9)] * len(sums)
    rng = np.random.default_rng(7)
    scores = (rng.random((len(chances), 3)) < np.array(chances)).astype(np.float32)
    return [*poems, *code, *sums], scores, ["poems"] * len(poems) + ["code"] * len(code) + ["sums"] * len(sums)


@pytest.fixture(scope="module")
def lessons() -> Lessons:
    texts, scores, datasets = prompts()
    scores[np.random.default_rng(8).random(scores.shape) < 0.1] = np.nan
    vectors = ENCODERS["static"]().encode(texts)
    return Lessons(Prompts(vectors, tuple(texts)), scores, np.full_like(scores, 0.001), MODELS, tuple(datasets), CARDS)


@pytest.fixture(scope="module")
def new() -> Prompts:
    texts = (
        "Write a short poem about mountains number 3.",
        "def sort_stars_2(items):\n    # complete this function",
        "What is 66 times 13?",
    )
    return Prompts(ENCODERS["static"]().encode(texts), texts)


class Trained(Mapping[str, Path]):
    """An artifact of each family, which is trained when it is first asked for."""

    def __init__(self, folder: Path, lessons: Lessons) -> None:
        self._folder, self._lessons = folder, lessons

    def __getitem__(self, name: str) -> Path:
        if not (self._folder / name).exists():
            family, making = FAMILIES[name], Making(ENCODERS["static"](), "d" * 64, WHEN, {})
            write(self._folder / name, name, family.fit(self._lessons, family.knobs[0], 0), MODELS, Calibration.none(3), making)
        return self._folder / name

    def __iter__(self) -> Iterator[str]:
        return iter(FAMILIES)

    def __len__(self) -> int:
        return len(FAMILIES)


@pytest.fixture(scope="module")
def trained(lessons: Lessons, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return Trained(tmp_path_factory.mktemp("families"), lessons)


def same(one: Expected, other: Expected) -> None:
    np.testing.assert_allclose(one.mean, other.mean, atol=1e-6)
    np.testing.assert_allclose(one.spread, other.spread, atol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_expectations_are_chances_and_each_prompt_is_judged_by_itself(trained: Trained, name: str, new: Prompts) -> None:
    scorer = serve(trained[name])
    found = scorer.expect(new, MODELS)
    assert found.mean.shape == found.spread.shape == (3, 3)
    assert found.mean.dtype == found.spread.dtype == np.float32
    assert ((found.mean >= 0) & (found.mean <= 1)).all()
    assert ((found.spread > 0) & (found.spread < 0.6)).all()
    for row in range(3):
        same(scorer.expect(new.take(np.array([row])), MODELS), Expected(found.mean[[row]], found.spread[[row]]))
    same(scorer.expect(new, MODELS[::-1]), found.of([2, 1, 0]))


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "language"])
def test_it_learns_what_is_there_to_learn(trained: Trained, name: str, new: Prompts) -> None:
    small, _, large = serve(trained[name]).expect(new, MODELS).mean.T
    assert small[0] - large[0] > small[2] - large[2] + 0.05, "the small model holds its own at poems, not at sums"


@pytest.mark.parametrize("name", FAMILIES)
def test_training_is_the_same_each_time(trained: Trained, lessons: Lessons, name: str, new: Prompts) -> None:
    fit, knob = FAMILIES[name].fit, FAMILIES[name].knobs[0]
    same(serve(trained[name]).expect(new, MODELS), fit(lessons, knob, 0).expect(new))


@pytest.mark.parametrize("name", FAMILIES)
def test_the_scorer_gives_the_same_as_opinions(trained: Trained, name: str, new: Prompts) -> None:
    scorer = Registry().build("scorers", name, {"artifact": str(trained[name])})
    assert isinstance(scorer, LearnedScorer)
    fleet = [candidate(MODELS[0], 0.1), candidate(MODELS[2], 1.0), candidate("stranger", 1.0)]
    found = scorer.score(RouteRequest(text=new.texts[1], embedding=new.vectors[1]), fleet)
    assert set(found) == {MODELS[0], MODELS[2]}
    expected = scorer.expect(new, MODELS)
    for place, model in ((0, MODELS[0]), (2, MODELS[2])):
        assert isinstance(found[model], Opinion)
        assert float(found[model]) == pytest.approx(float(expected.mean[1, place]), abs=1e-5)
    assert scorer.score(RouteRequest(text="Hello"), fleet) == {}


@pytest.mark.parametrize("name", FAMILIES)
def test_every_tensor_must_be_there_fit_and_be_finite(trained: Trained, name: str, tmp_path: Path) -> None:
    kept = artifacts.load(trained[name])
    unknown_allowed = {"router/scores", "router/known/scores", "router/graph/scores", "router/knn/scores"}
    for tensor, array in kept.tensors.items():
        wrong = {"missing": None, "of another shape": np.concatenate([array, array])[: len(array) + 1]}
        if array.dtype.kind == "f" and tensor not in unknown_allowed:
            spoiled = array.copy()
            spoiled.flat[0] = np.nan
            wrong["not finite"] = spoiled
        for what, other in wrong.items():
            tensors = {key: value for key, value in kept.tensors.items() if key != tensor}
            forged_folder = tmp_path / hashlib.sha256(f"{tensor} {what}".encode()).hexdigest()[:8]
            artifacts.write(forged_folder, origin_of(kept), tensors | ({} if other is None else {tensor: other}), dict(kept.settings))
            with pytest.raises(BadPlugin) as caught:
                Registry().build("scorers", name, {"artifact": str(forged_folder)})
            assert str(forged_folder) in caught.value.message, (tensor, what)
            assert caught.value.path == ("artifact",), (tensor, what)


def origin_of(kept: artifacts.Artifact) -> artifacts.Origin:
    manifest = kept.manifest
    return artifacts.Origin(manifest.kind, manifest.models, manifest.data_hash, manifest.created, manifest.encoder)


def test_an_artifact_of_another_family_is_refused(trained: Trained) -> None:
    with pytest.raises(BadPlugin, match="kind is 'knn', expected 'mlp'"):
        Registry().build("scorers", "mlp", {"artifact": str(trained["knn"])})


def test_a_byte_that_was_changed_is_noticed(trained: Trained, tmp_path: Path) -> None:
    for name, folder in trained.items():
        copy = tmp_path / name
        copy.mkdir()
        for file in folder.iterdir():
            content = bytearray(file.read_bytes())
            if file.name == "tensors.safetensors":
                content[-1] ^= 1
            (copy / file.name).write_bytes(bytes(content))
        with pytest.raises(artifacts.BadArtifact, match=r"tensors\.safetensors was changed"):
            serve(copy)


def test_settings_that_make_no_sense_are_refused(trained: Trained, tmp_path: Path) -> None:
    kept = artifacts.load(trained["blend"])
    settings = json.loads(json.dumps(kept.settings))
    settings["router"]["members"] = ["oracle"]
    artifacts.write(tmp_path / "blend", origin_of(kept), dict(kept.tensors), settings)
    with pytest.raises(BadPlugin, match="members oracle; known: knn"):
        Registry().build("scorers", "blend", {"artifact": str(tmp_path / "blend")})


def test_two_step_keeps_within_its_bounds(lessons: Lessons, new: Prompts) -> None:
    from routers.scorers.two_step import Bounds, fit

    found = fit(lessons, 3.0, 0, Bounds(billions=14)).expect(new).mean
    assert np.isnan(found[:, 2]).all(), "70 billion do not fit"
    assert not np.isnan(found[:, :2]).any()
    with pytest.raises(ValueError, match="no plan keeps within the bounds"):
        fit(lessons, 3.0, 0, Bounds(billions=1))

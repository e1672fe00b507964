"""The k nearest prompts, against a slow and plain count of the same."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routers import artifacts
from routers.api import RouteRequest
from routers.embedding import MiniLM
from routers.learned import Prompts
from routers.pickers import Best
from routers.pipeline import Policy, Weighted, decide
from routers.planners.single import Single
from routers.registry import BadPlugin, Registry
from routers.scorers.knn import QUICK_NUMBERS, Knn, Neighbours, fit
from tests.trained import lessons, write_knn
from tests.unit.routers.plugins import FILTERS, Clock, candidate

MODELS = ("small", "large")
PROMPTS = (
    "Say hello to my friend.",
    "Greet the guests of the party.",
    "Wish my aunt a happy birthday.",
    "Prove that the sum of two odd numbers is even.",
    "Integrate x squared from 0 to 3.",
    "Prove that there are infinitely many primes.",
)
SCORES = [[1.0, 1.0], [1.0, 0.9], [0.9, math.nan], [0.1, 0.9], [0.0, 1.0], [math.nan, 0.8]]


def made_up(n: int, d: int, m: int, unknown: float, seed: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, d)).astype(np.float32)
    scores = rng.random((n, m)).astype(np.float32)
    scores[rng.random((n, m)) < unknown] = np.nan
    scores[0] = 0.5
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), scores


def by_hand(vectors: Any, scores: Any, embedding: Any, k: int, shrink: float) -> list[float]:
    nearest = sorted(range(len(vectors)), key=lambda i: -float(vectors[i] @ embedding))[:k]
    expected = []
    for model in range(scores.shape[1]):
        everything = [float(s) for s in scores[:, model] if not math.isnan(s)]
        mean = sum(everything) / len(everything)
        near = [float(scores[i, model]) for i in nearest if not math.isnan(scores[i, model])]
        expected.append((sum(near) + shrink * mean) / (len(near) + shrink) if near else mean)
    return expected


@given(
    st.integers(1, 60), st.integers(1, 4), st.floats(0, 0.9), st.integers(1, 80), st.sampled_from([0.0, 0.5, 2.0]), st.integers(0, 10**6)
)
def test_expectations_are_those_of_a_plain_count(n: int, m: int, unknown: float, k: int, shrink: float, seed: int) -> None:
    vectors, scores = made_up(n, 16, m, unknown, seed)
    embedding = made_up(1, 16, 1, 0, seed + 1)[0][0]
    known = replace(fit(lessons(vectors, scores, [f"m{i}" for i in range(m)]), k), shrink=shrink)
    found = known.expect(Prompts(embedding[None], ("",)))
    assert found.mean.dtype == found.spread.dtype == np.float32
    np.testing.assert_allclose(found.mean[0], by_hand(vectors, scores, embedding, k, shrink), atol=1e-5)
    assert ((found.spread > 0) & (found.spread <= 0.5)).all()


@pytest.mark.parametrize(
    ("vectors", "scores", "models", "message"),
    [
        (np.eye(2), [[0.5], [0.5]], ("a", "b"), "do not fit"),
        (np.eye(2), [[0.5]], ("a",), "do not fit"),
        (np.empty((0, 4)), np.empty((0, 1)), ("a",), "do not fit"),
        (np.eye(2), [[0.5, 0.5], [0.5, 0.5]], ("a", "a"), "twice"),
        (2 * np.eye(2), [[0.5], [0.5]], ("a",), "unit length"),
        (np.full((2, 2), np.nan), [[0.5], [0.5]], ("a",), "unit length"),
        (np.eye(2), [[0.5, np.nan], [0.5, np.nan]], ("a", "b"), "known of b"),
        (np.eye(2), [[0.5], [1.5]], ("a",), "outside"),
        (np.eye(2), [[0.5], [-np.inf]], ("a",), "outside"),
    ],
)
def test_what_does_not_fit_together_is_refused(vectors: Any, scores: Any, models: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit(lessons(vectors, scores, models), 3)


@pytest.fixture(scope="module")
def encoder() -> MiniLM:
    return MiniLM()


@pytest.fixture(scope="module")
def neighbours(encoder: MiniLM) -> Neighbours:
    return fit(lessons(encoder.encode(PROMPTS), SCORES, MODELS), 3)


@pytest.fixture
def folder(tmp_path: Path, encoder: MiniLM, neighbours: Neighbours) -> Path:
    write_knn(tmp_path / "knn", encoder, neighbours, MODELS, k=3, shrink=0.5)
    return tmp_path / "knn"


def build(folder: Path, **options: object) -> Knn:
    built: Knn = Registry().build("scorers", "knn", {"artifact": str(folder), **options})
    return built


FLEET = (candidate("small", 1.0), candidate("large", 10.0), candidate("unknown", 1.0))


def test_it_knows_easy_prompts_from_hard_ones(folder: Path, encoder: MiniLM) -> None:
    knn = build(folder)
    easy, hard = (
        knn.score(RouteRequest(text=text, embedding=encoder.encode([text])[0]), FLEET)
        for text in ("Say good morning to my colleagues.", "Prove that the square root of two is irrational.")
    )
    assert easy["small"] > 0.8
    assert hard["small"] < 0.3 < 0.8 < hard["large"]
    assert set(easy) == set(hard) == {"small", "large"}


def test_a_model_that_is_no_candidate_gets_no_opinion(folder: Path, encoder: MiniLM) -> None:
    request = RouteRequest(text="Hello", embedding=encoder.encode(["Hello"])[0])
    assert set(build(folder).score(request, FLEET[:1])) == {"small"}
    assert build(folder).score(replace(request, embedding=None), FLEET) == {}


def test_k_and_shrink_come_from_the_artifact_unless_given(folder: Path, encoder: MiniLM, neighbours: Neighbours) -> None:
    embedding = encoder.encode(["Hello"])[0]
    request = RouteRequest(embedding=embedding)
    for options, k, shrink in (({}, 3, 0.5), ({"k": 1}, 1, 0.5), ({"k": 1000, "shrink": 0}, 6, 0.0)):
        found = replace(neighbours, k=k, shrink=shrink).expect(Prompts(embedding[None], ("",)))
        expected = dict(zip(MODELS, map(float, found.mean[0]), strict=True))
        assert build(folder, **options).score(request, FLEET) == pytest.approx(expected)


def test_a_policy_with_it_sends_the_hard_prompt_to_the_large_model(folder: Path) -> None:
    knn, cost = build(folder), Registry().build("scorers", "cost", {})
    scorers = [Weighted("knn", knn), Weighted("cost", cost, 0.3)]
    policy = Policy("test", FILTERS, scorers, Best(), Single(), "small", knn.encoder)
    chosen = {
        text: decide(policy, RouteRequest(text=text), FLEET[:2], Random(0), Clock(), 1.0)
        for text in ("Greet my new neighbour.", "Prove that 17 is a prime number.")
    }
    assert [choice.model for choice in chosen.values()] == ["small", "large"]
    assert all(choice.errors == {} and choice.ranking[0].quality is not None for choice in chosen.values())


class Other:
    """An encoder of the same name and of other weights."""

    name = "minilm"
    hash = "1" * 64

    def encode(self, texts: object) -> Any:
        raise NotImplementedError


class Stranger(Other):
    name = "stranger"


@pytest.mark.parametrize(("other", "message"), [(Other, "another version of the encoder"), (Stranger, "known: minilm")])
def test_an_artifact_of_another_encoder_is_refused(tmp_path: Path, neighbours: Neighbours, other: type[Other], message: str) -> None:
    write_knn(tmp_path / "knn", other(), neighbours, MODELS, k=3)
    with pytest.raises(BadPlugin) as caught:
        build(tmp_path / "knn")
    assert message in caught.value.message
    assert caught.value.path == ("artifact",)


Change = Callable[[dict[str, Any], dict[str, Any]], object]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors, _: tensors.pop("router/scores"), "tensor 'router/scores' is missing"),
        (lambda tensors, _: tensors.update({"router/vectors": tensors["router/vectors"] * 2}), "unit length"),
        (lambda tensors, _: tensors.update({"router/scores": tensors["router/scores"][:2]}), "do not fit"),
        (lambda _, settings: settings["router"].update(k=0), "k must be a number"),
        (lambda _, settings: settings["router"].update(k="3"), "k must be a number"),
        (lambda _, settings: settings["router"].pop("shrink"), "shrink must be a number"),
        (lambda _, settings: settings.pop("router"), "router must be an object"),
        (lambda _, settings: settings["calibration"].update(shifts=[0.0]), "shifts must be 2 numbers"),
        (lambda _, settings: settings["calibration"].update(slope=-1), "slope must be a number"),
    ],
)
def test_an_artifact_that_makes_no_sense_is_refused(folder: Path, encoder: MiniLM, change: Change, message: str) -> None:
    kept = artifacts.load(folder)
    tensors, settings = dict(kept.tensors), json.loads(json.dumps(kept.settings))
    change(tensors, settings)
    origin = artifacts.Origin("knn", MODELS, "d" * 64, datetime(2026, 11, 24, tzinfo=UTC), artifacts.EncoderId.of(encoder))
    artifacts.write(folder, origin, tensors, settings)
    with pytest.raises(BadPlugin) as caught:
        build(folder)
    assert message in caught.value.message


@pytest.mark.parametrize(("options", "path"), [({"k": 0}, "k"), ({"shrink": math.inf}, "shrink"), ({"neighbours": 3}, "neighbours")])
def test_bad_options_are_named(folder: Path, options: dict[str, object], path: str) -> None:
    with pytest.raises(BadPlugin) as caught:
        build(folder, **options)
    assert caught.value.path[0] == path


def test_neighbours_found_elsewhere_say_the_same() -> None:
    vectors, scores = made_up(80, 16, 3, 0.4, 2)
    known = fit(lessons(vectors, scores, ("a", "b", "c")), 7)
    prompts = Prompts(vectors[:5], ("",) * 5)
    given, searched = known.expect_near([scores[known.near(vector)] for vector in prompts.vectors]), known.expect(prompts)
    np.testing.assert_array_equal(given.mean, searched.mean)
    np.testing.assert_array_equal(given.spread, searched.spread)


def test_one_prompt_of_which_all_is_known_is_expected_as_among_others() -> None:
    vectors, scores = made_up(80, 16, 3, 0.0, 3)
    for shrink in (0.0, 1.5):
        known = replace(fit(lessons(vectors, scores, ("a", "b", "c")), 7), shrink=shrink)
        assert known.complete
        prompts = Prompts(vectors[:5], ("",) * 5)
        together, alone = known.expect(prompts), [known.expect(prompts.take(np.array([row]))) for row in range(5)]
        np.testing.assert_array_equal(together.mean, np.concatenate([one.mean for one in alone]))
        np.testing.assert_array_equal(together.spread, np.concatenate([one.spread for one in alone]))


def test_it_is_quick_where_a_search_reads_little(folder: Path, encoder: MiniLM, tmp_path: Path) -> None:
    assert build(folder).quick
    rows = QUICK_NUMBERS // 384 + 1
    vectors, scores = made_up(rows, 384, 2, 0.0, 4)
    write_knn(tmp_path / "many", encoder, fit(lessons(vectors, scores, MODELS), 3), MODELS, k=3)
    assert not build(tmp_path / "many").quick

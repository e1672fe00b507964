"""Scorers that learn from outcomes while they serve: what one outcome changes, how much an hour may change, and what is kept."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routers.api import Candidate, Encoder, Model, Outcome, Price, RouteRequest
from routers.artifacts import BadArtifact
from routers.embedding import ENCODERS
from routers.families import serve
from routers.learned import Calibration, Lessons, Making, Prompts, write
from routers.online import HOUR, Allowance
from routers.scorers import clusters, prior
from routers.versions import Versions

pytest.importorskip("onnxruntime", reason="the extra `embed` is not installed")
MODELS = ("small", "large")
CODE, SUM = "Write a Python function that sorts a list", "What is 17 plus 25?"
NOW = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return ENCODERS["static"]()


def write_clusters(folder: Path, encoder: Encoder) -> Path:
    """Two groups, code and sums, in which both models have been right 5 times out of 10."""
    table = clusters.Table(encoder.encode([CODE, SUM]), *(np.full((2, 2), 5.0, dtype=np.float32) for _ in range(2)))
    write(folder, "clusters", table, MODELS, Calibration.none(2), Making(encoder, "none", NOW, {}))
    return folder


def lessons(encoder: Encoder, newcomer_scores: list[float]) -> Lessons:
    """Forty sums: two known models, and a newcomer of which the last few outcomes are known."""
    texts = tuple(f"What is {n} plus {3 * n + 1}? {'Explain each step.' * (n % 3)}" for n in range(40))
    scores = np.full((40, 3), np.nan, dtype=np.float32)
    scores[:, 0] = [float(n % 2 == 0) for n in range(40)]
    scores[:, 1] = [float(n % 4 != 0) for n in range(40)]
    scores[40 - len(newcomer_scores) :, 2] = newcomer_scores
    cards = (Model("a-7b", Price(0.1, 0.1)), Model("b-70b", Price(1, 1)), Model("c-8b", Price(0.2, 0.2)))
    return Lessons(Prompts(encoder.encode(texts), texts), scores, scores, tuple(card.name for card in cards), ("",) * 40, cards)


def write_prior(folder: Path, encoder: Encoder, newcomer_scores: list[float]) -> Path:
    known = lessons(encoder, newcomer_scores)
    fitted = prior.fit(known, 10.0)
    write(folder, "prior", fitted, known.models, Calibration.none(3), Making(encoder, "none", NOW, {}))
    return folder


def outcome(text: str, model: str, score: float | None) -> Outcome:
    return Outcome(RouteRequest(text=text), model, score, None, None, None, None)


def opinion(scorer: clusters.Clusters | prior.Prior, text: str, model: str) -> float:
    request = RouteRequest(text=text, embedding=scorer.encoder.encode([text])[0])
    return float(scorer.score(request, [Candidate(Model(model))])[model])


def test_an_outcome_counts_in_its_own_group_and_for_its_own_model(tmp_path: Path, encoder: Encoder) -> None:
    scorer = clusters.Clusters(write_clusters(tmp_path / "c", encoder), learn_per_hour=100)
    before = scorer.predictor
    for _ in range(10):
        scorer.observe(outcome(CODE, "large", 1.0))
    scorer.observe(outcome(SUM, "small", 0.25))
    after = scorer.predictor
    assert isinstance(before, clusters.Table)
    assert isinstance(after, clusters.Table)
    assert after.right.tolist() == [[5, 15], [5.25, 5]]
    assert after.wrong.tolist() == [[5, 5], [5.75, 5]]
    assert before.right.tolist() == [[5, 5], [5, 5]]
    assert opinion(scorer, CODE, "large") > 0.6
    assert opinion(scorer, SUM, "small") < 0.5


@pytest.mark.parametrize("score", [None, float("nan"), float("inf"), -0.1, 1.1])
def test_what_is_no_score_changes_nothing(tmp_path: Path, encoder: Encoder, score: float | None) -> None:
    scorer = clusters.Clusters(write_clusters(tmp_path / "c", encoder), learn_per_hour=1)
    before = scorer.predictor
    scorer.observe(outcome(CODE, "large", score))
    scorer.observe(outcome(CODE, "unknown", 1.0))
    scorer.observe(outcome("  ", "large", 1.0))
    assert scorer.predictor is before
    scorer.observe(outcome(CODE, "large", 1.0))  # none of them took from the allowance
    assert scorer.predictor is not before


def test_a_vector_that_is_there_is_used(tmp_path: Path, encoder: Encoder) -> None:
    scorer = clusters.Clusters(write_clusters(tmp_path / "c", encoder), learn_per_hour=10)
    request = RouteRequest(embedding=encoder.encode([SUM])[0])
    scorer.observe(Outcome(request, "small", 1.0, None, None, None, None))
    assert isinstance(scorer.predictor, clusters.Table)
    assert scorer.predictor.right.tolist() == [[5, 5], [6, 5]]


def test_without_an_allowance_it_does_not_learn(tmp_path: Path, encoder: Encoder) -> None:
    scorer = clusters.Clusters(write_clusters(tmp_path / "c", encoder))
    before = scorer.predictor
    scorer.observe(outcome(CODE, "large", 1.0))
    assert scorer.predictor is before
    assert not scorer.learns


def test_a_flood_moves_the_table_by_an_hours_allowance(tmp_path: Path, encoder: Encoder) -> None:
    scorer = clusters.Clusters(write_clusters(tmp_path / "c", encoder), learn_per_hour=7)
    now = 0.0
    scorer.allowance = Allowance(7, lambda: now)
    for hour in range(1, 4):
        for _ in range(500):
            scorer.observe(outcome(CODE, "large", 0.0))
        assert isinstance(scorer.predictor, clusters.Table)
        assert scorer.predictor.wrong[0, 1] == 5 + 7 * hour
        now += HOUR


@given(st.integers(1, 5), st.lists(st.floats(0, 2 * HOUR), min_size=1, max_size=60))
@settings(max_examples=60, deadline=None)
def test_no_hour_has_more_than_its_allowance(per_hour: int, waits: list[float]) -> None:
    now = 0.0
    allowance = Allowance(per_hour, lambda: now)
    taken: list[float] = []
    for wait in waits:
        now += wait / 10
        if allowance.take():
            taken.append(now)
    assert all(later - earlier >= HOUR for earlier, later in zip(taken, taken[per_hour:], strict=False))


def test_readers_in_other_threads_see_whole_tables(tmp_path: Path, encoder: Encoder) -> None:
    scorer = clusters.Clusters(write_clusters(tmp_path / "c", encoder), learn_per_hour=10_000)
    done = threading.Event()
    seen: list[float] = []

    def read() -> None:
        while not done.is_set():
            seen.append(opinion(scorer, CODE, "large"))

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for _ in range(300):
        scorer.observe(outcome(CODE, "large", 1.0))
    done.set()
    for reader in readers:
        reader.join()
    assert all(0.5 <= value <= 1 for value in seen)


def test_the_same_outcomes_in_the_same_order_give_the_same_state(tmp_path: Path, encoder: Encoder) -> None:
    folder = write_prior(tmp_path / "p", encoder, [])
    states = []
    for _ in range(2):
        scorer = prior.Prior(folder, learn_per_hour=100)
        for number in range(20):
            scorer.observe(outcome(f"What is {number} plus 9?", "c-8b", number % 3 / 2))
        assert isinstance(scorer.predictor, prior.Newcomers)
        states.append((scorer.predictor.means.tolist(), scorer.predictor.covariance.tolist()))
    assert states[0] == states[1]


def test_a_newcomer_is_mended_one_by_one_as_all_at_once(tmp_path: Path, encoder: Encoder) -> None:
    scores = [1.0, 0.0, 1.0, 1.0, 0.5, 1.0, 1.0, 0.0, 1.0, 1.0]
    known = lessons(encoder, scores)
    scorer = prior.Prior(write_prior(tmp_path / "p", encoder, []), learn_per_hour=100)
    first = scorer.predictor
    for text, score in zip(known.prompts.texts[-10:], scores, strict=True):
        scorer.observe(outcome(text, "c-8b", score))
        scorer.observe(outcome(text, "a-7b", score))  # is known: its neighbours speak for it
    assert isinstance(scorer.predictor, prior.Newcomers)
    assert isinstance(first, prior.Newcomers)
    rows = np.stack([first._row(first.known.near(vector)) for vector in known.prompts.vectors[-10:]])
    means, covariance = prior.posterior(first.means[2], first.covariance[2], rows, np.array(scores, dtype=np.float32))
    np.testing.assert_allclose(scorer.predictor.means[2], means, atol=0.15)
    np.testing.assert_allclose(scorer.predictor.covariance[2], covariance, atol=0.1)
    assert np.array_equal(scorer.predictor.means[:2], first.means[:2])
    assert scorer.predictor.covariance[2, 0, 0] < first.covariance[2, 0, 0]


def test_caution_ends_with_the_first_outcome_alone(tmp_path: Path, encoder: Encoder) -> None:
    """Also where every prompt is as easy as any, so that an outcome says nothing of the slope."""
    known = lessons(encoder, [])
    fitted = prior.fit(known, 1000.0)
    one = fitted.learn(known.prompts.take(np.array([3])), 2, 0.5)
    two = one.learn(known.prompts.take(np.array([3])), 2, 0.5)
    assert abs(float(two.means[2, 0])) < abs(float(one.means[2, 0])) + 1e-6
    assert one.covariance[2, 0, 0] > two.covariance[2, 0, 0]
    assert [found.heard.tolist() for found in (fitted, one, two)] == [[40, 40, 0], [40, 40, 1], [40, 40, 2]]
    like = fitted.ease, fitted.kinds, fitted.means, fitted.covariance
    timid, bold, bolder = (prior._chances(*like, step.heard) for step in (fitted, one, two))
    assert (timid[:, 2] < bold[:, 2]).all()
    assert np.array_equal(bold, bolder)
    assert np.array_equal(timid[:, :2], bold[:, :2])


def test_a_kind_of_question_that_nothing_is_known_of_is_refused(tmp_path: Path, encoder: Encoder) -> None:
    fitted = prior.fit(lessons(encoder, []), 10.0)
    forged = replace(fitted, kinds=fitted.kinds + fitted.means.shape[1])
    write(tmp_path / "p", "prior", forged, ("a-7b", "b-70b", "c-8b"), Calibration.none(3), Making(encoder, "none", NOW, {}))
    with pytest.raises(BadArtifact, match="tensor 'kinds' must name some of the 1 kinds"):
        prior.Prior(tmp_path / "p")


@pytest.mark.parametrize("kind", ["clusters", "prior"])
def test_what_was_learned_is_there_after_a_new_start(tmp_path: Path, encoder: Encoder, kind: str) -> None:
    folder = write_clusters(tmp_path / "a", encoder) if kind == "clusters" else write_prior(tmp_path / "a", encoder, [1.0])
    build, model = (clusters.Clusters, "large") if kind == "clusters" else (prior.Prior, "c-8b")
    scorer = build(folder, learn_per_hour=10)
    assert scorer.keep(NOW, due=True) is None  # nothing was learned
    for _ in range(4):
        scorer.observe(outcome(SUM, model, 1.0))
    assert scorer.keep(NOW, due=False) is None
    name = scorer.keep(NOW, due=True)
    assert name is not None
    assert scorer.keep(NOW, due=True) is None
    again = build(folder)
    assert again.versions.serving().name == name
    assert opinion(again, SUM, model) == opinion(scorer, SUM, model)
    assert serve(folder).artifact_hash == again.artifact_hash
    assert again.artifact.manifest.metrics["learned_outcomes"] == 4
    assert scorer.revision != ""


def test_a_new_start_is_no_new_hour(tmp_path: Path, encoder: Encoder) -> None:
    folder = write_clusters(tmp_path / "c", encoder)
    first = clusters.Clusters(folder, learn_per_hour=5)
    for _ in range(4):
        first.observe(outcome(CODE, "large", 1.0))
    first.keep(datetime.now(UTC), due=True)
    first.close()
    second = clusters.Clusters(folder, learn_per_hour=5)
    for _ in range(4):
        second.observe(outcome(CODE, "large", 1.0))
    assert isinstance(second.predictor, clusters.Table)
    assert second.predictor.right[0, 1] == 5 + 5


def test_one_writes_and_the_other_follows(tmp_path: Path, encoder: Encoder) -> None:
    folder = write_clusters(tmp_path / "c", encoder)
    writer, other = clusters.Clusters(folder, learn_per_hour=100), clusters.Clusters(folder, learn_per_hour=100)
    for scorer in (writer, other):
        scorer.observe(outcome(CODE, "large", 1.0))
    name = writer.keep(NOW, due=True)
    writer.observe(outcome(CODE, "large", 1.0))
    second = writer.keep(NOW, due=True)
    assert name is not None
    assert second is not None
    assert other.keep(NOW, due=True) is None
    assert opinion(other, CODE, "large") == opinion(writer, CODE, "large")
    assert other.revision == writer.revision
    other.observe(outcome(CODE, "large", 1.0))
    assert other.keep(NOW, due=True) is None  # the writer lives
    writer.close()
    assert other.keep(NOW, due=True) is not None


def test_a_rollback_is_followed_and_never_written_over(tmp_path: Path, encoder: Encoder) -> None:
    folder = write_clusters(tmp_path / "c", encoder)
    scorer = clusters.Clusters(folder, learn_per_hour=100)
    before = opinion(scorer, CODE, "large")
    scorer.observe(outcome(CODE, "large", 0.0))
    scorer.keep(NOW, due=True)
    scorer.observe(outcome(CODE, "large", 0.0))
    assert Versions(folder).roll_back("trained", NOW)
    assert scorer.keep(NOW, due=True) is None
    assert opinion(scorer, CODE, "large") == before
    assert Versions(folder).serving().name == "trained"
    scorer.observe(outcome(CODE, "large", 1.0))
    name = scorer.keep(NOW, due=True)
    assert name is not None
    assert name.startswith("000002-")
    assert Versions(folder).parent(name) == "trained"


def test_a_new_training_ends_the_learning_of_the_old_one(tmp_path: Path, encoder: Encoder) -> None:
    folder = write_clusters(tmp_path / "c", encoder)
    scorer = clusters.Clusters(folder, learn_per_hour=100)
    scorer.observe(outcome(CODE, "large", 1.0))
    scorer.keep(NOW, due=True)
    table = clusters.Table(encoder.encode([CODE]), *(np.full((1, 2), 9.0, dtype=np.float32) for _ in range(2)))
    calibration = Calibration(2.0, np.zeros(2, dtype=np.float32))
    write(folder, "clusters", table, MODELS, calibration, Making(encoder, "other", NOW, {}))
    before = scorer.predictor
    with pytest.raises(BadArtifact, match="another training"):
        scorer.keep(NOW, due=True)
    scorer.observe(outcome(CODE, "large", 1.0))
    assert scorer.keep(NOW, due=True) is None  # said once, and nothing is written over the new one
    assert scorer.predictor is not before
    again = clusters.Clusters(folder)
    assert isinstance(again.predictor, clusters.Table)
    assert again.predictor.right.tolist() == [[9, 9]]


def test_a_version_that_was_changed_is_refused(tmp_path: Path, encoder: Encoder) -> None:
    folder = write_clusters(tmp_path / "c", encoder)
    scorer = clusters.Clusters(folder, learn_per_hour=100)
    scorer.observe(outcome(CODE, "large", 1.0))
    name = scorer.keep(NOW, due=True)
    assert name is not None
    manifest = scorer.versions.path(name) / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"data_hash": "none"', '"data_hash": "fine"'))
    with pytest.raises(BadArtifact, match=r"manifest\.json was changed"):
        clusters.Clusters(folder)

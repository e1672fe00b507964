"""What is fitted for cascades: chances that come true, orders and thresholds for a target, an artifact that serves what was fitted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from routers.api import Ask, Turn
from routers.artifacts import BadArtifact
from routers.credence import Lengths, Loaded, Said, claims, inputs
from routers.embedding import ENCODERS
from routers.hearing import Hearing
from routers.judges.agreement import Agreement
from routers.judges.api import ANSWER, Verdict
from routers.judges.learned import Learned
from routers.learning.answers import Recorded
from routers.learning.cascade import Fitted, drawn_sets, fit, keep, logistic
from routers.learning.cascade_figures import Shown, cascade_points, early, learned_vote
from routers.learning.points import rules
from routers.learning.rounds.evaluate import evaluate
from routers.learning.stopping import Target, Way, Ways, choose, frontier, orders, walk, ways
from routers.looks import LOOKS, UNKNOWN
from routers.planners.cascade import Cascade
from routers.planners.ensemble import Ensemble
from routers.planners.plain import BadPlan
from routers.registry import BadPlugin, Registry
from routers.stages import Stages, Step
from tests.unit.routers.planners.playing import play, task

MODELS = ("cheap", "middle", "dear")
QUESTION = "Which?\nA. this\nB. that\nC. another\nD. none"
REGISTRY = Registry(
    {
        ("planners", "cascade"): Cascade,
        ("planners", "ensemble"): Ensemble,
        ("judges", "agreement"): Agreement,
        ("judges", "learned"): Learned,
    }
)


def recorded(count: int = 600, seed: int = 3) -> Recorded:
    """Three models that are right on 0.6, 0.65 and 0.8 of the questions; `cheap` and `middle` make the same mistakes."""
    rng = np.random.default_rng(seed)
    right = rng.random((count, 3)) < np.array([0.6, 0.65, 0.8])
    right[:, 1] = np.where(rng.random(count) < 0.8, right[:, 0], right[:, 1])
    wrong = rng.integers(1, 4, (count, 3))
    wrong[:, 1] = wrong[:, 0]
    votes = np.where(right, 0, wrong).astype(np.int32)
    splits = tuple("train" if place % 10 < 6 else "validation" if place % 10 < 8 else "test" for place in range(count))
    return Recorded(
        MODELS,
        np.arange(count),
        splits,
        tuple(f"kind/{place % 5}" for place in range(count)),
        tuple(f"question {place} of {rng.integers(9)}" for place in range(count)),
        right.astype(float),
        np.broadcast_to(np.array([1.0, 2.0, 6.0]), (count, 3)).copy(),
        rng.integers(20, 200, (count, 3)).astype(float),
        votes,
        tuple(("A", "B", "C", "D") for _ in range(count)),
        "0" * 64,
    )


@pytest.fixture(scope="module")
def vectors() -> Any:
    return ENCODERS["static"]().encode(list(recorded().prompts))


@pytest.fixture(scope="module")
def fitted(vectors: Any) -> Fitted:
    return fit(recorded(), vectors, Target(), seed=1)


@pytest.fixture(scope="module")
def artifact(fitted: Fitted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("made") / "cascade"
    keep(folder, fitted, ENCODERS["static"](), datetime(2026, 1, 1, tzinfo=UTC))
    return folder


def turn(model: str, text: str, tokens: int | None = 50) -> Turn:
    return Turn(Ask((model,), final=False, purpose=ANSWER), model, text, 0.0, 1.0, tokens_out=tokens)


def test_claims_say_what_speaks_for_and_against_each_answer() -> None:
    said = Said(
        np.array([[0, 0, 1], [2, -1, 2], [0, 1, 2]], dtype=np.int32),
        np.array([[True, True, True], [True, True, False], [False, False, False]]),
        np.full((3, 3), np.nan, dtype=np.float32),
        np.full((3, 3), 0.5, dtype=np.float32),
        np.arange(9 * LOOKS, dtype=np.float32).reshape(3, 3, LOOKS),
    )
    seen = claims(said, Lengths(np.zeros(3, np.float32), np.ones(3, np.float32)))
    assert seen.rows.shape == (3, inputs(3))
    assert seen.owner.tolist() == [0, 0, 1]
    assert seen.backers.tolist() == [[True, True, False], [False, False, True], [True, False, False]]
    size, _, _, other, count = seen.rows[:, -LOOKS - 5 : -LOOKS].T
    assert size.tolist() == [2, 1, 1]
    assert other.tolist() == [1, 2, 0]
    assert count.tolist() == [2, 2, 1]
    assert seen.rows[2, 6:9].tolist() == [0, 1, 0]  # who settled on nothing
    assert seen.rows[:, -LOOKS].tolist() == [0, LOOKS, 5 * LOOKS]  # by question and number of the answer


def test_a_logistic_makes_chances_come_true() -> None:
    rng = np.random.default_rng(0)
    sums = rng.normal(0, 2, 20_000).astype(np.float32)
    right = (rng.random(20_000) < 1 / (1 + np.exp(-(0.5 * sums + 0.3)))).astype(np.float32)
    slope, shift = logistic(sums, right)
    assert (slope, shift) == (pytest.approx(0.5, abs=0.03), pytest.approx(0.3, abs=0.06))


def test_sets_are_of_every_size() -> None:
    sizes = drawn_sets(np.random.default_rng(0), 3000, 3).sum(axis=1)
    assert set(sizes.tolist()) == {1, 2, 3}
    assert np.bincount(sizes)[1:].min() > 800


def test_orders_are_all_of_few_models_and_cheapest_first_of_many() -> None:
    assert len(list(orders(np.array([1.0, 2.0, 3.0])))) == 3 + 6 + 6
    many = list(orders(np.arange(7.0)[::-1]))
    assert len(many) == 2**7 - 1
    assert all(list(order) == sorted(order, reverse=True) for order in many)


def test_a_walk_stops_where_the_chance_is_reached() -> None:
    costs = np.array([[1.0, 5.0], [1.0, 5.0], [1.0, 5.0]])
    looks = [(np.array([0.9, 0.5, 0.5]), np.array([1.0, 0.0, 0.0])), (np.array([0.9, 0.4, 0.9]), np.array([0.0, 0.0, 1.0]))]
    score, paid, calls = walk((0, 1), 0.8, costs, looks)
    assert (score.tolist(), paid.tolist(), calls.tolist()) == ([1, 0, 1], [1, 6, 6], [1, 2, 2])


def test_only_ways_that_nothing_cheaper_beats_are_kept() -> None:
    found = [Way((0,), 1.01, 0.5, 1, 1), Way((1,), 1.01, 0.4, 2, 1), Way((0, 1), 0.5, 0.7, 3, 2), Way((1, 0), 0.5, 0.6, 3, 2)]
    assert frontier(found) == (found[0], found[2])
    costs, scores = np.array([[1.0, 2.0]]), np.array([[0.5, 0.4]])
    assert choose(frontier(found), Target(max_mean_usd=2.9), costs, scores) is found[0]
    assert choose(frontier(found), Target(min_quality=0.6), costs, scores) is found[2]
    assert choose(frontier(found), Target(), costs, scores) is found[0]
    with pytest.raises(ValueError, match="no cascade reaches"):
        choose(frontier(found), Target(min_quality=0.8), costs, scores)
    with pytest.raises(ValueError, match=r"at most 0\.5 USD"):
        choose(frontier(found), Target(max_mean_usd=0.5), costs, scores)
    with pytest.raises(ValueError, match="not for both"):
        Target(1.0, 0.5)


def test_every_set_is_looked_at_once() -> None:
    seen: list[tuple[int, ...]] = []

    def look(columns: Sequence[int]) -> tuple[Any, Any]:
        seen.append(tuple(columns))
        return np.full(4, 0.5, np.float32), np.full(4, len(columns) / 3, np.float32)

    found = ways(Ways(np.broadcast_to([1.0, 2.0, 3.0], (4, 3)), np.zeros((4, 3)), look))
    assert len(seen) == len(set(seen)) == 7
    assert [way.score for way in found] == [pytest.approx(n / 3) for n in (1, 2, 3)]


def test_a_fit_knows_who_errs_together(fitted: Fitted) -> None:
    credence = fitted.credence
    votes = np.array([[0, 0, 1]], dtype=np.int32)
    looks = np.full((1, 2, LOOKS), UNKNOWN, dtype=np.float32)
    said = Said(votes, np.ones((1, 3), dtype=bool), np.full((1, 3), np.nan, dtype=np.float32), credence.question.near.means[None], looks)
    seen = credence.claims(said)
    chances = dict(zip(map(tuple, seen.backers.tolist()), credence.chances(seen).tolist(), strict=True))
    assert chances[False, False, True] > chances[True, True, False]


def test_a_fit_is_worth_its_cost_on_questions_that_it_never_saw(fitted: Fitted, vectors: Any) -> None:
    pool = recorded()
    test = np.flatnonzero(np.array(pool.splits) == "test")
    shown = Shown.of(fitted.credence, pool.take(test), vectors[test])
    frontier = [Step(tuple(MODELS[column] for column in way.order), way.threshold) for way in fitted.ways]
    played, vote, known = cascade_points(shown, frontier), learned_vote(shown), rules(pool, "test")
    assert vote.scores.mean() >= known["majority"].scores.mean()
    assert vote.costs.mean() == pytest.approx(9)
    chosen = frontier.index(Step(tuple(MODELS[column] for column in fitted.way.order), fitted.way.threshold))
    assert played.costs[chosen].mean() <= 6.5
    found = evaluate(pool, "test", {"cascade": played}, {"once": shown.expected_of(MODELS)}, votes={"learned": vote, **known})
    block = found["planners"]["cascade"]
    assert block["accuracy_at_best_single_cost"] >= found["best_single"]["accuracy"] - 0.02
    assert block["points"][chosen]["order"] == list(frontier[chosen].order)
    assert set(block["against"]) >= {"once", "best_single"}
    assert found["best_alone"] == "once"
    assert found["votes"]["majority"]["calls"] == 3
    assert found["votes"]["learned"]["cost_share"] == pytest.approx(1.5)
    json.dumps(found, allow_nan=False)
    with pytest.raises(ValueError, match="weighs cheap, middle, dear together"):
        Shown.of(fitted.credence, pool.of(["cheap", "dear"]), vectors)


def test_models_may_be_named_in_any_order(fitted: Fitted, vectors: Any) -> None:
    pool = recorded().take(np.arange(40))
    there, back = (Shown.of(fitted.credence, pool.of(order), vectors[:40]) for order in (list(MODELS), ["dear", "cheap", "middle"]))
    assert np.array_equal(learned_vote(there).scores, learned_vote(back).scores)
    assert np.array_equal(back.expected_of(["dear"])[:, 0], there.expected_of(MODELS)[:, 2])


def test_ending_early_saves_calls_and_changes_little(fitted: Fitted) -> None:
    pool = recorded().split("test").take(np.arange(60))
    shown = Shown.of(fitted.credence, pool, ENCODERS["static"]().encode(list(pool.prompts)))
    plain, learned = early(shown)
    assert plain.changed == 0
    assert 0 < plain.cancelled < 1 / 3
    assert 0 < plain.cost < 1
    assert 0 <= learned.cancelled < 1
    assert learned.changed <= 0.1


def test_an_artifact_gives_back_what_was_fitted(fitted: Fitted, artifact: Path) -> None:
    loaded = Loaded.load(artifact)
    rng = np.random.default_rng(0)
    said = Said(
        rng.integers(-1, 3, (50, 3)).astype(np.int32),
        rng.random((50, 3)) < 0.7,
        rng.integers(1, 300, (50, 3)).astype(np.float32),
        rng.random((50, 3)).astype(np.float32),
        rng.random((50, 3, LOOKS)).astype(np.float32),
    )
    before, after = (one.chances(one.claims(said)) for one in (fitted.credence, loaded.credence))
    np.testing.assert_allclose(before, after, atol=1e-6)
    vector = loaded.encoder.encode(["question 4"])[0]
    np.testing.assert_allclose(fitted.credence.expect(vector, "question 4"), loaded.credence.expect(vector, "question 4"), atol=1e-6)
    assert loaded.credence.expect(None, "x").tolist() == fitted.credence.question.near.means.tolist()


def test_the_same_seed_gives_the_same(vectors: Any, fitted: Fitted) -> None:
    again = fit(recorded(), vectors, Target(), seed=1)
    assert again.way == fitted.way
    assert np.array_equal(again.credence.trees.value, fitted.credence.trees.value)


def test_a_judge_that_learned_is_surer_where_more_agree(artifact: Path) -> None:
    judge = REGISTRY.build("judges", "learned", {"artifact": str(artifact)})
    of = task("cheap middle dear", text=QUESTION)

    def sure(*turns: Turn) -> Verdict:
        found = judge.judge(of, turns, 0)
        assert isinstance(found, Verdict)
        return found

    alone, both = sure(turn("dear", "A")), sure(turn("dear", "A"), turn("cheap", "The answer is (A)"))
    against = sure(turn("dear", "A"), turn("cheap", "B"))
    assert against.confidence < alone.confidence < both.confidence
    assert against.turn.text == "A"
    assert sure(turn("stranger", "A")).confidence == 0
    assert sure(turn("dear", "I cannot say.")) == Verdict(turn("dear", "I cannot say."), 0.0)


def test_a_cascade_with_all_that_was_learned(artifact: Path) -> None:
    planner = REGISTRY.build(
        "planners", "cascade", {"judge": {"type": "learned", "artifact": str(artifact)}, "order": "learned", "artifact": str(artifact)}
    )
    assert not planner.instant
    assert planner.encoder.name == "static"
    order = Stages.load(artifact).order
    played = play(planner, task("cheap middle dear", text=QUESTION), dict.fromkeys(MODELS, "A"))
    assert played.text == "A"
    assert tuple(played.asked) == order[: len(played.asked)]


def test_votes_that_were_learned_end_early_where_nothing_can_change(artifact: Path) -> None:
    planner = REGISTRY.build("planners", "ensemble", {"combine": "weighted", "artifact": str(artifact), "k": 3})
    played = play(planner, task("cheap middle dear", text=QUESTION), {"cheap": "A", "middle": "A", "dear": "B"})
    assert played.text == "B"
    heard = Hearing.load(artifact, "auto").hear([turn("dear", "A"), turn("cheap", "A")], task(text=QUESTION).request)
    best = heard.best()
    assert best is not None
    assert best[0].text == "A"
    assert heard.decided(["middle"])
    assert heard.decided([])
    assert not Hearing.load(artifact, "auto").hear([turn("cheap", "A")], task(text=QUESTION).request).decided(["middle", "dear"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"order": ["cheap"]}, "at least two"),
        ({"order": ["cheap", "x"]}, "at least two"),
        ({"thresholds": [0.5, "x"]}, "thresholds must be"),
        ({"order": [["cheap"], ["dear"]]}, "at least two"),
        ({"frontier": []}, "at least one order"),
        ({"frontier": [{"order": ["cheap"], "threshold": 3}]}, "frontier must list"),
        ({"frontier": [{"order": ["x"], "threshold": 1}]}, "frontier must list"),
        ({"credence": {}}, "question must be an object"),
    ],
)
def test_an_artifact_whose_settings_do_not_fit_is_refused(artifact: Path, tmp_path: Path, change: dict[str, Any], said: str) -> None:
    import hashlib
    import shutil

    broken = tmp_path / "broken"
    shutil.copytree(artifact, broken)
    settings = json.loads((broken / "settings.json").read_text())
    (broken / "settings.json").write_text(json.dumps({**settings, "order": ["cheap", "dear"], "thresholds": [0.5, 0.5], **change}))
    manifest = json.loads((broken / "manifest.json").read_text())
    manifest["files"]["settings.json"] = hashlib.sha256((broken / "settings.json").read_bytes()).hexdigest()
    (broken / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BadArtifact, match=said):
        Loaded.load(broken) if "credence" in change else Stages.load(broken)


def test_a_judge_without_its_artifact_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadPlugin, match="is required") as refused:
        REGISTRY.build("planners", "cascade", {"judge": {"type": "learned"}})
    assert refused.value.path == ("judge", "artifact")
    with pytest.raises(BadPlugin, match="cannot be read"):
        REGISTRY.build("judges", "learned", {"artifact": str(tmp_path)})


def test_what_cannot_be_fitted_is_refused(vectors: Any) -> None:
    pool = recorded()
    with pytest.raises(ValueError, match="2 to 8 models, not 1"):
        fit(pool.of(["cheap"]), vectors, Target())
    with pytest.raises(ValueError, match="0 questions of train and validation"):
        fit(replace(pool, splits=("test",) * len(pool)), vectors, Target())


def test_an_artifact_that_knows_nobody_of_the_route_is_refused(artifact: Path) -> None:
    learned = {"type": "learned", "artifact": str(artifact)}
    for options, kind, path in (
        ({"judge": learned}, "cascade", ("judge", "artifact")),
        ({"judge": {"type": "agreement"}, "artifact": str(artifact)}, "cascade", ("artifact",)),
        ({"combine": "weighted", "artifact": str(artifact), "k": 2}, "ensemble", ("artifact",)),
    ):
        planner = REGISTRY.build("planners", kind, options)
        planner.check(["cheap", "stranger"], ["cheap", "stranger"])
        with pytest.raises(BadPlan, match="knows none of the route's models; it was made for cheap, middle, dear") as refused:
            planner.check(["x", "y"], ["x", "y"])
        assert refused.value.path == path

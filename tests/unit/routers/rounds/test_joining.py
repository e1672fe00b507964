"""A model joins a policy that was trained without it: no net is trained, and nothing changes where it is not asked."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner

from gateway.cli.join_rounds import join_rounds
from routers.artifacts import BadArtifact
from routers.learned import Expected, Prompts
from routers.learning.answers import Recorded
from routers.learning.rounds.evaluate import points
from routers.learning.rounds.joining import FEWEST, Joined, join, keep
from routers.learning.rounds.play import one_by_one, play
from routers.learning.rounds.train import Trained, prepared, train
from routers.learning.rounds.train import keep as keep_trained
from routers.planners.rl_rounds import RlRounds
from routers.rounds.experience import Experience
from routers.rounds.kin import nobody
from routers.rounds.swift import Swift
from tests.unit.routers.rounds.recordings import QUICK, Recording
from tests.unit.routers.rounds.test_swift import asked_by

NEWCOMER = "large"
WHEN = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def base(made: Recording) -> Trained:
    """A policy for all but the newcomer."""
    return train(made.recorded.of(["small", "middle"]), made.vectors, 0, lambda _: None, QUICK)


@pytest.fixture(scope="module")
def base_folder(base: Trained, made: Recording, tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("base") / "rl"
    keep_trained(found, base, made.encoder, "sha", WHEN)
    return found


def lessons(made: Recording, count: int = 50) -> tuple[Recorded, np.ndarray]:
    rows = np.flatnonzero(np.array(made.recorded.splits) == "train")[:count]
    return made.recorded.take(rows), made.vectors[rows]


@pytest.fixture(scope="module")
def joined(base_folder: Path, made: Recording) -> Joined:
    return join(Experience.load(base_folder), NEWCOMER, *lessons(made))


@pytest.fixture(scope="module")
def joined_folder(joined: Joined, base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("joined") / "rl"
    keep(found, base_folder, joined, WHEN)
    return found


def test_no_net_is_trained(joined: Joined, base: Trained) -> None:
    policy = joined.known.policy
    for name in ("posterior", "gain"):
        before, after = getattr(base.policy, name), getattr(policy, name)
        assert all(np.array_equal(a, b) for a, b in zip(before.layers, after.layers, strict=True))
    assert joined.known.models == ("small", "middle", NEWCOMER)
    assert (joined.known.newcomers, policy.late) == (1, (False, False, True))
    assert joined.outcomes == 50
    old = base.policy.traits
    for name in ("score", "cost", "silent", "length", "length_spread"):
        np.testing.assert_array_equal(getattr(policy.traits, name)[:2], getattr(old, name))


def test_a_few_outcomes_are_not_taken_at_their_word(joined: Joined, base_folder: Path, made: Recording) -> None:
    known = joined.known
    seen = known.question.expect(Prompts(made.vectors[:1], made.recorded.prompts[:1]))
    assert seen.mean.shape == seen.spread.shape == (1, 3)
    assert 0.02 < seen.spread[0, 2] < 0.15
    right = lessons(made)[0]
    alone = Experience.load(base_folder)
    lucky = join(alone, NEWCOMER, replace(right, scores=np.ones_like(right.scores)), lessons(made)[1])
    assert lucky.score == 1
    assert lucky.known.policy.traits.score[2] < 0.95


def test_doubt_shrinks_with_outcomes(base_folder: Path, made: Recording) -> None:
    few, many = (join(Experience.load(base_folder), NEWCOMER, *lessons(made, count)).known.question for count in (12, 96))
    prompts = Prompts(made.vectors[:3], made.recorded.prompts[:3])
    assert (many.expect(prompts).spread[:, 2] < few.expect(prompts).spread[:, 2]).all()


def test_without_newcomers_nothing_is_expected_of_any() -> None:
    found = nobody(np.array([0.4, 0.6], np.float32)).expect(Expected(np.full((3, 2), 0.5, np.float32), np.full((3, 2), 0.1, np.float32)))
    assert found.mean.shape == (3, 0)


def test_it_is_kept_and_read_back(joined: Joined, joined_folder: Path, base_folder: Path, made: Recording) -> None:
    known = Experience.load(joined_folder)
    assert (known.models, known.newcomers, known.policy.late) == (joined.known.models, 1, joined.known.policy.late)
    prompts = Prompts(made.vectors[:5], made.recorded.prompts[:5])
    np.testing.assert_array_equal(known.question.expect(prompts).mean[:, 2], joined.known.question.expect(prompts).mean[:, 2])
    settings = json.loads((joined_folder / "settings.json").read_text())
    assert [(one["model"], one["outcomes"]) for one in settings["joined"]] == [(NEWCOMER, 50)]
    assert settings["joined"][0]["of"] == Experience.load(base_folder).hash
    with pytest.raises(ValueError, match="is known to the policy already"):
        join(known, NEWCOMER, *lessons(made))


def test_a_second_one_joins_beside_the_first(joined_folder: Path, base_folder: Path, made: Recording, tmp_path: Path) -> None:
    recorded, found = lessons(made)
    doubled = {name: getattr(recorded, name)[:, [0, 1, 2, 0]] for name in ("scores", "costs", "lengths", "votes")}
    four = replace(recorded, models=(*recorded.models, "twin"), **doubled)
    both = join(Experience.load(joined_folder), "twin", four, found)
    keep(tmp_path / "rl", joined_folder, both, WHEN)
    known = Experience.load(tmp_path / "rl")
    assert known.policy.late == (False, False, True, True)
    first, second = (
        Experience.load(folder).question.expect(Prompts(found[:3], recorded.prompts[:3])) for folder in (joined_folder, tmp_path / "rl")
    )
    np.testing.assert_array_equal(second.mean[:, :3], first.mean)


def test_too_little_is_refused(base_folder: Path, made: Recording) -> None:
    with pytest.raises(ValueError, match=f"answered 9 questions; at least {FEWEST}"):
        join(Experience.load(base_folder), NEWCOMER, *lessons(made, 9))


def test_an_artifact_without_manners_takes_nobody(base_folder: Path, made: Recording) -> None:
    known = Experience.load(base_folder)
    with pytest.raises(ValueError, match="train it again"):
        join(replace(known, policy=replace(known.policy, manners=None)), NEWCOMER, *lessons(made))


def test_until_it_is_asked_all_is_as_without_it(joined: Joined, base: Trained, made: Recording) -> None:
    known = joined.known
    held = prepared(made.recorded, made.vectors, known.question, known.unit, known.policy.traits, "test")
    dear = replace(held, costs=held.costs * np.array([1, 1, 1e6], np.float32))  # so that nobody asks it
    weights = np.array([0.01, 0.1, 1.0, np.inf])
    two = made.recorded.of(["small", "middle"])
    old = prepared(two, made.vectors, base.question, base.unit, base.policy.traits, "test")
    with_it, without = play(dear, known.policy, weights), play(old, base.policy, weights)
    np.testing.assert_array_equal(with_it.scores, without.scores)
    np.testing.assert_allclose(with_it.costs, without.costs, rtol=1e-5)
    np.testing.assert_array_equal(with_it.firsts, without.firsts)


def test_the_planner_asks_it_as_it_is_played(joined: Joined, joined_folder: Path, made: Recording) -> None:
    planner, known = RlRounds(joined_folder, cost_weight=0.0), joined.known
    held = prepared(made.recorded, made.vectors, known.question, known.unit, known.policy.traits, "test")
    rows, asked = [place for place, name in enumerate(made.recorded.splits) if name == "test"], set()
    for place, row in enumerate(rows):
        order, given = one_by_one(Swift.of(known.policy), held, place, 0.0)
        assert asked_by(planner, made, row) == ([known.models[j] for j in order], known.models[given])
        asked |= set(order)
    assert 2 in asked


def test_it_is_judged_as_any_other(joined: Joined, made: Recording) -> None:
    known = replace(joined.known, encoder=made.encoder)
    played, alone = points(made.recorded, made.vectors, known, "test")
    assert alone.shape == (32, 3)
    assert played.scores.shape[1] == 32


@pytest.mark.parametrize(
    ("newcomers", "complaint"), [([{"model": "small"}], "joined must name"), ("all", "joined must name"), (None, "not all models")]
)
def test_settings_that_contradict_the_models_are_refused(joined_folder: Path, tmp_path: Path, newcomers: Any, complaint: str) -> None:
    from tests.unit.routers.rounds.test_rl_rounds import resettled

    named = [{"model": name} for name in ("small", "middle", NEWCOMER)] if newcomers is None else newcomers
    with pytest.raises(BadArtifact, match=complaint):
        Experience.load(resettled(joined_folder, tmp_path, joined=named))


def test_the_command(base_folder: Path, made: Recording, tmp_path: Path) -> None:
    recorded = made.recorded
    rows = [(row, column) for row in range(len(recorded)) for column in range(3) if column < 2 or row < 60]
    both = {
        "query_id": [f"q{row}" for row, _ in rows],
        "model": [recorded.models[column] for _, column in rows],
        "split": [recorded.splits[row] for row, _ in rows],
    }
    more = {
        "dataset": [recorded.datasets[row] for row, _ in rows],
        "prompt": [recorded.prompts[row] for row, _ in rows],
        "score": [float(recorded.scores[cell]) for cell in rows],
        "cost_usd": [float(recorded.costs[cell]) for cell in rows],
        "tokens_out": [int(recorded.lengths[cell]) for cell in rows],
    }
    said = [None if recorded.votes[cell] < 0 else "ABCD"[recorded.votes[cell]] for cell in rows]
    pq.write_table(pa.table({**both, **more}), tmp_path / "outcomes.parquet")
    pq.write_table(pa.table({**both, "letter": said}), tmp_path / "answers.parquet")
    app = typer.Typer()
    app.command()(join_rounds)
    given = [
        "--outcomes",
        str(tmp_path / "outcomes.parquet"),
        "--answers",
        str(tmp_path / "answers.parquet"),
        "--artifact",
        str(base_folder),
    ]
    done = CliRunner().invoke(app, [NEWCOMER, *given, "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "large joined with 48 outcomes" in done.output  # those of the test split are left out
    assert Experience.load(tmp_path / "out").models == ("small", "middle", NEWCOMER)
    again = CliRunner().invoke(app, ["small", *given, "--out", str(tmp_path / "out")])
    assert (again.exit_code, "known to the policy already" in again.output) == (2, True)
    nobody_there = CliRunner().invoke(app, ["huge", *given, "--out", str(tmp_path / "out")])
    assert nobody_there.exit_code == 2

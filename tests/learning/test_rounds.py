"""`rl_rounds` on recorded answers of real models, trained for a minute or two: it must beat whoever looks at the question alone.

`POINTSMAN_VECTORS` and `POINTSMAN_ENCODER` as in test_newcomer. The full figures are made by `pointsman train rl-rounds` and `evaluate`.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from routers.embedding import ENCODERS
from routers.learning import vectors
from routers.learning.answers import Recorded
from routers.learning.answers import load as load_answers
from routers.learning.figures import hull
from routers.learning.outcomes import load
from routers.learning.rounds import ppo
from routers.learning.rounds.evaluate import evaluate, points
from routers.learning.rounds.joining import join
from routers.learning.rounds.play import play
from routers.learning.rounds.train import COARSE, Plan, Trained, prepared, train
from routers.rounds.experience import Experience
from tests.outcome_tables import table

pytest.importorskip("sklearn", reason="the extra `train` is not installed")
pytestmark = [pytest.mark.bench, pytest.mark.timeout(1800)]
PEERS = ("gemini-1.5-flash-002", "DeepSeek-Coder-V2", "Llama-3.1-70B-Instruct", "gemini-1.5-pro-002")
NEWCOMER = "Llama-3.1-70B-Instruct"
SHORT = Plan(asks=60_000, pace=ppo.Pace(updates=8, episodes=2048))


def recorded_answers() -> tuple[Recorded, np.ndarray]:
    outcomes = load(table("mmlupro")).of(PEERS)
    recorded = load_answers(table("mmlupro.letters"), outcomes)
    encoder = ENCODERS[os.environ.get("POINTSMAN_ENCODER", "static")]()
    kept = os.environ.get("POINTSMAN_VECTORS")
    return recorded, vectors.encode(list(recorded.prompts), encoder, 2, lambda _: None, Path(kept) if kept else None)


def known(trained: Trained) -> Experience:
    encoder = ENCODERS[os.environ.get("POINTSMAN_ENCODER", "static")]()
    return Experience(trained.models, trained.question, trained.policy, trained.unit, encoder, "")


def test_rounds_pay_where_models_are_of_like_strength() -> None:
    recorded, found = recorded_answers()
    trained = train(recorded, found, 0, print, SHORT)
    test = np.array(recorded.splits) == "test"
    held = recorded.take(np.flatnonzero(test | (np.array(recorded.splits) == "train")))
    played, alone = points(held, found[np.isin(recorded.rows, held.rows)], known(trained), "test")
    judged = evaluate(recorded, "test", {"rl_rounds": played}, {"once": alone})
    block = judged["planners"]["rl_rounds"]
    gain = block["against"]["once"]
    print({name: block[name] for name in ("aiq", "acc_max", "accuracy_at_best_single_cost", "cost_match")}, gain)
    assert block["aiq"] >= 0.71
    assert block["accuracy_at_best_single_cost"] >= 0.735
    assert gain["aiq_95"][0] > 0


def test_a_newcomer_of_fifty_outcomes_is_no_burden() -> None:
    """The nets are trained without it; then it joins, and fifty of its outcomes are all that is known of it."""
    recorded, found = recorded_answers()
    without = train(recorded.of([name for name in PEERS if name != NEWCOMER]), found, 0, print, SHORT)
    alone, rows = known(without), np.flatnonzero(np.array(recorded.splits) == "train")
    worths = [worth_of(alone, recorded, found)]
    for draw in range(int(os.environ.get("POINTSMAN_DRAWS", "3"))):
        seen = np.sort(np.random.default_rng(draw).choice(rows, 50, replace=False))
        joined = join(alone, NEWCOMER, recorded.take(seen), found[seen]).known
        worths.append(worth_of(joined, recorded, found))
        print(f"without it {worths[0]:.4f}, with 50 outcomes {worths[-1]:.4f}", flush=True)
    assert np.mean(worths[1:]) >= worths[0]


def worth_of(of: Experience, recorded: Recorded, vectors: np.ndarray) -> float:
    """AIQ on test, on the axis of costs of all models."""
    axis = recorded.split("test").costs.mean(axis=0) / of.unit
    some = recorded.of(of.models)
    held = prepared(some, vectors, of.question, of.unit, of.policy.traits, "test")
    played = play(held, of.policy, COARSE)
    least, most = float(axis.min()), float(axis.max())
    return hull(played.costs.mean(axis=1), played.scores.mean(axis=1), least).area(least, most)

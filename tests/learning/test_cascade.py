"""Learned votes and cascades on recorded answers of real models: not below the references, on questions that nothing was fitted to.

`POINTSMAN_VECTORS` and `POINTSMAN_ENCODER` as in test_newcomer. One pool takes a minute or two. The full figures are made
by `pointsman train cascade` and `pointsman evaluate --answers`.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from routers.credence import Loaded
from routers.embedding import ENCODERS
from routers.learning import vectors
from routers.learning.answers import load as load_answers
from routers.learning.cascade import fit, keep
from routers.learning.cascade_figures import Shown, cascade_points, early, learned_vote
from routers.learning.knn_cascade import knn_cascades
from routers.learning.outcomes import load
from routers.learning.points import rules
from routers.learning.rounds.evaluate import evaluate
from routers.learning.stopping import Target
from routers.stages import Stages
from tests.outcome_tables import FOLDER, table

pytest.importorskip("lightgbm", reason="the extra `train` is not installed")
PEERS = ("gemini-1.5-flash-002", "DeepSeek-Coder-V2", "Llama-3.1-70B-Instruct", "gemini-1.5-pro-002")
MIDDLING = ("Phi-3-mini-4k-instruct", "mathstral-7B", "Llama-3.1-8B-Instruct", "Mixtral-8x7B-Instruct-v0.1", "Yi-34B", "Qwen1.5-72B-Chat")
POOLS = {"mmlupro-peers4": PEERS, "mmlupro-mid6": MIDDLING}
LEAST_VOTE = {"mmlupro-peers4": 0.750, "mmlupro-mid6": 0.553}


@pytest.mark.slow
@pytest.mark.parametrize("pool", POOLS)
def test_rules_come_to_what_the_references_say(pool: str) -> None:
    recorded = load_answers(table("mmlupro.letters"), load(table("mmlupro")).of(POOLS[pool]))
    found, known = rules(recorded, "test"), _reference(pool)
    size = len(POOLS[pool])
    for name, wanted in (("majority", f"majority_{size}_cheapest"), ("weighted_vote", f"weighted_vote_{size}"), ("agreement_cascade",) * 2):
        assert found[name].scores.mean() == pytest.approx(known[wanted]["accuracy"], abs=5e-5), name
        assert found[name].calls.mean() == pytest.approx(known[wanted]["mean_calls"], abs=5e-3), name
        assert found[name].costs.mean() == pytest.approx(known[wanted]["mean_cost_usd"], abs=5e-8), name


@pytest.mark.bench
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("pool", POOLS)
def test_what_is_learned_is_not_below_the_references(pool: str, tmp_path: Path) -> None:
    outcomes = load(table("mmlupro")).of(POOLS[pool])
    recorded = load_answers(table("mmlupro.letters"), outcomes)
    encoder = ENCODERS[os.environ.get("POINTSMAN_ENCODER", "static")]()
    kept = os.environ.get("POINTSMAN_VECTORS")
    found = vectors.encode(list(recorded.prompts), encoder, 2, lambda _: None, Path(kept) if kept else None)
    keep(tmp_path / "cascade", fit(recorded, found, Target(), say=print), encoder, datetime.now(UTC))
    loaded = Loaded.load(tmp_path / "cascade")
    test = np.flatnonzero(np.array(recorded.splits) == "test")
    shown = Shown.of(loaded.credence, recorded.take(test), found[test])
    planners = {"cascade": cascade_points(shown, Stages.of(loaded.artifact).frontier)}
    votes, references = {"learned": learned_vote(shown), **rules(recorded, "test")}, knn_cascades(recorded, found, "test")
    block = evaluate(recorded, "test", planners, {"once": shown.expected_of(shown.pool.models)}, votes=votes, references=references)
    _print(block)
    _held_to_what_is_known(block, pool)
    plain, learned = early(Shown.of(loaded.credence, recorded.take(test[:300]), found[test[:300]]))
    print("ending early:", plain, learned)
    assert plain.changed == 0
    assert learned.changed <= 0.02
    assert learned.cancelled > plain.cancelled / 2


def _held_to_what_is_known(block: dict[str, Any], pool: str) -> None:
    known, cascade = _reference(pool), block["planners"]["cascade"]
    learned = known["learned_cascade_best_orders"]
    assert block["votes"]["learned"]["accuracy"] >= LEAST_VOTE[pool]
    assert cascade["aiq"] >= learned["aiq"]
    assert cascade["accuracy_at_best_single_cost"] >= learned["accuracy_at_best_single_cost"]
    assert cascade["against"]["once"]["aiq_95"][0] > 0
    if os.environ.get("POINTSMAN_ENCODER") == "minilm":  # the references were made with it
        assert block["references"]["knn_cascade_ladder"]["aiq"] == pytest.approx(known["knn_cascade_ladder"]["aiq"], abs=0.004)
        assert block["references"]["knn_cascade_adaptive"]["aiq"] == pytest.approx(known["knn_cascade_adaptive"]["aiq"], abs=0.004)


def _reference(pool: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / "reference.json").read_text())["multi_round"][pool]
    return found


def _print(block: dict[str, Any]) -> None:
    for name, one in block["votes"].items():
        print(f"{name}: {one['accuracy']:.4f} at {one['cost_share']:.1%}, {one['calls']:.2f} calls")
    for name, one in (block["references"] | block["planners"]).items():
        at_best = one["accuracy_at_best_single_cost"]
        print(f"{name}: AIQ {one['aiq']:.4f}, {at_best:.4f} at the best single model's cost, as good for {one['cost_match']:.1%}")

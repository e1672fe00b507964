"""Training: gradients by differences, the same each time, the command line's parts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from routers.learning.rounds import ppo
from routers.learning.rounds.evaluate import evaluate, points
from routers.learning.rounds.ppo import Pace, Steps, actor_gradients
from routers.learning.rounds.reward import RouterR1
from routers.learning.rounds.train import Trained, train
from routers.rounds.experience import Experience
from routers.rounds.net import Net
from routers.rounds.standing import ASK
from tests.unit.routers.rounds.recordings import MODELS, QUICK, Recording


def loss(actor: Net, steps: Steps, pace: Pace) -> float:
    """The clipped loss less the entropy bonus, as the paper has it."""
    gains = actor.apply(steps.asks.reshape(-1, steps.asks.shape[2])).reshape(steps.asks.shape[:2]).astype(np.float64)
    gains = steps.base + steps.share[:, None] * gains
    chances = ppo.softmax(ppo.logits(gains, steps.free, pace.sharpness).astype(np.float64))
    ratio = chances[np.arange(len(gains)), steps.action] / np.exp(steps.chance)
    held = np.clip(ratio, 1 - pace.clip, 1 + pace.clip)
    entropy = -(chances * np.log(np.maximum(chances, 1e-12))).sum(axis=1)
    return float(-(np.minimum(ratio * steps.advantage, held * steps.advantage) + pace.entropy * entropy).mean())


def test_the_gradients_are_those_of_the_clipped_loss() -> None:
    rng = np.random.default_rng(0)
    asks = rng.normal(size=(12, 3, ASK)).astype(np.float32)
    free = np.ones((12, 4), dtype=bool)
    free[:4, 1] = False
    actor = Net.fresh(asks.reshape(-1, ASK), (6,), 1, 0)
    actor.layers[2][:] = rng.normal(0, 0.02, actor.layers[2].shape)
    action = np.where(np.arange(12) % 2 == 0, 3, 0)
    chance = np.log(rng.uniform(0.15, 0.4, 12)).astype(np.float32)
    base, share = rng.normal(0, 0.1, (12, 3)).astype(np.float32), np.where(np.arange(12) % 3 == 0, 0.5, 1).astype(np.float32)
    nothing = np.zeros(12, dtype=np.float32)
    steps = Steps(asks, base, share, free, action, chance, nothing[:, None], rng.normal(size=12).astype(np.float32), nothing)
    pace = Pace(sharpness=3.0, entropy=0.05)
    found, _ = actor_gradients(actor, steps, np.arange(12), pace)
    for place in (0, 1, 2, 3):
        layer, small = actor.layers[place], np.float32(1e-2 if place < 2 else 1e-3)
        spot = np.unravel_index(int(np.abs(found[place]).argmax()), layer.shape)
        before = layer[spot]
        layer[spot] = before + small
        above = loss(actor, steps, pace)
        layer[spot] = before - small
        below = loss(actor, steps, pace)
        layer[spot] = before
        assert found[place][spot] == pytest.approx((above - below) / (2 * small), rel=0.05, abs=2e-4)


def test_training_is_the_same_each_time(made: Recording, trained: Trained) -> None:
    again = train(made.recorded, made.vectors, 0, lambda _: None, QUICK)
    first, second = trained.policy.tensors(), again.policy.tensors()
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert again.looks == trained.looks
    assert len(trained.looks) == 3


def test_it_learns_from_the_reward_of_router_r1_too(made: Recording) -> None:
    found = train(made.recorded, made.vectors, 1, lambda _: None, QUICK, RouterR1())
    assert found.looks[-1].reward is not None
    assert -1 <= found.looks[-1].reward <= 1


def test_too_few_questions_are_refused(made: Recording) -> None:
    with pytest.raises(ValueError, match="at least 50"):
        train(made.recorded.take(np.arange(40)), made.vectors[:40], 0, lambda _: None, QUICK)


def test_it_is_judged_beside_routers_that_ask_once(made: Recording, trained: Trained) -> None:
    known = Experience(MODELS, trained.question, trained.policy, trained.unit, made.encoder, "")
    played, alone = points(made.recorded, made.vectors, known, "test")
    found = evaluate(made.recorded, "test", {"rounds": played}, {"once": alone})
    block = found["planners"]["rounds"]
    assert found["queries"] == 32
    assert set(block["against"]) >= {"once", "zero_router", "best_single"}
    assert block["points"][-1]["weight"] is None
    assert block["points"][-1]["calls"] == 1
    assert 0 <= block["aiq_95"][0] <= block["aiq"] <= block["aiq_95"][1] <= 1
    with pytest.raises(ValueError, match="two contenders"):
        evaluate(made.recorded, "test", {"once": played}, {"once": alone})
    with pytest.raises(ValueError, match="knows nothing of huge"):
        points(replace(made.recorded, models=("small", "middle", "huge")), made.vectors, known, "test")

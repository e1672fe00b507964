"""Recorded answers that are made up: three models, two kinds of question; each kind has a model that knows better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from routers.embedding import ENCODERS
from routers.learning.answers import Recorded
from routers.learning.rounds import ppo
from routers.learning.rounds.train import Plan

if TYPE_CHECKING:
    from routers.api import Embeddings, Encoder

MODELS = ("small", "middle", "large")
COSTS = (1e-5, 4e-5, 2e-4)
CHANCES = ((0.8, 0.5, 0.85), (0.3, 0.6, 0.75))
OPTIONS = "\nA. one\nB. two\nC. three\nD. four"
QUICK = Plan(asks=600, stages=1, turns=2, draws=2, pace=ppo.Pace(updates=2, episodes=96), look_every=1)


@dataclass(frozen=True)
class Recording:
    recorded: Recorded
    vectors: Embeddings
    encoder: Encoder


def recording(count: int = 160, seed: int = 3) -> Recording:
    """The same for the same arguments; 60 % train, the rest validation and test."""
    rng = np.random.default_rng(seed)
    kinds = rng.integers(0, 2, count)
    words = ("the sum of two numbers", "the capital of a country")
    prompts = tuple(f"Question {place}: what is {words[kind]}?{OPTIONS}" for place, kind in enumerate(kinds.tolist()))
    right = rng.random((count, 3)) < np.array(CHANCES)[kinds]
    votes = np.where(right, 0, rng.integers(1, 4, (count, 3))).astype(np.int32)
    votes[rng.random((count, 3)) < 0.03] = -1
    scores = ((votes == 0) & right).astype(np.float64)
    splits = tuple("train" if place % 5 < 3 else "validation" if place % 5 == 3 else "test" for place in range(count))
    costs = np.array(COSTS) * rng.uniform(0.5, 1.5, (count, 3))
    lengths = np.round(rng.uniform(20, 200, (count, 3)))
    encoder = ENCODERS["static"]()
    said = (("A", "B", "C", "D"),) * count
    rows = np.arange(count)
    datasets = tuple(f"made-up/{place % 5}" for place in range(count))
    recorded = Recorded(MODELS, rows, splits, datasets, prompts, scores, costs, lengths, votes, said, "sha")
    return Recording(recorded, encoder.encode(list(prompts)), encoder)

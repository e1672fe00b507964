"""Asks a trained router what it expects, as it would say it when it serves, and how long it takes to say so."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from routers.learned import LearnedScorer, Prompts
from routers.learning.evaluate import Judged

TIMED = 200
"""Decisions that are timed one by one."""
NO_OPINION = -1.0
"""Stands for an opinion that a router does not have: so that model is never its choice unless it is the cheapest at any price."""


def judge(scorer: LearnedScorer, prompts: Prompts, models: Sequence[str], questions: int) -> Judged:
    """What a router expects of these models on prompts: the first `questions` are those that it is judged on, the others validation's."""
    found = scorer.expect(prompts, models)
    mean = np.nan_to_num(found.mean.astype(np.float64), nan=NO_OPINION)
    spread = np.nan_to_num(found.spread.astype(np.float64))
    validation = mean[questions:] if len(prompts) > questions else None
    return Judged(mean[:questions], validation, spread[:questions], _seconds(scorer, prompts, models))


def _seconds(scorer: LearnedScorer, prompts: Prompts, models: Sequence[str]) -> tuple[float, float]:
    """Median and 99th percentile of one decision beyond the prompt's embedding."""
    taken = []
    for row in range(min(TIMED, len(prompts))):
        one = Prompts(prompts.vectors[row : row + 1], prompts.texts[row : row + 1])
        started = time.perf_counter()
        scorer.expect(one, models)
        taken.append(time.perf_counter() - started)
    middle, late = np.percentile(taken, [50, 99]).tolist()
    return middle, late

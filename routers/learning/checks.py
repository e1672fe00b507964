"""What is asked of a trained router beyond its figures: does it keep its promises and its mind, are prompts still alike?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from routers.learned import LearnedScorer, Prompts
from routers.learning.evaluate import Judged, Pool
from routers.learning.judge import NO_OPINION
from routers.learning.promise import Held, holds, promise
from routers.learning.robustness import robustness
from routers.pickers.threshold import read as read_held

if TYPE_CHECKING:
    from routers.api import Embeddings
    from routers.learning.figures import Floats

QUALITIES = (0.5, 0.6, 0.7, 0.8, 0.9)
ALPHAS = (0.1, 0.2)


def promises(scorer: LearnedScorer, judged: Judged, pool: Pool) -> list[dict[str, Any]]:
    """For each quality and α: the rule that the artifact's own calibration finds, and what came of it on the questions of a pool.

    `z` is None where no rule keeps the promise; then the best model answers, and nothing was promised. Empty for an artifact that keeps no
    calibration, or has no opinion on some model.
    """
    if "promise/mean" not in scorer.artifact.tensors or judged.uncertainty is None or (judged.expected == NO_OPINION).any():
        return []
    kept = read_held(scorer.artifact)
    columns = [scorer.models.index(name) for name in pool.models]
    own = Held(kept.mean[:, columns], kept.spread[:, columns], kept.scores[:, columns], kept.costs[columns])
    asked = Held(judged.expected, judged.uncertainty, pool.scores, own.costs)
    found = []
    for q in QUALITIES:
        for alpha in ALPHAS:
            made = promise(own, q, alpha)
            came = holds(asked, q, made.z)
            block = {"q": q, "alpha": alpha, "promised": made.z is not None, "z": _plain(made.z), "quality": came.quality}
            kept_word = {"holds": came.holds, "holds_within_95": came.holds_within} if made.z is not None else {}
            found.append({**block, "quality_95": list(came.interval_95), "cost_usd": came.cost_usd, "dearest": came.dearest, **kept_word})
    return found


def steadiness(
    scorer: LearnedScorer, encode: Callable[[Sequence[str]], Embeddings], texts: Sequence[str], pool: Pool, weight: float
) -> dict[str, Any]:
    """How often the router changes its choice when prompts are reworded, padded, or told to take the big model; at this weight of cost."""

    def expect(reworded: Sequence[str]) -> Floats:
        mean = scorer.expect(Prompts(encode(reworded), tuple(reworded)), pool.models).mean
        return np.nan_to_num(mean.astype(np.float64), nan=NO_OPINION)

    return robustness(expect, texts, pool.scale, weight)


def _plain(z: float | None) -> float | None:
    """A z for JSON, which has no infinity: "always the best" is written as null, as `promised` tells the two apart."""
    return None if z is None or np.isinf(z) else z

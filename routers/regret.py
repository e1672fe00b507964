"""When a conversation should change its model: only if the gain is greater than what the prefix cache was worth."""

from __future__ import annotations

import math
from collections.abc import Sequence

from routers.api import Model, Scored


def gain(ranking: Sequence[Scored], current: str) -> float:
    """How much more the first of a ranking scores than the current model; infinite if that is not in the ranking at all."""
    own = next((scored.score for scored in ranking if scored.name == current), None)
    return math.inf if own is None else ranking[0].score - own


def regret(
    target: Model, ranking: Sequence[Scored], prefix_tokens: int, cost_weight: float, tokens_per_second: float, second_weight: float
) -> float:
    """What moving a conversation of `prefix_tokens` tokens to `target` costs, in units of score.

    The current model has these tokens in its prefix cache; the target has to compute them:

        cost_weight * prefix_tokens * saved / (dearest - cheapest)   +   second_weight * prefix_tokens / tokens_per_second

    `saved`: USD a token that a prefix in the cache is cheaper at the target's prices (all of the input price where no cached price is
    known). `dearest - cheapest`: the spread of the expected costs of the ranking, which is what the scorer `cost` stretches over [0, 1];
    without a spread or a price the first term is 0. `second_weight`: score that a second of waiting for the first token is worth.
    """
    waiting = second_weight * prefix_tokens / tokens_per_second
    costs = [scored.cost_usd for scored in ranking if scored.cost_usd is not None]
    spread = max(costs) - min(costs) if costs else 0.0
    if target.price is None or spread <= 0:
        return waiting
    saved = (target.price.input - (target.price.cached_input or 0.0)) / 1_000_000
    return cost_weight * prefix_tokens * max(0.0, saved) / spread + waiting

"""What an episode is worth to those who learn from it.

`priced` is what a frontier is made of: how good the answer was, less the weight times what was paid. `router-r1` is the reward of Router-R1
(arXiv 2506.09033): −1 for a broken episode, else (1 − α) · right + α · (cost reward, only if right); the cost reward falls from 1 to 0 with
the square root of what was paid, on a scale between the 5th and the 95th percentile of the last 1,000 episodes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from routers.rounds.standing import Floats

    Flags = NDArray[np.bool_]

BROKEN = np.float32(-1.0)
EPISODES = 1000
LOW, HIGH = 5, 95
"""Percentiles between which costs are told apart."""


class Reward(Protocol):
    """`of`: the rewards (b,) of b episodes that end. `right` in [0, 1], `paid` in units, `weight`: of a unit, `broken`: all (b,)."""

    def of(self, right: Floats, paid: Floats, weight: Floats, broken: Flags) -> Floats: ...


class Priced:
    """How good the answer was, less what was paid for it; on a scale on which neither outweighs the other at any weight."""

    def of(self, right: Floats, paid: Floats, weight: Floats, broken: Flags) -> Floats:
        found = (right - weight * paid) / (1 + weight)
        return np.where(broken, BROKEN, found).astype(np.float32)


class RouterR1:
    """`alpha`: how much cost counts, in [0, 1]; None: by the episode's weight, weight / (1 + weight)."""

    def __init__(self, alpha: float | None = None) -> None:
        if alpha is not None and not 0 <= alpha <= 1:
            raise ValueError("alpha must be between 0 and 1")
        self._alpha = alpha
        self._recent: deque[float] = deque(maxlen=EPISODES)

    def of(self, right: Floats, paid: Floats, weight: Floats, broken: Flags) -> Floats:
        self.remember(paid[~broken].tolist())
        alpha = weight / (1 + weight) if self._alpha is None else np.float32(self._alpha)
        found = (1 - alpha) * right + alpha * self.cost_reward(paid) * right
        return np.where(broken, BROKEN, found).astype(np.float32)

    def remember(self, paid: Iterable[float]) -> None:
        """Costs of episodes, in the order in which they ended; those of the last 1,000 count."""
        self._recent.extend(np.sqrt(np.fromiter(paid, dtype=np.float64)).tolist())

    def cost_reward(self, paid: Floats) -> Floats:
        """In [0, 1], 1 for the cheapest; 1 for all where costs do not differ."""
        if not self._recent:
            return np.ones_like(paid)
        low, high = np.percentile(np.array(self._recent), [LOW, HIGH]).tolist()
        if high <= low:
            return np.ones_like(paid)
        found: Floats = (1 - np.clip((np.sqrt(paid) - low) / (high - low), 0, 1)).astype(np.float32)
        return found

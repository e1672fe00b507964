"""What episodes are worth: the reward that `rl-rounds` knows too, with a memory that outlives a restart."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from routers.learning.rounds.reward import EPISODES, RouterR1

if TYPE_CHECKING:
    from routers.learning.router_r1.episodes import Episode


@dataclass(frozen=True, slots=True)
class Ending:
    """How an episode went, as far as its reward goes. `broken`: the grammar broke in some turn, repaired or not: where a repair was free, a
    policy learned to break its first turn and to answer in the repair. `right` in [0, 1].
    """

    broken: bool
    right: float
    cost_usd: float

    @classmethod
    def of(cls, episode: Episode) -> Ending:
        return cls(episode.broken or episode.repaired > 0, episode.right, episode.cost_usd)


class Rewards:
    """`alpha`: how much cost counts, in [0, 1]. `seen`: USD of the last episodes in which nothing broke, the oldest first.

    −1 for a broken episode, else (1 − alpha) · right + alpha · (cost reward, only if right). Raises ValueError for another alpha.
    """

    def __init__(self, alpha: float, seen: Sequence[float] = ()) -> None:
        self._reward = RouterR1(alpha)
        self._seen: deque[float] = deque(seen, maxlen=EPISODES)
        self._reward.remember(self._seen)

    @property
    def seen(self) -> list[float]:
        return list(self._seen)

    def of(self, endings: Sequence[Ending]) -> list[float]:
        """The reward of each. All of them are among the episodes by which costs are told apart, the first of them too."""
        if not endings:
            return []
        right = np.array([one.right for one in endings], dtype=np.float32)
        paid = np.array([one.cost_usd for one in endings], dtype=np.float64)
        broken = np.array([one.broken for one in endings])
        self._seen.extend(paid[~broken].tolist())
        found: list[float] = self._reward.of(right, paid, np.zeros(len(endings), np.float32), broken).tolist()  # type: ignore[arg-type]
        return found

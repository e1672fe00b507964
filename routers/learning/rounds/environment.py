"""Many episodes at once over recorded answers: in each a question, a weight of cost, and a bound on what may be spent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from routers.rounds.policy import STOP, spoken

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from routers.learning.rounds.ground import Ground
    from routers.learning.rounds.reward import Reward
    from routers.rounds.policy import Policy
    from routers.rounds.standing import Flags, Floats, Standing

    Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Step:
    """What came of one action in each episode: rewards (b,), and which episodes have ended (b,), whether before or now."""

    rewards: Floats
    ended: Flags


class Episodes:
    """b episodes on recorded questions. An action is the column of a model to ask, or STOP, which gives the likeliest of the answers.

    An episode is broken by stopping before anyone was asked, asking someone twice, or asking for more than what is left. When what was
    recorded costs more than was expected, the bound may be overrun by that ask alone, as when serving.
    """

    def __init__(self, ground: Ground, policy: Policy, reward: Reward, rows: Rows, weight: Floats, left: Floats) -> None:
        """`policy`: says which answer is the likeliest. `rows` (b,): the questions. `weight`, `left` (b,): as in a Standing."""
        self._ground, self._policy, self._reward = ground, policy, reward
        self._rows, self._weight = rows, weight.astype(np.float32)
        self._left = left.astype(np.float32)
        self._asked = np.zeros((len(rows), ground.models), dtype=bool)
        self._ended = np.zeros(len(rows), dtype=bool)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def running(self) -> Rows:
        """The places of the episodes that have not ended."""
        return np.flatnonzero(~self._ended)

    @property
    def paid(self) -> Floats:
        """(b,): units so far."""
        found: Floats = np.where(self._asked, self._ground.paid[self._rows], 0).sum(axis=1)
        return found

    @property
    def asked(self) -> Flags:
        """(b, m)"""
        return self._asked.copy()

    def standing(self, places: Rows) -> Standing:
        """How these episodes stand."""
        return self._ground.standing(self._rows[places], self._asked[places], self._weight[places], self._left[places])

    def step(self, places: Rows, actions: Rows) -> Step:
        """Takes an action in each of these episodes, none of which has ended. Raises ValueError if one has."""
        if self._ended[places].any():
            raise ValueError("an episode that has ended takes no more actions")
        rewards = np.zeros(len(self), dtype=np.float32)
        stops = actions == STOP
        free = self.standing(places).affordable
        broken = np.where(stops, ~self._asked[places].any(axis=1), ~free[np.arange(len(places)), np.maximum(actions, 0)])
        asks = ~stops & ~broken
        asking, whom = places[asks], actions[asks]
        self._asked[asking, whom] = True
        self._left[asking] -= self._ground.paid[self._rows[asking], whom]
        self._end(places[stops | broken], broken[stops | broken], rewards)
        return Step(rewards, self._ended.copy())

    def _end(self, places: Rows, broken: Flags, rewards: Floats) -> None:
        if not len(places):
            return
        standing = self.standing(places)
        given = spoken(self._policy.chances(standing), standing)
        right = self._ground.scores[self._rows[places], given]
        rewards[places] = self._reward.of(right, self.paid[places], self._weight[places], broken)
        self._ended[places] = True

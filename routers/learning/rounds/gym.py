"""The same episodes one at a time as an environment of gymnasium, for algorithms of others. Our own training takes thousands at once and
does without gymnasium, so it is no dependency: whoever has it installed can use this.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from routers.learning.rounds.environment import Episodes
from routers.learning.rounds.lookahead import drawn_bounds, drawn_weights
from routers.rounds.policy import STOP
from routers.rounds.standing import ASK

if TYPE_CHECKING:
    from routers.learning.rounds.ground import Ground
    from routers.learning.rounds.reward import Reward
    from routers.rounds.policy import Policy
    from routers.rounds.standing import Flags, Floats

    Step: TypeAlias = tuple[Floats, float, bool, bool, dict[str, Any]]

NOBODY_RUNS = "the episode has ended: reset comes first"


def environment(ground: Ground, policy: Policy, reward: Reward) -> Any:
    """A gymnasium.Env over recorded questions. `policy`: says how likely answers are right.

    Observation: float32 (m, ASK), what speaks for asking each model (`routers.rounds.standing.outlook`). Action: the column of a model, or
    m to stop, which gives the likeliest answer. What must not be done ends the episode with a reward of −1. `info`: `action_mask`, int8
    (m + 1,): what may be done; `paid`: units. `reset` takes as options `row`, `weight` and `left` (see `Standing`); else they are drawn.

    Raises ImportError without gymnasium.
    """
    gymnasium: Any = import_module("gymnasium")

    class Rounds(_Rounds, gymnasium.Env):  # type: ignore[misc]
        action_space = gymnasium.spaces.Discrete(ground.models + 1)
        observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (ground.models, ASK), np.float32)

        def reset(self, *, seed: int | None = None, options: Mapping[str, Any] | None = None) -> tuple[Floats, dict[str, Any]]:
            gymnasium.Env.reset(self, seed=seed)
            return self.begin(self.np_random, options or {})

    return Rounds(ground, policy, reward)


class _Rounds:
    """One episode at a time."""

    def __init__(self, ground: Ground, policy: Policy, reward: Reward) -> None:
        self._ground, self._policy, self._reward = ground, policy, reward
        self._playing: Episodes | None = None

    def begin(self, rng: np.random.Generator, options: Mapping[str, Any]) -> tuple[Floats, dict[str, Any]]:
        row = options["row"] if "row" in options else int(rng.integers(len(self._ground)))
        weight = np.float32(options["weight"]) if "weight" in options else drawn_weights(rng, 1)[0]
        left = np.float32(options["left"]) if "left" in options else drawn_bounds(rng, 1)[0]
        enough = np.array([max(left, self._ground.costs[row].min())])
        self._playing = Episodes(self._ground, self._policy, self._reward, np.array([row]), np.array([weight]), enough)
        seen, free = self._seen(self._playing)
        return seen, self._told(self._playing, free)

    def step(self, action: int) -> Step:
        """Raises ValueError before the first reset and after the end."""
        playing = self._playing
        if playing is None or not len(playing.running):
            raise ValueError(NOBODY_RUNS)
        done = playing.step(np.zeros(1, np.int64), np.array([STOP if action == self._ground.models else action]))
        seen, free = self._seen(playing)
        return seen, float(done.rewards[0]), bool(done.ended[0]), False, self._told(playing, free)

    def _seen(self, playing: Episodes) -> tuple[Floats, Flags]:
        standing = playing.standing(np.zeros(1, np.int64))
        return self._policy.look(standing).asks[0], standing.affordable[0]

    def _told(self, playing: Episodes, free: Flags) -> dict[str, Any]:
        return {"action_mask": np.append(free, playing.asked.any()).astype(np.int8), "paid": float(playing.paid[0])}

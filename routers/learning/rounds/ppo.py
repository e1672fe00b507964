"""Proximal policy optimisation over episodes of rounds (Schulman et al. 2017), in numpy and one file.

The actor is the policy's net of gains: its chances are a softmax over the gains, sharpened, with 0 for stopping, without what may not be
done. The critic is a small net over how a question stands, beside what looking ahead had foreseen. Nothing is discounted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from routers.learning.rounds.environment import Episodes
from routers.learning.rounds.lookahead import drawn_bounds, drawn_weights
from routers.rounds.net import Net
from routers.rounds.policy import STOP, Policy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from routers.learning.rounds.ground import Ground
    from routers.learning.rounds.reward import Reward
    from routers.rounds.policy import View
    from routers.rounds.standing import Flags, Floats, Standing

    Rows = NDArray[np.int64]

CRITIC = (32,)
JOINED = ("asks", "base", "share", "free", "action", "chance", "stands")
BOUND_TO_ASK = np.float32(-1e9)
"""The logit of what may not be done."""


@dataclass(frozen=True, slots=True)
class Pace:
    """`sharpness`: a gain of its inverse makes an ask e times as likely as stopping. `clip`: how far an action's chance may move in one
    update, as a share. `entropy`: what a nat of it is worth.
    """

    updates: int = 24
    episodes: int = 3072
    epochs: int = 2
    portion: int = 1024
    rate: float = 1e-4
    critic_rate: float = 2e-3
    sharpness: float = 80.0
    clip: float = 0.2
    trace: float = 0.95
    entropy: float = 1e-3


class Adam:
    """Moves arrays against their gradients, in place. (Kingma and Ba 2015)"""

    def __init__(self, arrays: Sequence[Floats]) -> None:
        self._arrays = arrays
        self._first = [np.zeros_like(array) for array in arrays]
        self._second = [np.zeros_like(array) for array in arrays]
        self._steps = 0

    def move(self, gradients: Sequence[Floats], rate: float) -> None:
        self._steps += 1
        norm = float(np.sqrt(sum(float(np.square(gradient, dtype=np.float64).sum()) for gradient in gradients)))
        shrink = np.float32(min(1.0, 0.5 / max(norm, 1e-9)))
        for array, gradient, mean, square in zip(self._arrays, gradients, self._first, self._second, strict=True):
            bounded = gradient * shrink
            mean += 0.1 * (bounded - mean)
            square += 0.001 * (bounded * bounded - square)
            step = mean / (1 - 0.9**self._steps) / (np.sqrt(square / (1 - 0.999**self._steps)) + 1e-8)
            array -= (rate * step).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Steps:
    """s actions that were taken. `asks` (s, m, ASK); `base` (s, m), `share` (s,): as of `Policy.base`; `free` (s, m + 1): what could be
    done, stopping last; `action` (s,): its column; `chance` (s,): its logarithm then; `stands` (s, d): the critic's inputs; `advantage`,
    `target` (s,).
    """

    asks: Floats
    base: Floats
    share: Floats
    free: Flags
    action: Rows
    chance: Floats
    stands: Floats
    advantage: Floats
    target: Floats


@dataclass(frozen=True, slots=True)
class Progress:
    """After an update. `reward`: mean of its episodes. `calls`: mean asks. `changed`: mean share by which chances moved."""

    update: int
    reward: float
    calls: float
    changed: float


def improve(ground: Ground, policy: Policy, reward: Reward, pace: Pace, seed: int, told: Callable[[Progress, Policy], None]) -> Policy:
    """The policy after `updates` updates; `told` hears of each, with the policy as it is then. Deterministic from the seed."""
    rng = np.random.default_rng([seed, 13])
    actor = replace(policy.gain, layers=tuple(array.copy() for array in policy.gain.layers))
    current = replace(policy, gain=actor)
    critic: Net | None = None
    move_actor, move_critic = Adam(actor.layers), None
    for update in range(pace.updates):
        played, value, calls = _episodes(ground, policy, current, critic, reward, pace, rng)
        if critic is None or move_critic is None:
            critic = Net.fresh(played.stands, CRITIC, 1, seed)
            move_critic = Adam(critic.layers)
        rate = pace.rate * (1 - update / pace.updates)
        changed = []
        for _ in range(pace.epochs):
            order = rng.permutation(len(played.action))
            for start in range(0, len(order), pace.portion):
                rows = order[start : start + pace.portion]
                gradients, moved = actor_gradients(actor, played, rows, pace)
                move_actor.move(gradients, rate)
                made = critic.hidden(played.stands[rows])
                move_critic.move(critic.gradients(made, (made[-1] - played.target[rows, None]) / np.float32(len(rows))), pace.critic_rate)
                changed.append(moved)
        told(Progress(update, value, calls, float(np.mean(changed))), current)
    return current


def logits(asked: Floats, free: Flags, sharpness: float) -> Floats:
    """Of each ask (s, m) and, last, of stopping."""
    stop = np.zeros((len(asked), 1), dtype=np.float32)
    return np.where(free, np.concatenate([np.float32(sharpness) * asked, stop], axis=1), BOUND_TO_ASK)


def softmax(value: Floats) -> Floats:
    found = np.exp(value - value.max(axis=1, keepdims=True))
    chances: Floats = found / found.sum(axis=1, keepdims=True)
    return chances


def actor_gradients(actor: Net, steps: Steps, rows: Rows, pace: Pace) -> tuple[list[Floats], float]:
    """Of the clipped loss less the entropy bonus, by the actor's layers; and the mean share by which chances have moved."""
    asks, free, action = steps.asks[rows], steps.free[rows], steps.action[rows]
    open_asks = free[:, :-1]
    made = actor.hidden(asks[open_asks])
    gains = steps.base[rows]
    share = np.broadcast_to(steps.share[rows, None], open_asks.shape)[open_asks]
    gains[open_asks] += share * made[-1][:, 0]
    chances = softmax(logits(gains, free, pace.sharpness))
    places = np.arange(len(rows))
    ratio = chances[places, action] / np.exp(steps.chance[rows])
    advantage = steps.advantage[rows]
    held = ((advantage > 0) & (ratio > 1 + pace.clip)) | ((advantage < 0) & (ratio < 1 - pace.clip))
    pull = np.where(held, 0, advantage * ratio)
    error = chances * pull[:, None]
    error[places, action] -= pull
    known = np.log(np.maximum(chances, 1e-12))
    entropy = -(chances * known).sum(axis=1, keepdims=True)
    error += np.float32(pace.entropy) * chances * (known + entropy)
    by_gain = (np.float32(pace.sharpness) * error[:, :-1] / np.float32(len(rows)))[open_asks] * share
    return actor.gradients(made, by_gain[:, None].astype(np.float32)), float(np.abs(ratio - 1).mean())


@dataclass(slots=True)
class _Moment:
    """One round of those episodes that were running."""

    places: Rows
    asks: Floats
    base: Floats
    share: Floats
    free: Flags
    action: Rows
    chance: Floats
    stands: Floats
    value: Floats
    reward: Floats


def _episodes(
    ground: Ground, foreseen: Policy, current: Policy, critic: Net | None, reward: Reward, pace: Pace, rng: np.random.Generator
) -> tuple[Steps, float, float]:
    """Plays episodes to their end. Returns what was done, the mean reward, and the mean number of asks."""
    count = pace.episodes
    rows = rng.integers(0, len(ground), count)
    bound = np.maximum(drawn_bounds(rng, count), ground.costs[rows].min(axis=1))
    episodes = Episodes(ground, current, reward, rows, drawn_weights(rng, count), bound)
    moments: list[_Moment] = []
    while len(places := episodes.running):
        standing = episodes.standing(places)
        view = current.look(standing)
        gains = current.gains(standing, view)
        free = np.concatenate([standing.affordable, standing.asked.any(axis=1, keepdims=True)], axis=1)
        chances = softmax(logits(np.where(np.isfinite(gains), gains, 0), free, pace.sharpness))
        drawn = (chances.cumsum(axis=1) < rng.random((len(places), 1)) * (1 - 1e-6)).sum(axis=1)
        action = np.minimum(drawn, ground.models)
        chance = np.log(np.maximum(chances[np.arange(len(places)), action], 1e-12))
        stands = _critic_inputs(foreseen, standing, view, episodes.paid[places])
        value = np.zeros(len(places), np.float32) if critic is None else critic.apply(stands)[:, 0]
        done = episodes.step(places, np.where(action == ground.models, STOP, action))
        moments.append(_Moment(places, view.asks, *current.base(standing, view), free, action, chance, stands, value, done.rewards[places]))
    total = sum(float(moment.reward.sum()) for moment in moments) / count
    return _steps(moments, count, pace), total, float(episodes.asked.sum(axis=1).mean())


def _critic_inputs(foreseen: Policy, standing: Standing, view: View, paid: Floats) -> Floats:
    ahead = foreseen.gains(standing, view).max(axis=1)
    hopes = view.best + np.maximum(np.where(np.isfinite(ahead), ahead, 0), np.where(view.best > 0, 0, -1))
    weight = standing.weight
    scaled = (hopes - weight * paid) / (1 + weight)
    return np.concatenate([view.stands, np.stack([scaled, weight * paid, np.sqrt(paid)], axis=1)], axis=1).astype(np.float32)


def _steps(moments: Sequence[_Moment], count: int, pace: Pace) -> Steps:
    """With advantages by generalised estimation (Schulman et al. 2016), from the last round to the first."""
    next_value, running = np.zeros(count, dtype=np.float32), np.zeros(count, dtype=np.float32)
    advantages: list[Floats] = []
    for moment in reversed(moments):
        surprise = moment.reward + next_value[moment.places] - moment.value
        running[moment.places] = surprise + np.float32(pace.trace) * running[moment.places]
        next_value[moment.places] = moment.value
        advantages.append(running[moment.places].copy())
    advantage = np.concatenate(advantages[::-1])
    joined = {name: np.concatenate([getattr(moment, name) for moment in moments]) for name in JOINED}
    target = advantage + np.concatenate([moment.value for moment in moments])
    scaled = (advantage - advantage.mean()) / (advantage.std() + 1e-6)
    return Steps(**joined, advantage=scaled.astype(np.float32), target=target.astype(np.float32))

"""Approximate policy iteration on recorded answers: what asking one more model gains, if one goes on as well as one can.

A question's answers are all recorded, so an ask can be played to its end in every way. The net is fitted to what the policy before it made
of random asks, then it is the policy (Lagoudakis and Parr 2003). Fitting it to its own forecasts instead (Q-iteration) makes it believe in
whatever it overrates: with eight models by 0.06. It is what PPO begins with.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from routers.learning.descent import Pace, descend
from routers.learning.rounds.posterior import PORTION, Visited, drawn_sets
from routers.rounds.net import Net
from routers.rounds.policy import STOP, at_first

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from routers.learning.rounds.ground import Ground
    from routers.rounds.net import Floats
    from routers.rounds.policy import Policy
    from routers.rounds.standing import Flags

    Rows = NDArray[np.int64]

WIDTHS = (64, 48)
CHEAPEST, DEAREST = 3e-3, 3.0
"""Weights are drawn between these, each order of magnitude as often."""
BOUNDED = 0.25
"""The share of questions that have a bound on what they may cost; it is drawn up to this many units."""
MOST_UNITS = 3.0
PACE = Pace(epochs=3, rate=3e-3, decay=0.1, portion=512)


def drawn_weights(rng: np.random.Generator, count: int) -> Floats:
    found: Floats = np.exp(rng.uniform(np.log(CHEAPEST), np.log(DEAREST), count)).astype(np.float32)
    return found


def drawn_bounds(rng: np.random.Generator, count: int) -> Floats:
    """Units that may be spent."""
    found: Floats = np.where(rng.random(count) < BOUNDED, rng.uniform(0, MOST_UNITS, count), np.inf).astype(np.float32)
    return found


def fit(ground: Ground, policy: Policy, seed: int, states: int, turns: int, say: Callable[[str], None]) -> Policy:
    """The policy with gains that look ahead. In the first turn an ask is worth what one answer more gains; in each later one, what the
    policy of the turn before makes of it, played to the end. Deterministic from the seed.
    """
    rng = np.random.default_rng([seed, 11])
    current = policy
    for turn in range(turns):
        asks = _drawn(rng, ground, current, states, on_policy=turn > 0)
        inputs, base = _inputs(ground, current, asks)
        worth = follow(ground, current, asks, rounds=None if turn else 0)
        gain = Net.fresh(inputs, WIDTHS, 1, seed) if not turn else current.gain
        gain = replace(gain, layers=tuple(array.copy() for array in gain.layers))
        error = _descend(gain, inputs, worth - base, seed + turn)
        current = replace(current, gain=gain)
        say(f"looking ahead, turn {turn + 1}: worth {worth.mean():.4f}, error {error:.4f}")
    return current


@dataclass(frozen=True, slots=True)
class Asks:
    """s asks of recorded questions: `rows` (s,), who had been asked (s, m), `whom` (s,), `weight` (s,), `left` (s,)."""

    rows: Rows
    asked: Flags
    whom: Rows
    weight: Floats
    left: Floats

    def part(self, places: slice) -> Asks:
        return Asks(self.rows[places], self.asked[places], self.whom[places], self.weight[places], self.left[places])


def _drawn(rng: np.random.Generator, ground: Ground, policy: Policy, count: int, on_policy: bool) -> Asks:
    """Every ask that can be made in random states: a third of them before anyone was asked, a third such as the policy itself comes to."""
    count = count // ground.models
    rows, weight, left = rng.integers(0, len(ground), count), drawn_weights(rng, count), drawn_bounds(rng, count)
    asked = drawn_sets(rng, count, ground.models, 0, ground.models - 1)
    kind = rng.integers(0, 3, count)
    asked[(kind == 0) | ((kind == 1) & on_policy)] = False
    if on_policy:
        rounds = np.where(kind == 1, rng.integers(1, ground.models, count), 0)
        for number in range(1, ground.models):
            going = np.flatnonzero(rounds >= number)
            chosen = in_portions(going, lambda places: _choose(ground, policy, rows[places], asked[places], weight[places], left[places]))
            going, chosen = going[chosen != STOP], chosen[chosen != STOP]
            asked[going, chosen] = True
    bounded = np.isfinite(left)
    left = np.where(bounded, np.maximum(left - np.where(asked, ground.paid[rows], 0).sum(axis=1), 0), left).astype(np.float32)
    free = ~asked & (ground.costs[rows] <= left[:, None])
    state, whom = np.nonzero(free)
    return Asks(rows[state], asked[state], whom, weight[state], left[state])


def visited(ground: Ground, policy: Policy, seed: int, count: int) -> Visited:
    """States to which the policy comes, at weights drawn as for learning, with one answer at least."""
    rng = np.random.default_rng([seed, 17])
    rows, weight, left = rng.integers(0, len(ground), count), drawn_weights(rng, count), drawn_bounds(rng, count)
    asked = np.zeros((count, ground.models), dtype=bool)
    stages: list[Visited] = []
    going = np.arange(count)
    while len(going):
        chosen = in_portions(going, lambda places: _choose(ground, policy, rows[places], asked[places], weight[places], left[places]))
        going, chosen = going[chosen != STOP], chosen[chosen != STOP]
        asked[going, chosen] = True
        left[going] -= ground.paid[rows[going], chosen]
        stages.append(Visited(rows[going], asked[going]))
    return Visited(np.concatenate([stage.rows for stage in stages]), np.concatenate([stage.asked for stage in stages]))


def _choose(ground: Ground, policy: Policy, rows: Rows, asked: Flags, weight: Floats, left: Floats) -> Rows:
    standing = ground.standing(rows, asked, weight, left)
    return policy.choose(standing, policy.look(standing))


def in_portions(places: Rows, work: Callable[[Rows], NDArray[Any]]) -> NDArray[Any]:
    """What `work` says of places, some of them at a time."""
    found = [work(places[start : start + PORTION]) for start in range(0, len(places), PORTION)]
    return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)


def _inputs(ground: Ground, policy: Policy, asks: Asks) -> tuple[Floats, Floats]:
    """What the net sees of each ask, and what it is worth at the least: what the net adds to is that."""
    inputs, base = [], []
    for start in range(0, len(asks.rows), PORTION):
        part = asks.part(slice(start, start + PORTION))
        standing = ground.standing(part.rows, part.asked, part.weight, part.left)
        view = policy.look(standing)
        places = np.arange(len(part.rows))
        inputs.append(view.asks[places, part.whom])
        base.append(view.best + at_first(standing, view)[places, part.whom])
    return np.concatenate(inputs), np.concatenate(base)


def follow(ground: Ground, policy: Policy, asks: Asks, rounds: int | None) -> Floats:
    """(s,): how good the answer is if these are asked and the policy goes on for `rounds` rounds (None: to the end), less the price of it
    all. How good: the chance that it is right, as the policy sees it then, which is less noisy than whether it was.
    """
    asked, left = asks.asked.copy(), asks.left.copy()
    everyone = np.arange(len(asks.rows))
    price = np.zeros(len(everyone), dtype=np.float32)

    def ask(places: Rows, whom: Rows) -> None:
        asked[places, whom] = True
        left[places] -= ground.paid[asks.rows[places], whom]
        price[places] += asks.weight[places] * ground.costs[asks.rows[places], whom]

    ask(everyone, asks.whom)
    going = everyone
    while len(going) and rounds != 0:
        rounds = None if rounds is None else rounds - 1
        chosen = in_portions(
            going, lambda places: _choose(ground, policy, asks.rows[places], asked[places], asks.weight[places], left[places])
        )
        going, chosen = going[chosen != STOP], chosen[chosen != STOP]
        ask(going, chosen)

    def worth(places: Rows) -> Floats:
        standing = ground.standing(asks.rows[places], asked[places], asks.weight[places], left[places])
        chances = policy.chances(standing)
        return np.asarray(chances.max(axis=1))

    found: Floats = (in_portions(everyone, worth) - price).astype(np.float32)
    return found


def _descend(gain: Net, inputs: Floats, targets: Floats, seed: int) -> float:
    def gradients(layers: Sequence[Floats], where: Rows) -> Sequence[Floats]:
        made = gain.hidden(inputs[where])
        error = (made[-1] - targets[where, None]) / np.float32(len(where))
        return gain.gradients(made, error)

    descend(gain.layers, gradients, len(inputs), PACE, seed)
    sample = slice(0, 20_000)
    return float(np.square(gain.apply(inputs[sample])[:, 0] - targets[sample]).mean())

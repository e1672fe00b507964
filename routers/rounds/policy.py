"""Whom to ask next, and when to stop: two small nets over how a question stands, shared by all models.

The first net says how likely each answer is right; the second what asking one more model would gain, in score, less its price. Whoever
gains most is asked; if nobody gains anything, the likeliest answer is the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from routers.learned import sigmoid
from routers.rounds import guests, net
from routers.rounds.net import Net
from routers.rounds.standing import ASK, CLAIM, Sides, Standing, Traits, claims, outlook, read_traits

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from routers.artifacts import Tensor
    from routers.learned import Stored
    from routers.rounds.guests import Manners
    from routers.rounds.standing import Flags, Floats

STOP = -1


HEAVIEST = np.float32(1e6)
SAME = np.float32(1e-6)
"""Chances that differ by less are of the same answer."""


@dataclass(frozen=True, slots=True)
class View:
    """What the nets see and say of b questions. `chances` (b, m): that an answer is right, 0 of those who were not asked. `asks`
    (b, m, ASK) and `stands` (b, ROUND): the second net's inputs.
    """

    chances: Floats
    asks: Floats
    stands: Floats

    @property
    def best(self) -> Floats:
        """(b,): the chance of the likeliest answer, 0 where nobody was asked."""
        found: Floats = self.chances.max(axis=1)
        return found


@dataclass(frozen=True, slots=True)
class Policy:
    """`posterior`: CLAIM numbers in, log-odds out. `gain`: ASK numbers in, what asking gains beyond the obvious out.

    `traits`: of the m models. `trust`: the share of the second net's word that counts before anyone was asked, when it
    looks furthest ahead; `margin`: what each later ask must gain at the least. `manners`: how one more model answers; None in what was
    trained before there were any. `late`: which of the models joined after the training, so that `Swift` alone can play it; empty: none.
    """

    posterior: Net
    gain: Net
    traits: Traits
    trust: float = 1.0
    margin: float = 0.0
    manners: Manners | None = None
    late: tuple[bool, ...] = ()

    def chances(self, standing: Standing, sides: Sides | None = None) -> Floats:
        """(b, m): the chance that each model's answer is right; 0 of those who were not asked. All who say the same have the same one."""
        sides = Sides.of(standing) if sides is None else sides
        found = np.zeros(standing.asked.shape, dtype=np.float32)
        rows = claims(standing, sides, self.traits)[sides.first]
        if len(rows):
            found[sides.first] = sigmoid(self.posterior.apply(rows)[:, 0])
        chances: Floats = np.einsum("bij,bj->bi", sides.same, found * sides.first)
        return chances

    def look(self, standing: Standing) -> View:
        sides = Sides.of(standing)
        chances = self.chances(standing, sides)
        return View(chances, *outlook(standing, sides, self.traits, chances))

    def gains(self, standing: Standing, view: View) -> Floats:
        """(b, m): what asking each one next would gain; minus infinity of those who cannot be asked."""
        found = np.full(standing.asked.shape, -np.inf, dtype=np.float32)
        free = standing.affordable
        if free.any():
            base, share = self.base(standing, view)
            found[free] = (base + share[:, None] * self.further(view, free))[free]
        return found

    def base(self, standing: Standing, view: View) -> tuple[Floats, Floats]:
        """What the second net's word is added to (b, m), and the share of it that counts (b,)."""
        later = view.best > 0
        base: Floats = at_first(standing, view) - np.where(later, self.margin, 0).astype(np.float32)[:, None]
        return base, np.where(later, 1, self.trust).astype(np.float32)

    def further(self, view: View, free: Flags) -> Floats:
        """(b, m): what the net adds to that, of those who are free; 0 of the others."""
        found = np.zeros(free.shape, dtype=np.float32)
        if free.any():
            found[free] = self.gain.apply(view.asks[free])[:, 0]
        return found

    def choose(self, standing: Standing, view: View) -> NDArray[np.int64]:
        """(b,): the column of whom to ask next, or STOP. At an infinite price the cheapest is asked, and nobody else."""
        gains = self.gains(standing, view)
        fresh = ~standing.asked.any(axis=1)
        cheapest = np.where(standing.affordable, standing.costs, np.inf).argmin(axis=1)
        best = np.where(np.isinf(standing.weight), cheapest, gains.argmax(axis=1))
        gained = np.where(np.isinf(standing.weight), -np.inf, gains.max(axis=1)) > 0
        go_on = standing.affordable.any(axis=1) & (fresh | gained)
        return np.where(go_on, best, STOP)

    def of(self, columns: list[int]) -> Policy:
        """For these of its models alone, in this order."""
        late = tuple(self.late[column] for column in columns) if self.late else ()
        return replace(self, traits=self.traits.of(columns), late=late)

    def settings(self) -> Mapping[str, object]:
        return {"trust": self.trust, "margin": self.margin}

    def tensors(self) -> Mapping[str, Tensor]:
        manners = {} if self.manners is None else self.manners.tensors()
        return {**self.posterior.tensors("posterior"), **self.gain.tensors("gain"), **self.traits.tensors(), **manners}


def at_first(standing: Standing, view: View) -> Floats:
    """(b, m): what asking gains at the least: its price is lost, and a first answer is as good as is expected of it."""
    price = np.minimum(standing.weight, HEAVIEST)[:, None] * standing.costs
    found: Floats = np.where(view.best[:, None] > 0, 0, standing.expected) - price
    return found


def spoken(chances: Floats, standing: Standing) -> NDArray[np.int64]:
    """(b,): whose words are the answer: the likeliest one's, and of those who gave it whom most is expected of."""
    best = chances.max(axis=1, keepdims=True)
    found: NDArray[np.int64] = np.where((chances >= best - SAME) & standing.asked, standing.expected, -1).argmax(axis=1)
    return found


def read(stored: Stored, late: tuple[bool, ...] = ()) -> Policy:
    """Raises BadArtifact. `late`: which of the models joined after the training."""
    nets = net.read(stored, "posterior", CLAIM, 1), net.read(stored, "gain", ASK, 1)
    manners = guests.read(stored) if f"{stored.prefix}manners" in stored.arrays else None
    return Policy(*nets, read_traits(stored), float(stored.number("trust", 0, 1)), float(stored.number("margin", 0, 1)), manners, late)

"""A promise on quality that can be kept: the mean quality of what is answered is at least q, with probability 1 - α over the draw of the
questions by which it was calibrated.

The rule that is calibrated: of the models whose expected score - z · spread reaches q the cheapest answers; if there is none, the model
with the greatest expected score. Whether a z keeps the promise is a test of the hypothesis "the mean quality is below q", with a p-value
that holds for any number of questions. The z are tested from the most careful one down, and the first that fails ends it, so that no
correction for having tested many is due (fixed-sequence testing). Learn-then-Test: Angelopoulos et al. 2021,
https://arxiv.org/abs/2110.01052; risk-controlling prediction sets: Bates et al. 2021, https://arxiv.org/abs/2101.02703. (Conformal risk
control, Angelopoulos et al. 2022, https://arxiv.org/abs/2208.02814, would promise the mean over draws, not that most draws keep it, and
needs a loss that never falls as z does.)

P-values: where all scores are 0 or 1 the exact binomial tail, which no other can beat; else by betting, Waudby-Smith and Ramdas 2024,
https://arxiv.org/abs/2010.09686.

The questions must be drawn like those to come, and nothing may have been fitted or tuned on them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from routers.learning.resampling import interval, resamples

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from routers.learning.figures import Floats, Places

    Stored = NDArray[np.float32]

CAREFUL: tuple[float, ...] = (math.inf, *(math.sinh(step / 20) for step in range(90, -91, -1)))
"""The z that are tested, from the most careful one down: first "always the best", then 45 … 0 … -45, ever closer around 0."""

ROUNDING = 1e-9
"""So far below q still reaches it: what serves and what was calibrated are rounded apart."""

_SEED = 20_265


@dataclass(frozen=True, slots=True)
class Held:
    """n questions that were held back for calibration, m models. `mean`, `spread`: what the router expected, and its standard deviation;
    `scores`: what came of it, in [0, 1]: all (n, m) and known. `costs` (m,): mean cost of an answer, USD: the order in which models are
    tried.
    """

    mean: Floats
    spread: Floats
    scores: Floats
    costs: Floats

    def __post_init__(self) -> None:
        """Raises ValueError that names what does not fit."""
        if self.mean.ndim != 2 or 0 in self.mean.shape:
            raise ValueError(f"mean has shape {self.mean.shape}, expected questions x models")
        for name, array, shape in (
            ("spread", self.spread, self.mean.shape),
            ("scores", self.scores, self.mean.shape),
            ("costs", self.costs, self.mean.shape[1:]),
        ):
            if array.shape != shape:
                raise ValueError(f"{name} has shape {array.shape}, expected {shape}")
        for name, array in (("mean", self.mean), ("spread", self.spread), ("scores", self.scores), ("costs", self.costs)):
            if not np.isfinite(array).all():
                raise ValueError(f"{name} holds numbers that are not finite")
        if (self.spread < 0).any():
            raise ValueError("spread holds negative numbers")
        if (self.scores < 0).any() or (self.scores > 1).any():
            raise ValueError("scores holds numbers outside [0, 1]")

    @property
    def order(self) -> tuple[int, ...]:
        """All models, cheapest first."""
        return tuple(np.argsort(self.costs, kind="stable").tolist())

    def tensors(self, models: int | None = None) -> dict[str, Stored]:
        """As an artifact keeps them; its manifest names the models in the same order. `models`: how many it has; those beyond these are
        newcomers without outcomes, of which all is NaN.
        """
        wider = (len(self.costs) if models is None else models) - len(self.costs)
        arrays = {"mean": self.mean, "spread": self.spread, "scores": self.scores, "costs": self.costs}
        room = {name: [(0, 0)] * (array.ndim - 1) + [(0, wider)] for name, array in arrays.items()}
        return {f"promise/{name}": np.pad(array.astype(np.float32), room[name], constant_values=np.nan) for name, array in arrays.items()}


@dataclass(frozen=True, slots=True)
class Promise:
    """Quality `q` with probability 1 - `alpha`. `z`: the least careful that keeps it; None: none does, and the best model always answers.

    `quality`, `cost_usd`: means of the rule on the questions of the calibration; `dearest`: share of them that the dearest model answered.
    """

    q: float
    alpha: float
    z: float | None
    quality: float
    cost_usd: float
    dearest: float


@dataclass(frozen=True, slots=True)
class Check:
    """A rule on other questions: mean `quality` with its 95 % interval, mean `cost_usd`, share answered by the `dearest` model.

    `holds`: the mean is at least q. `holds_within`: the interval reaches q.
    """

    quality: float
    interval_95: tuple[float, float]
    cost_usd: float
    dearest: float
    holds: bool
    holds_within: bool


def chosen(held: Held, q: float, z: float | None, order: Sequence[int] | None = None) -> Places:
    """Which model answers each question, (n,). `order`: the models to choose among, cheapest first; None: all, by their mean costs.

    z of infinity or None: the one with the greatest expected score; of equals the first in the order.
    """
    columns = list(held.order if order is None else order)
    return np.array(columns)[_places(held.mean[:, columns], held.spread[:, columns], q, z)]


def promise(held: Held, q: float, alpha: float, order: Sequence[int] | None = None) -> Promise:
    """The rule of the least z that keeps quality q (above 0; nothing keeps 1) with probability 1 - alpha. `order`: as in `chosen`.

    Raises ValueError for q not in (0, 1] or alpha not in (0, 1).
    """
    if not 0 < q <= 1 or not 0 < alpha < 1:
        raise ValueError("q must be above 0 and at most 1, alpha between 0 and 1")
    columns = list(held.order if order is None else order)
    mean, spread, outcomes = held.mean[:, columns], held.spread[:, columns], held.scores[:, columns]
    rows = np.arange(len(outcomes))
    binary = bool(((outcomes == 0) | (outcomes == 1)).all())
    # A bet may look at the outcomes before it, so they must come in an order that says nothing.
    shuffled = np.random.default_rng(_SEED).permutation(len(rows))
    kept = None
    for z in CAREFUL if q < 1 else ():
        scores = outcomes[rows, _places(mean, spread, q, z)]
        chance = binomial_p(int(scores.sum()), len(scores), q) if binary else betting_p(scores[shuffled], q, alpha)
        if chance > alpha:
            break
        kept = z
    return Promise(q, alpha, kept, *_means(held, chosen(held, q, kept, order)))


def holds(held: Held, q: float, z: float | None) -> Check:
    """What the rule does on other questions than those it was calibrated by."""
    served = chosen(held, q, z)
    quality, cost, dearest = _means(held, served)
    scores = held.scores[np.arange(len(served)), served]
    low, high = interval(resamples(len(scores)) @ scores)
    return Check(quality, (low, high), cost, dearest, quality >= q, high >= q)


def binomial_p(successes: int, trials: int, q: float) -> float:
    """P(at least so many successes) if each has probability q: the p-value of "the mean is q or below"."""
    if successes <= trials * q:
        return 1.0
    start = math.lgamma(trials + 1) - math.lgamma(successes + 1) - math.lgamma(trials - successes + 1)
    start += successes * math.log(q) + (trials - successes) * math.log1p(-q)
    k = np.arange(successes, trials, dtype=np.float64)
    # Each term from the one before; far above the mean they soon vanish.
    steps = np.cumsum(np.log(trials - k) - np.log(k + 1) + math.log(q) - math.log1p(-q))
    return min(1.0, math.exp(start) * float(1 + np.exp(steps).sum()))


def betting_p(scores: Floats, q: float, alpha: float) -> float:
    """The p-value of "the mean is q or below" for scores in [0, 1], in an order that says nothing.

    A gambler bets on more than q at odds that would be fair at q: his capital grows beyond 1 / p with probability p at most. How much he
    stakes he takes from the outcomes before, so as to be best at `alpha`.
    """
    place = np.arange(1, len(scores) + 1)
    mean = (0.5 + np.cumsum(scores)) / (place + 1)
    spread = (0.25 + np.cumsum((scores - mean) ** 2)) / (place + 1)
    before = np.concatenate([[0.25], spread[:-1]])
    stake = np.minimum(np.sqrt(2 * math.log(1 / alpha) / (len(scores) * before)), 0.75 / q)
    capital = np.cumsum(np.log1p(stake * (scores - q)))
    return min(1.0, math.exp(-max(0.0, float(capital.max()))))


def _places(mean: Floats, spread: Floats, q: float, z: float | None) -> Places:
    """The columns of the rule's choices, (n,), of models that stand cheapest first."""
    best: Places = np.argmax(mean, axis=1)
    if z is None or math.isinf(z):
        return best
    able = mean - z * spread >= q - ROUNDING
    cheapest = np.argmax(able, axis=1)
    found: Places = np.where(able[np.arange(len(able)), cheapest], cheapest, best)
    return found


def _means(held: Held, served: Places) -> tuple[float, float, float]:
    """Mean quality, mean cost (USD), share of the dearest."""
    scores = held.scores[np.arange(len(served)), served]
    return float(scores.mean()), float(held.costs[served].mean()), float((served == np.argmax(held.costs)).mean())

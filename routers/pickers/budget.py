"""Spends a given mean, where it buys most.

An online linear programme: the dual variable is the price of a dollar in quality. It is solved anew on the newest requests, for what is
left to spend: Agrawal, Wang and Ye 2014, https://arxiv.org/abs/0911.2974; Li and Ye 2021, https://arxiv.org/abs/1909.05499; for routing
among models: PORT, https://arxiv.org/abs/2509.02718; with rewards to be learned: bandits with knapsacks, https://arxiv.org/abs/1305.2545.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from routers.api import Outcome, RouteRequest, Scored
from routers.pickers.order import first, good_enough

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from routers.learning.figures import Floats

WINDOW = 256
"""Requests by which the price is set."""
EVERY = 8
"""Requests between two new prices, once the window has as many."""
PAY_BACK = 0.05
"""Share of the horizon within which what was spent too much, or too little, is made up for."""
MOST_OFF = 20.0
"""A model's real costs are taken for at most so many times what was expected of it, or so many times less."""
MEMORY = 0.98
"""Weight of a model's real costs so far when a new one comes."""
MODELS = 1000


@dataclass(slots=True)
class _Costs:
    """What a model's answers cost, as expected and as billed: means that forget (USD)."""

    expected: float
    real: float | None = None

    @property
    def factor(self) -> float:
        if self.real is None or self.expected <= 0:
            return 1.0
        return min(MOST_OFF, max(1 / MOST_OFF, self.real / self.expected))


class Budget:
    """Keeps the mean cost of a request at `usd_per_request` while quality is as high as that can buy: quality - price · cost decides.

    The price (quality per USD) follows what was spent; after `horizon` requests the mean is on target, and a longer past is forgotten.
    `observe` corrects expected costs by billed ones, model by model. A candidate of unknown cost comes last; one of unknown quality counts
    as the mean of the others; where none has a quality the scores count. The request's `min_quality` holds, its `cost_weight` does not
    matter. Each gateway process keeps the mean of its own requests.
    """

    deterministic = False

    def __init__(
        self, usd_per_request: Annotated[float, Field(gt=0, le=1e6)], horizon: Annotated[int, Field(ge=20, le=10**9)] = 1000
    ) -> None:
        self._target = usd_per_request
        self._horizon = horizon
        self._lock = threading.Lock()
        self._seen: Floats = np.zeros((WINDOW, 2, 0))
        self._count = 0
        self._ahead = 0.0
        self._costs: dict[str, _Costs] = {}
        self.price = 0.0
        """Quality that a USD must buy."""

    def pick(self, request: RouteRequest, ranked: Sequence[Scored], rng: Random) -> Sequence[Scored]:
        places = [place for place in good_enough(request, ranked) if ranked[place].cost_usd is not None]
        if not places:
            return ranked
        able = [ranked[place] for place in places]
        quality = _qualities(able)
        with self._lock:
            cost = np.array([(scored.cost_usd or 0.0) * self._factor(scored.name) for scored in able])
            self._remember(quality, cost)
            chosen = int(np.argmax(quality - self.price * cost))
            self._spend(able[chosen], float(cost[chosen]))
        order = np.argsort(self.price * cost - quality, kind="stable").tolist()
        rest = [place for place in range(len(ranked)) if place not in places]
        sorted_out = [ranked[places[at]] for at in order] + [ranked[place] for place in rest]
        return first(sorted_out, order.index(chosen))

    def observe(self, outcome: Outcome) -> None:
        """Learns what an answer really cost."""
        if outcome.cost_usd is None:
            return
        with self._lock:
            known = self._costs.get(outcome.model)
            if known is not None:
                known.real = outcome.cost_usd if known.real is None else MEMORY * known.real + (1 - MEMORY) * outcome.cost_usd

    def _factor(self, name: str) -> float:
        known = self._costs.get(name)
        return 1.0 if known is None else known.factor

    def _spend(self, chosen: Scored, cost: float) -> None:
        # What lies a horizon back has faded to 1/e.
        self._ahead = self._ahead * (1 - 1 / self._horizon) + cost - self._target
        expected = chosen.cost_usd or 0.0
        known = self._costs.get(chosen.name)
        if known is not None:
            known.expected = MEMORY * known.expected + (1 - MEMORY) * expected
        elif len(self._costs) < MODELS:
            self._costs[chosen.name] = _Costs(expected)

    def _remember(self, quality: Floats, cost: Floats) -> None:
        """Puts a request into the window, and sets the price anew when it is time."""
        width = self._seen.shape[2]
        if len(quality) > width:
            wider = np.zeros((WINDOW, 2, len(quality)))
            wider[:, 0, width:] = -np.inf
            wider[:, :, :width] = self._seen
            self._seen = wider
        row = self._seen[self._count % WINDOW]
        row[0], row[1] = -np.inf, 0.0
        row[0, : len(quality)], row[1, : len(cost)] = quality, cost
        self._count += 1
        if self._count <= EVERY or self._count % EVERY == 0:
            seen = self._seen[: min(self._count, WINDOW)]
            left = self._target - self._ahead / max(1.0, PAY_BACK * self._horizon)
            self.price = price(seen[:, 0], seen[:, 1], left)


def price(quality: Floats, cost: Floats, target: float) -> float:
    """The least price of a USD at which requests spend `target` or less on average. `quality`, `cost` (USD): (n, m); -inf: no candidate.

    Where even the cheapest candidates cost more than `target`, it is so high that quality hardly counts.
    """
    rows: NDArray[np.int64] = np.arange(len(quality))

    def spent(at: float) -> float:
        return float(cost[rows, np.argmax(quality - at * cost, axis=1)].mean())

    if spent(0.0) <= target:
        return 0.0
    low, high = 0.0, 1.0 / max(float(cost.max()), 1e-12)
    for _ in range(40):
        if spent(high) <= target:
            break
        low, high = high, high * 2
    for _ in range(24):
        middle = (low + high) / 2
        low, high = (low, middle) if spent(middle) <= target else (middle, high)
    return high


def _qualities(candidates: Sequence[Scored]) -> Floats:
    known = [scored.quality for scored in candidates if scored.quality is not None]
    if not known:
        return np.array([scored.score for scored in candidates])
    mean = sum(known) / len(known)
    return np.array([mean if scored.quality is None else scored.quality for scored in candidates])

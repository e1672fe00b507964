"""Whether a line of the ledger agrees with itself."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

from gateway.account.ledger import RequestEntry
from gateway.account.ledger_rounds import AskedEntry, PlanEntry

_CLOSE = 1e-6
"""Of sums of numbers between 0 and 1."""
_SHARE = 1e-9
"""By so much, of itself, a sum of costs may be off."""


def contradictions(entry: RequestEntry) -> list[str]:
    """What in a line cannot be; nothing if it is all right."""
    return [*_ranking(entry), *_chances(entry), *_costs(entry), *_plan(entry)]


def _ranking(entry: RequestEntry) -> Iterator[str]:
    names = [one.model for one in entry.candidates]
    if not names:
        return
    if entry.chosen != names[0]:
        yield f"{entry.chosen} was chosen, and {names[0]} comes first in the ranking"
    both = sorted(set(names) & set(entry.rejected))
    if both:
        yield f"ranked and rejected: {', '.join(both)}"
    scores = [one.score for one in entry.candidates]
    by_score = "/best/" in entry.policy and entry.reason == "best_score"
    floor = entry.asked.min_quality if isinstance(entry.asked, AskedEntry) else None
    if by_score and floor is None and any(after > before for before, after in pairwise(scores)):
        yield "the ranking is not in the order of the scores"


def _chances(entry: RequestEntry) -> Iterator[str]:
    chances = {one.model: one.propensity for one in entry.candidates if isinstance(one.propensity, float)}
    if entry.propensity is None:
        return
    if abs(chances.get(entry.chosen, -1.0) - entry.propensity) > _CLOSE:
        yield "the chosen model has two probabilities"
    if math.fsum(chances.values()) > 1 + _CLOSE:
        yield "the probabilities add up to more than 1"


def _costs(entry: RequestEntry) -> Iterator[str]:
    if entry.cost_usd is None or not entry.asks:
        return
    asked = math.fsum(one.cost_usd or 0.0 for one in entry.asks)
    slack = max(entry.cost_usd, asked) * _SHARE
    if asked > entry.cost_usd + slack:
        yield f"the asks cost ${asked:.9f}, and all of it ${entry.cost_usd:.9f}"
    elif entry.usage is None and asked < entry.cost_usd - slack:
        yield f"the asks cost ${asked:.9f}, nothing else was asked, and all of it cost ${entry.cost_usd:.9f}"


def _plan(entry: RequestEntry) -> Iterator[str]:
    numbers = [one.number for one in entry.asks]
    if sorted(numbers) != list(range(len(numbers))):
        yield "asks are missing, or there twice"
    if not isinstance(entry.plan, PlanEntry):
        if numbers:
            yield "there are asks, and no plan"
        return
    known = [turns for turns, _, _ in entry.plan.steps]
    if known != sorted(known) or (known and known[-1] > len(numbers)):
        yield "the planner knew of asks that there are not"

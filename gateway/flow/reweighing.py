"""What would have happened with another weight of cost: recent decisions, made again of the opinions that were had then."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Literal

from gateway.account.records import Record
from gateway.flow.decide import Route
from routers.api import Candidate, Model, Need, Opinion, Preferences, Price, RouteRequest, Scored
from routers.pickers.best import Best
from routers.pipeline import Policy, Weighted, decide
from routers.planners.single import Single

STRIDE = 16
"""Decisions that are made without a pause: about a millisecond's worth."""
MOST_MOVED = 20
"""Examples in an answer."""


@dataclass(frozen=True, slots=True)
class Moved:
    """A decision that would have been another one. `before`, `after`: models; their expected costs in USD, None where unknown."""

    id: str
    caller: str
    created: float
    before: str
    after: str
    cost_before_usd: float | None
    cost_after_usd: float | None


@dataclass(slots=True)
class Side:
    """What decisions come to. `models`: how many each would serve first. `cost_usd`, `quality`: expected, the means of those decisions of
    which both sides are known; None if there is none.
    """

    models: dict[str, int] = field(default_factory=dict)
    cost_usd: float | None = None
    quality: float | None = None


@dataclass(slots=True)
class Reweighed:
    """`kept`: why decisions stay as they were, whatever the weight: pinned, only_candidate, own_weight … `oldest`: Unix time."""

    decisions: int = 0
    changed: int = 0
    oldest: float | None = None
    before: Side = field(default_factory=Side)
    after: Side = field(default_factory=Side)
    kept: dict[str, int] = field(default_factory=dict)
    moved: list[Moved] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class _Recalled:
    """Has the opinions that a scorer had of the decision at hand."""

    needs: frozenset[Need] = frozenset()
    instant = True

    def __init__(self, name: str, predicts: Literal["quality", "cost", "preference"]) -> None:
        self.predicts: Literal["quality", "cost", "preference"] = predicts
        self.ranking: Sequence[Scored] = ()
        self._name = name

    def score(self, request: RouteRequest, candidates: Sequence[Candidate]) -> Mapping[str, float]:
        name = self._name
        return {one.name: Opinion(one.opinions[name], one.uncertainty) for one in self.ranking if name in one.opinions}


async def reweigh(records: Sequence[Record], route: Route, weight: float) -> Reweighed:
    """`records`: of requests that are over, newest first; those of other routes are passed over. `weight`: of the opinion on cost, in place
    of the route's. Nobody is asked anything, and nothing is changed; the event loop goes on meanwhile.
    """
    found, policy = Reweighed(notes=_notes(route)), route.policy
    scorers = [_Recalled(one.name, one.scorer.predicts) for one in policy.scorers]
    weighted = [Weighted(one.name, recalled, one.weight) for one, recalled in zip(policy.scorers, scorers, strict=True)]
    # A picker of chance, or one that keeps accounts, must not hear of decisions that nobody asked for.
    picker = policy.picker if policy.picker.deterministic else Best()
    again = Policy(policy.name, (), weighted, picker, policy.planner, policy.default)
    pairs: list[tuple[Scored, Scored]] = []
    for place, record in enumerate(records):
        if place % STRIDE == STRIDE - 1:
            await asyncio.sleep(0)
        if record.decision.route != route.name or record.asked is None:
            continue
        then = record.decision.choice.ranking[0]
        now = _first(record, again, scorers, weight, found.kept)
        pairs.append((then, now))
        _count(found, record, then, now)
    _sum_up(found, pairs)
    return found


def _first(record: Record, policy: Policy, scorers: Sequence[_Recalled], weight: float, kept: dict[str, int]) -> Scored:
    """Who would come first."""
    choice, asked = record.decision.choice, record.asked
    why: str | None = choice.reason if choice.reason != "best_score" else None
    if record.decision.cache == "pin":
        why = "pinned"
    elif asked is not None and asked.preferences.cost_weight is not None:
        why = "own_weight"
    if why is not None or asked is None:
        _add(kept, why or "unknown")
        return choice.ranking[0]
    for one in scorers:
        one.ranking = choice.ranking
    request = RouteRequest(
        endpoint=asked.endpoint,
        prompt_tokens=asked.prompt_tokens,
        max_tokens=asked.max_tokens,
        preferences=Preferences(min_quality=asked.preferences.min_quality, cost_weight=weight),
    )
    chosen = decide(policy, request, [_candidate(one) for one in choice.ranking], Random(0), lambda: 0.0, math.inf)
    return next(one for one in choice.ranking if one.name == chosen.model)


def _candidate(one: Scored) -> Candidate:
    """A candidate whose expected cost is the one of then, whatever the request: a price for the call alone."""
    return Candidate(Model(one.name, None if one.cost_usd is None else Price(0.0, 0.0, request=one.cost_usd)))


def _count(found: Reweighed, record: Record, then: Scored, now: Scored) -> None:
    decision = record.decision
    found.decisions += 1
    found.oldest = decision.created
    _add(found.before.models, then.name)
    _add(found.after.models, now.name)
    if then.name != now.name:
        found.changed += 1
        if len(found.moved) < MOST_MOVED:
            found.moved.append(Moved(decision.id, record.caller, decision.created, then.name, now.name, then.cost_usd, now.cost_usd))


def _add(counts: dict[str, int], name: str) -> None:
    counts[name] = counts.get(name, 0) + 1


def _sum_up(found: Reweighed, pairs: Sequence[tuple[Scored, Scored]]) -> None:
    costs = [(then.cost_usd, now.cost_usd) for then, now in pairs if then.cost_usd is not None and now.cost_usd is not None]
    qualities = [(then.quality, now.quality) for then, now in pairs if then.quality is not None and now.quality is not None]
    if costs:
        found.before.cost_usd, found.after.cost_usd = (math.fsum(side) / len(costs) for side in zip(*costs, strict=True))
    if qualities:
        found.before.quality, found.after.quality = (math.fsum(side) / len(qualities) for side in zip(*qualities, strict=True))


def _notes(route: Route) -> list[str]:
    notes, (_, picker, planner) = [], route.policy.name.rsplit("/", 2)
    if not route.policy.picker.deterministic:
        notes.append(f"the picker {picker} draws by chance or keeps accounts: here the greatest score serves")
    if not isinstance(route.policy.planner, Single):
        notes.append(f"the planner {planner} may ask several models for one answer: what is decided again is which comes first")
    return notes

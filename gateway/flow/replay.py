"""Decides again, from what the ledger keeps of a request, and says where that goes another way. Nobody is asked anything.

The choice is made of the opinions that were kept, by the weights and the picker of today's policy. The plan is made by today's planner,
which hears the answers of then, in the order of then.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from random import Random
from typing import Literal, cast

from gateway.account.ledger import CandidateEntry, RequestEntry
from gateway.account.ledger_rounds import AskedEntry, EndEntry, PlanEntry, RoundEntry, digest
from gateway.flow.decide import Route
from gateway.flow.planning import Plan, final_of
from gateway.flow.rounds import MOST_ASKS
from routers.api import (
    Answer,
    Ask,
    Budget,
    Candidate,
    Choice,
    Endpoint,
    Model,
    Need,
    Opinion,
    Price,
    RouteRequest,
    Scored,
    Task,
    Transcript,
    Turn,
)
from routers.pipeline import Policy, Weighted, decide, default_choice
from routers.planners.single import Single

_CLOSE = 1e-4
"""By so much chances may differ: they are made of opinions that are kept to nine decimals, and `explore` looks them up in a table."""


@dataclass(slots=True)
class Replay:
    """`differences`: where today would go another way, the first one first. `notes`: what else is to be known, and what could not be run.

    `ranking`: the order in which models would serve today; None: it was not decided again. `asks`: those of today's planner.
    """

    differences: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    ranking: list[str] | None = None
    asks: list[Ask] = field(default_factory=list)


class _Kept:
    """Has the opinions that a scorer had."""

    needs: frozenset[Need] = frozenset()
    instant = True

    def __init__(self, name: str, predicts: Literal["quality", "cost", "preference"], candidates: Sequence[CandidateEntry]) -> None:
        self.predicts: Literal["quality", "cost", "preference"] = predicts
        self._opinions: dict[str, float] = {}
        for one in candidates:
            if isinstance(one.opinions, dict) and name in one.opinions:
                spread = one.uncertainty if isinstance(one.uncertainty, float) else None
                self._opinions[one.model] = Opinion(one.opinions[name], spread)

    def score(self, request: RouteRequest, candidates: Sequence[Candidate]) -> Mapping[str, float]:
        return {one.name: self._opinions[one.name] for one in candidates if one.name in self._opinions}


async def run_again(entry: RequestEntry, route: Route | None, models: Mapping[str, Model], threads: ThreadPoolExecutor) -> Replay:
    """`route`: as it is today; None: it is gone. `models`: all that there are. `threads`: where planners that compute do so."""
    found = Replay()
    if entry.route is None:
        found.notes.append("the request named its model: there was nothing to decide")
    elif route is None:
        found.differences.append(f"there is no route {entry.route!r} any more")
    else:
        _choose(entry, route, found)
        await _plan(entry, route, models, threads, found)
    return found


def _choose(entry: RequestEntry, route: Route, found: Replay) -> None:
    """Decides again, where the line holds what that takes."""
    asked = entry.asked if isinstance(entry.asked, AskedEntry) else None
    if entry.reason == "pinned":
        found.notes.append("the conversation had its model already: the choice was not made for this request")
        return
    if asked is None:
        found.notes.append("the line is older than the opinions that the ledger keeps: the choice cannot be made again")
        return
    _compare_candidates(entry, route, found)
    choice = _choice(entry, route, _request(entry, asked))
    if choice is None:
        return
    found.ranking = [scored.name for scored in choice.ranking]
    found.notes += [f"{plugin} failed: {problem}" for plugin, problem in choice.errors.items()]
    if entry.propensity is not None or choice.ranking[0].propensity is not None:
        _compare_chances(entry, choice, found)
        return
    then = [one.model for one in entry.candidates if one.model in found.ranking]
    if then[0] != found.ranking[0]:
        found.differences.append(f"{then[0]} was chosen, and {found.ranking[0]} would be")
    elif then != found.ranking:
        found.differences.append(f"who stands in: then {', '.join(then[1:])}; today {', '.join(found.ranking[1:])}")


def _compare_candidates(entry: RequestEntry, route: Route, found: Replay) -> None:
    known = {one.model for one in entry.candidates}
    gone = [one.model for one in entry.candidates if one.model not in route.models]
    if gone:
        found.differences.append(f"no candidates any more: {', '.join(gone)}")
    new = [name for name in route.models if name not in known and name not in entry.rejected]
    if new:
        found.notes.append(f"candidates that there were not: {', '.join(new)}; nothing is known of what they would be given")
    opinions = {name for one in entry.candidates if isinstance(one.opinions, dict) for name in one.opinions}
    scorers = {weighted.name for weighted in route.policy.scorers}
    silent, unheard = sorted(scorers - opinions), sorted(opinions - scorers - {"cost"})
    if opinions and silent:
        found.notes.append(f"scorers without an opinion then: {', '.join(silent)}")
    if unheard:
        found.notes.append(f"opinions that no longer count: {', '.join(unheard)}")


def _choice(entry: RequestEntry, route: Route, request: RouteRequest) -> Choice | None:
    """Today's, from the opinions of then; None if no candidate of then is left."""
    policy = route.policy
    there = [one for one in entry.candidates if one.model in route.models]
    candidates = [_candidate(one) for one in sorted(there, key=lambda one: route.models.index(one.model))]
    if not candidates:
        return None
    scorers = [Weighted(one.name, _Kept(one.name, one.scorer.predicts, entry.candidates), one.weight) for one in policy.scorers]
    kept = Policy(policy.name, (), scorers, policy.picker, policy.planner, policy.default)
    if entry.reason == "deadline":
        return default_choice(kept, request, candidates, "deadline", lambda: 0.0)
    return decide(kept, request, candidates, Random(0), lambda: 0.0, math.inf)


def _compare_chances(entry: RequestEntry, choice: Choice, found: Replay) -> None:
    """Chance had a part: the draw cannot come again, but the chances can."""
    then = {one.model: one.propensity for one in entry.candidates if isinstance(one.propensity, float)}
    now = {scored.name: scored.propensity for scored in choice.ranking}
    if entry.propensity is None:
        found.differences.append("today chance has a part in the choice")
        return
    if choice.ranking[0].propensity is None:
        found.differences.append("chance had a part in the choice, and has none today")
        return
    if abs(math.fsum(then.values()) - 1) > _CLOSE:
        found.notes.append("drawn by chance, and a candidate was dropped afterwards: the chances cannot be compared")
        return
    for model, chance in then.items():
        today = now.get(model)
        if today is None or abs(today - chance) > _CLOSE:
            found.differences.append(f"{model} came first with probability {chance:.6g}, and would with {today or 0:.6g}")
            return
    drawn = f"drawn by chance: {entry.chosen} had probability {entry.propensity:.6g}, and has it today"
    found.notes.append(f"{drawn}; the draw itself is not repeated")


async def _plan(entry: RequestEntry, route: Route, models: Mapping[str, Model], threads: ThreadPoolExecutor, found: Replay) -> None:
    plan, planner = entry.plan, route.policy.planner
    then, now = entry.policy.rpartition("/")[2], route.policy.name.rpartition("/")[2]
    if then != now:
        found.differences.append(f"the planner was {then}, and is {now}")
        return
    if isinstance(planner, Single) or not isinstance(plan, PlanEntry) or not isinstance(entry.asked, AskedEntry):
        return
    if plan.single is not None and plan.single not in ("only_candidate", "budget"):
        found.notes.append(f"one call, whatever its planner says: {plan.single}")
        return
    if not isinstance(entry.prompt, str) and (planner.needs or entry.asks):
        found.notes.append("what was asked and answered is not kept (`ledger.prompts`): the plan cannot be run again")
        return
    request = _request(entry, entry.asked)
    encoder = getattr(planner, "encoder", None)
    if "embedding" in planner.needs and encoder is not None:
        vectors = await asyncio.get_running_loop().run_in_executor(threads, encoder.encode, [request.text])
        request = replace(request, embedding=vectors[0])
    task = Task(request, [_scored(one) for one in entry.candidates], models)
    await _Course(entry, plan, Plan(planner, task, (), "planner", lambda name: found.notes.append(f"{name} failed"), threads), found).run()


@dataclass(slots=True)
class _Course:
    """The plan of then, and today's planner on the same way."""

    entry: RequestEntry
    then: PlanEntry
    plan: Plan
    found: Replay

    async def run(self) -> None:
        """Goes on until the plan ended, or until today's planner wants something else."""
        asks = self.found.asks
        for place, (known, cost_usd, seconds) in enumerate(self.then.steps):
            heard = self._heard(known)
            if heard is None:
                return
            left = self.entry.asks[known:]
            running = tuple(asks[one.number] for one in sorted(left, key=lambda one: one.number) if one.number < len(asks))
            wanted = await self.plan.next(Transcript(heard, running), Budget(cost_usd, seconds))
            last = place == len(self.then.steps) - 1
            if not self._follow(wanted, place, last):
                return

    def _heard(self, known: int) -> tuple[Turn, ...] | None:
        """The first turns, as answers to today's asks; None if one of them cannot be had."""
        turns = []
        for one in self.entry.asks[:known]:
            if one.number >= len(self.found.asks):
                self._differ(f"{one.model} was asked then ({one.purpose or 'ask'}), and would not be")
                return None
            if one.cut:
                self.found.notes.append(f"the answer of ask {one.number + 1} is kept in part: the plan is not run beyond it")
                return None
            turns.append(one.turn(self.found.asks[one.number]))
        return tuple(turns)

    def _follow(self, wanted: Sequence[Ask] | Answer, place: int, last: bool) -> bool:
        """Whether today's planner wants what it wanted then, and that was not the end."""
        final, rounds = final_of(wanted), {one.number: one for one in self.entry.asks}
        asked = len(self.found.asks)
        if final is None and not isinstance(wanted, Answer):
            if asked + len(wanted) <= MOST_ASKS:
                return all(self._same_ask(ask, rounds.get(asked + number)) for number, ask in enumerate(wanted))
            final = self.plan.fallback()
        elif final is not None and asked in rounds and rounds[asked].final:
            return self._same_ask(final, rounds[asked])  # it could not be paid
        if not last:
            following = next((one for one in self.entry.asks if one.number >= asked), None)
            went_on = "" if following is None else f" and asked {following.model}"
            self._differ(f"at step {place + 1} it went on{went_on}, and would end with {_ending(final or cast(Answer, wanted))}")
            return False
        self._compare_end(final or cast(Answer, wanted))
        return False

    def _same_ask(self, ask: Ask, then: RoundEntry | None) -> bool:
        self.found.asks.append(ask)
        if then is None:
            self._differ(f"today {ask.models[0]} would be asked too ({ask.purpose or 'ask'}), and was not then")
        elif then.asked != list(ask.models) or then.final != ask.final:
            self._differ(f"ask {then.number + 1} was for {', '.join(then.asked)}, and would be for {', '.join(ask.models)}")
        elif then.purpose != ask.purpose:
            self._differ(f"ask {then.number + 1} was {then.purpose!r}, and would be {ask.purpose!r}")
        else:
            return True
        return False

    def _compare_end(self, now: Ask | Answer) -> None:
        then = self.then.end
        if then is None:
            self.found.notes.append(f"the request ended before its plan did; it would end with {_ending(now)}")
        elif isinstance(now, Ask) and then.asked is None and any(one.final for one in self.entry.asks):
            self.found.notes.append("there was no money for the final ask: the newest answer was given")
        elif EndEntry.of(now, then.digest is not None) != then:
            another = isinstance(now, Answer) and then.asked is None and now.model == then.model and digest(now.text) != then.digest
            which = "another answer of " if another else ""
            self._differ(f"it ended with {_ended(then)}, and would end with {which}{_ending(now)}")

    def _differ(self, what: str) -> None:
        self.found.differences.append(what)


def _ending(end: Ask | Answer) -> str:
    return _ended(EndEntry.of(end, False))


def _ended(end: EndEntry) -> str:
    if end.asked is None:
        return f"the words of {end.model or 'nobody in particular'}"
    return f"a final ask of {', '.join(end.asked)}" + (f" ({end.purpose})" if end.purpose else "")


def _request(entry: RequestEntry, asked: AskedEntry) -> RouteRequest:
    return RouteRequest(
        endpoint=cast(Endpoint, entry.endpoint),
        text=entry.prompt if isinstance(entry.prompt, str) else "",
        prompt_tokens=asked.prompt_tokens,
        max_tokens=asked.max_tokens,
        n=asked.n,
        needs=frozenset(asked.needs),
        preferences=asked.preferences(),
    )


def _candidate(one: CandidateEntry) -> Candidate:
    """A candidate whose expected cost is the one of then, whatever the request: a price for the call alone."""
    price = None if one.expected_cost_usd is None else Price(0.0, 0.0, request=one.expected_cost_usd)
    return Candidate(Model(one.model, price))


def _scored(one: CandidateEntry) -> Scored:
    opinions = one.opinions if isinstance(one.opinions, dict) else {}
    uncertainty = one.uncertainty if isinstance(one.uncertainty, float) else None
    propensity = one.propensity if isinstance(one.propensity, float) else None
    return Scored(one.model, one.score, opinions, one.quality, one.expected_cost_usd, uncertainty, propensity)

"""Who should answer: the model that the client named, the one that a conversation has, or a policy's choice, new or remembered."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from random import Random

import msgspec
from msgspec import structs

from gateway.account.metrics import Metrics
from gateway.account.records import Decision
from gateway.errors import GatewayError
from gateway.fleet import Fleet
from gateway.flow.content import Conversation
from gateway.flow.inner import bound_to_one
from gateway.flow.refusals import Prices, cheapest, refusal
from gateway.flow.wire import Wire
from gateway.guard.callers import Caller
from gateway.guard.limits import OutOfBudget
from gateway.memory.cache import ChoiceKey, Choices
from gateway.memory.sessions import SessionKey, Sessions
from routers.api import Candidate, Choice, NoCandidate, RouteRequest, Scored
from routers.expectation import expected_cost, possible_cost, possible_tokens
from routers.filters import Budget as BudgetFilter
from routers.filters import MaxCost
from routers.pipeline import Policy, decide, default_choice, rejection
from routers.planners.plain import unfit
from routers.planners.single import Single
from routers.regret import gain, regret

MAX_THINKING = 64
"""Decisions that may be in threads or wait for one; beyond that the route's default serves at once."""

DEFAULT_TEXT_CAP = 8192


@dataclass(frozen=True, slots=True)
class Route:
    """A virtual model. `deadline`: seconds for one decision. `text_cap`: characters of the prompt that its policy reads.

    `fingerprint`: of all in the configuration and in artifacts that its decisions depend on, so that no remembered choice outlives it.
    """

    name: str
    models: tuple[str, ...]
    policy: Policy
    deadline: float
    text_cap: int
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Stickiness:
    """How hard it is for a conversation to change its model. See `routers.regret`; `inertia`: a gain that is never worth it."""

    tokens_per_second: float
    second_weight: float
    inertia: float


class Decider:
    """Decides for all routes."""

    def __init__(
        self,
        fleet: Fleet,
        routes: Mapping[str, Route],
        choices: Choices,
        sessions: Sessions,
        stickiness: Stickiness,
        threads: ThreadPoolExecutor,
        metrics: Metrics,
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        new_id: Callable[[], str],
        rng: Random,
    ) -> None:
        self._fleet = fleet
        self._routes = dict(routes)
        self._planned = frozenset(name for name, route in routes.items() if not isinstance(route.policy.planner, Single))
        self._choices = choices
        self._sessions = sessions
        self._stickiness = stickiness
        self._threads = threads
        self._metrics = metrics
        self._clock = clock
        self._wall_clock = wall_clock
        self._new_id = new_id
        self._rng = rng
        self._places = threading.BoundedSemaphore(MAX_THINKING)
        self._timers: dict[str, Callable[[float], None]] = {}  # a plugin's, bound once: a route's decision times about ten
        self._named = {s.model.name: Choice("named", "named", (Scored(s.model.name, 0.0),)) for s in fleet}

    def tokens(self, size: int) -> int:
        """About how many tokens a prompt of `size` bytes has."""
        return self._fleet.estimate.tokens(size)

    def request(self, wire: Wire, caller: Caller) -> RouteRequest:
        """What routers may know of a request, but for its text."""
        return RouteRequest(
            endpoint=wire.endpoint,
            prompt_tokens=self._fleet.estimate.tokens(wire.prompt.size),
            max_tokens=wire.max_tokens,
            n=wire.n,
            needs=wire.needs,
            preferences=wire.preferences,
            allowed=caller.models,
            budget_usd=caller.allowance.budget_usd,
        )

    async def decide(self, request: RouteRequest, wire: Wire, caller: Caller, *, fresh: bool = False, dry: bool = False) -> Decision:
        """Raises GatewayError if nothing may or can answer. `fresh`: nothing remembered is used. `dry`: no conversation starts with it."""
        route = self._routes.get(wire.model)
        if route is None:
            return self._decision(None, self._choose_named(wire, caller, request), "bypass", request, wire)
        if not caller.may_take(route.name) or (caller.models is not None and not any(map(caller.may_ask, route.models))):
            raise GatewayError("model_not_allowed", f"the key may not use the route {route.name!r}", param="model")
        talk = wire.prompt.conversation()
        session = self._session(route, wire, caller, talk)
        pinned = None
        if session is not None and not fresh and (talk is None or not talk.begins or wire.preferences.session is not None):
            pinned = self._allowed(route, request, await self._sessions.find(session, route.models))
            if pinned is not None and self._stays_anyway(route, request, talk, pinned):
                return self._decision(route.name, pinned, "pin", request, wire)
        choice, found = await self._remembered(route, wire, caller, request, fresh)
        if pinned is not None and not self._should_move(route, request, talk, pinned, choice):
            return self._decision(route.name, pinned, "pin", request, wire)
        if session is not None and not dry:
            self._sessions.keep(session, choice.policy, choice.ranking)
        return self._decision(route.name, choice, found, request, wire)

    def cheaper(self, decision: Decision, request: RouteRequest, left_usd: float) -> Decision | None:
        """The same decision among the candidates that `left_usd` pays for in any case; None if there is none."""
        choice = self._serving(decision.choice, replace(request, budget_usd=left_usd))
        return None if choice is None or choice is decision.choice else structs.replace(decision, choice=choice)

    def charge(self, decision: Decision, request: RouteRequest) -> tuple[int, float | None]:
        """The most that the chosen model can take for this request: tokens, and USD (None if its price is unknown)."""
        candidate = self._fleet.candidate(decision.choice.model)
        return possible_tokens(request, candidate), possible_cost(request, candidate)

    def unpaid(self, short: OutOfBudget, decision: Decision, request: RouteRequest) -> OutOfBudget:
        """The same error, which names the candidate that might be paid with the least."""
        short.message += cheapest(self._prices([scored.name for scored in decision.choice.ranking], request, possible_cost))
        return short

    def _refusal(self, rejected: Mapping[str, str], request: RouteRequest) -> GatewayError:
        likely = self._prices([name for name, reason in rejected.items() if reason == "max_cost"], request, expected_cost)
        most = self._prices([name for name, reason in rejected.items() if reason == "budget"], request, possible_cost)
        return refusal(rejected, {"max_cost": cheapest(likely), "budget": cheapest(most)})

    def _prices(self, names: Sequence[str], request: RouteRequest, price: Callable[[RouteRequest, Candidate], float | None]) -> Prices:
        return {name: price(request, self._fleet.candidate(name)) for name in names}

    def text_of(self, decision: Decision, wire: Wire, prompts: bool) -> tuple[str | None, bool]:
        """What was asked, if `prompts` are kept or the route's policy learns, and whether it learns."""
        route = self._routes.get(decision.route or "")
        learns = route is not None and bool(route.policy.learners)
        if not (prompts or learns):
            return None, False
        return wire.prompt.text(DEFAULT_TEXT_CAP if route is None else route.text_cap), learns

    def _decision(self, route: str | None, choice: Choice, cache: str, request: RouteRequest, wire: Wire) -> Decision:
        single = unfit(request) or bound_to_one(wire) if route in self._planned else None
        return Decision(self._new_id(), route, choice, cache, self._wall_clock(), request.prompt_tokens, single)

    def _choose_named(self, wire: Wire, caller: Caller, request: RouteRequest) -> Choice:
        choice = self._named.get(wire.model)
        if choice is None:
            raise GatewayError("model_not_found", f"there is no model or route named {wire.model[:128]!r}", param="model")
        if not caller.may_ask(wire.model):
            raise GatewayError("model_not_allowed", f"the key may not use the model {wire.model!r}", param="model")
        candidate = self._fleet.candidate(wire.model)
        window = candidate.model.context_window
        if caller.allowance.bounded and window is not None and wire.max_tokens is not None and wire.max_tokens > window:
            raise refusal({wire.model: "context_length"})
        for rule in (MaxCost(), BudgetFilter()):
            reason = rule.reject(request, candidate)
            if reason is not None:
                raise self._refusal({wire.model: reason}, request)
        return choice

    def _session(self, route: Route, wire: Wire, caller: Caller, talk: Conversation | None) -> SessionKey | None:
        """Names the conversation: by the caller's own name for it, else by how it opened."""
        named = wire.preferences.session
        if named is not None:
            return SessionKey(caller.id, route.name, named)
        return None if talk is None else SessionKey(caller.id, route.name, talk.opening)

    def _stays_anyway(self, route: Route, request: RouteRequest, talk: Conversation | None, pinned: Choice) -> bool:
        """Whether nothing that the policy could say would move the conversation: then it need not be asked."""
        if talk is not None and talk.continues:
            return True
        most = route.policy.most_gain(request)
        others = [self._regret(route, request, talk, Scored(name, 0.0), pinned) for name in route.models if name != pinned.model]
        return not others or most <= min(others)

    def _should_move(self, route: Route, request: RouteRequest, talk: Conversation | None, pinned: Choice, choice: Choice) -> bool:
        if choice.reason != "best_score":
            return False
        return gain(choice.ranking, pinned.model) > self._regret(route, request, talk, choice.ranking[0], choice)

    def _regret(self, route: Route, request: RouteRequest, talk: Conversation | None, target: Scored, choice: Choice) -> float:
        prefix = 0 if talk is None else self._fleet.estimate.tokens(talk.prefix_bytes)
        stickiness, model = self._stickiness, self._fleet[target.name].model
        weight = route.policy.cost_weight(request)
        loss = regret(model, choice.ranking, prefix, weight, stickiness.tokens_per_second, stickiness.second_weight)
        return max(stickiness.inertia, loss)

    async def _remembered(self, route: Route, wire: Wire, caller: Caller, request: RouteRequest, fresh: bool) -> tuple[Choice, str]:
        """A choice, and where it came from: hit, miss or bypass."""
        if fresh or not route.policy.cacheable:
            return await self._choose(route, wire, request), "bypass"
        key = self._key(route, wire, caller)
        choice = self._choices.here(key)
        if choice is not None:
            serving = self._serving(choice, request)
            return (await self._choose(route, wire, request), "miss") if serving is None else (serving, "hit")

        async def choose() -> Choice:
            choice = await self._choose(route, wire, request)
            if choice.reason in ("best_score", "only_candidate") and not _PASSING & set(choice.rejected.values()):
                self._choices.keep(key, choice)
            return choice

        choice, found = await self._choices.find(key, route.models, choose)
        serving = self._serving(choice, request) if found else choice
        return (await self._choose(route, wire, request), "miss") if serving is None else (serving, "hit" if found else "miss")

    def _serving(self, choice: Choice, request: RouteRequest) -> Choice | None:
        """A remembered choice without the models that are down now or beyond the caller's budget; None if no model is left."""
        if request.budget_usd is None and self._fleet[choice.model].pool.in_service():
            return choice
        rejected: dict[str, str] = {}
        for scored in choice.ranking:
            if not self._fleet[scored.name].pool.in_service():
                rejected[scored.name] = "unhealthy"
            elif request.budget_usd is not None and BudgetFilter().reject(request, self._fleet.candidate(scored.name)):
                rejected[scored.name] = "budget"
        return _without(choice, rejected)

    def _allowed(self, route: Route, request: RouteRequest, pinned: Choice | None) -> Choice | None:
        """A pinned choice without the models that must not serve this turn; None if its own model must not."""
        if pinned is None:
            return None
        rejected: dict[str, str] = {}
        for scored in pinned.ranking:
            reason = rejection(route.policy, request, self._fleet.candidate(scored.name))
            if reason is not None:
                rejected[scored.name] = reason
        return None if pinned.model in rejected else _without(pinned, rejected)

    async def _choose(self, route: Route, wire: Wire, request: RouteRequest) -> Choice:
        started = self._clock()
        policy = route.policy
        if policy.needs & {"text", "embedding"}:
            request = request.reading(wire.prompt.text(route.text_cap))
        candidates = self._fleet.candidates(route.models)
        try:
            if policy.at_once(request):
                choice = decide(policy, request, candidates, self._rng, self._clock, started + route.deadline)
            else:
                choice = await self._choose_in_thread(route, request, candidates, started + route.deadline)
        except NoCandidate as none_left:
            raise self._refusal(none_left.rejected, request) from None
        self._metrics.decision_duration.labels(route.name).observe(self._clock() - started)
        for plugin, seconds in choice.plugin_seconds.items():
            timer = self._timers.get(plugin)
            if timer is None:
                timer = self._timers[plugin] = self._metrics.plugin_duration.labels(plugin).observe
            timer(seconds)
        for plugin in choice.errors:
            self._metrics.plugin_errors.labels(plugin).inc()
        return choice

    async def _choose_in_thread(self, route: Route, request: RouteRequest, candidates: Sequence[Candidate], deadline: float) -> Choice:
        """A policy that computes runs beside the event loop. If it is late, its thread goes on, and nobody waits for it.

        A future of the loop and one callback: `asyncio.wrap_future` and `asyncio.wait` took twice as long (28 µs instead of 15).
        """
        if not self._places.acquire(blocking=False):
            return default_choice(route.policy, request, candidates, "deadline", self._clock)
        loop = asyncio.get_running_loop()
        chosen: asyncio.Future[Choice | None] = loop.create_future()

        def hear(job: Future[Choice]) -> None:
            if chosen.done() or job.cancelled():
                return
            error = job.exception()
            if error is None:
                chosen.set_result(job.result())
            else:
                chosen.set_exception(error)

        def give_up() -> None:
            if not chosen.done():
                chosen.set_result(None)

        def end(job: Future[Choice]) -> None:
            self._places.release()
            if not loop.is_closed():
                loop.call_soon_threadsafe(hear, job)

        job = self._threads.submit(decide, route.policy, request, candidates, self._rng, self._clock, deadline)
        job.add_done_callback(end)
        late = loop.call_later(deadline - self._clock(), give_up)
        try:
            choice = await chosen
        finally:
            late.cancel()
            job.cancel()
        return default_choice(route.policy, request, candidates, "deadline", self._clock) if choice is None else choice

    def _key(self, route: Route, wire: Wire, caller: Caller) -> ChoiceKey:
        """All that a policy may read of a request, and what it decides by. Sessions and deadlines change nothing of the choice."""
        text = b""
        if route.policy.needs & {"text", "embedding"}:
            text = wire.prompt.text(route.text_cap).strip().encode(errors="replace")
        p = wire.preferences
        wishes = (_sorted(p.models), _sorted(p.exclude), p.max_cost_usd, p.min_quality, p.cost_weight, _sorted(caller.models))
        base = (route.fingerprint, route.policy.revisions)
        read = (base, wire.endpoint, _sorted(wire.needs), wire.prompt.size, wire.max_tokens, wire.n, wishes, text)
        return ChoiceKey(caller.id, hashlib.blake2b(msgspec.msgpack.encode(read), digest_size=16).digest())


_PASSING = {"unhealthy", "budget"}
"""Reasons that may be gone a moment later: a choice that was made under them is not remembered."""


def _sorted(names: frozenset[str] | None) -> list[str] | None:
    return None if names is None else sorted(names)


def _without(choice: Choice, rejected: Mapping[str, str]) -> Choice | None:
    """A choice without some models of its ranking, and why they are out; None if nothing is left."""
    if not rejected:
        return choice
    left = tuple(scored for scored in choice.ranking if scored.name not in rejected)
    return replace(choice, ranking=left, rejected={**choice.rejected, **rejected}) if left else None

"""Who should answer: a model that the client named, or the choice of a route's policy, new or remembered."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from random import Random

from gateway.account.metrics import Metrics
from gateway.account.records import Decision
from gateway.errors import Code, GatewayError
from gateway.fleet import Fleet
from gateway.flow.wire import Wire
from gateway.memory.cache import ChoiceCache
from routers.api import Answer, Ask, Budget, Candidate, Choice, NoCandidate, RouteRequest, Scored
from routers.filters import MaxCost
from routers.pipeline import Policy, decide, default_choice

MAX_THINKING = 64
"""Decisions that may be in threads or wait for one; beyond that the route's default serves at once."""


class PlannerError(Exception):
    """A planner wants what the gateway cannot do."""


@dataclass(frozen=True, slots=True)
class Route:
    """A virtual model. `deadline`: seconds for one decision. `text_cap`: characters of the prompt that its policy reads."""

    name: str
    models: tuple[str, ...]
    policy: Policy
    deadline: float
    text_cap: int


class Decider:
    """Decides for all routes. `fingerprint`: of the configuration, so that no choice outlives it."""

    def __init__(
        self,
        fleet: Fleet,
        routes: Mapping[str, Route],
        cache: ChoiceCache,
        threads: ThreadPoolExecutor,
        metrics: Metrics,
        *,
        fingerprint: str,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        new_id: Callable[[], str],
        rng: Random,
    ) -> None:
        self._fleet = fleet
        self._routes = dict(routes)
        self._cache = cache
        self._threads = threads
        self._metrics = metrics
        self._fingerprint = fingerprint
        self._clock = clock
        self._wall_clock = wall_clock
        self._new_id = new_id
        self._rng = rng
        self._places = threading.BoundedSemaphore(MAX_THINKING)
        self._named = {s.model.name: Choice("named", "named", (Scored(s.model.name, 0.0),)) for s in fleet}

    async def decide(self, wire: Wire, use_cache: bool = True) -> Decision:
        """Raises GatewayError if nothing may or can answer."""
        tokens = self._fleet.estimate.tokens(wire.prompt.size)
        route = self._routes.get(wire.model)
        if route is None:
            return self._decision(None, self._choose_named(wire, tokens), "bypass", tokens)
        if not (use_cache and route.policy.cacheable):
            return self._decision(route.name, await self._choose(route, wire, tokens), "bypass", tokens)
        key = self._key(route, wire)
        choice = self._cache.get(key)
        if choice is not None and self._fleet[choice.model].pool.usable():
            return self._decision(route.name, choice, "hit", tokens)
        choice = await self._choose(route, wire, tokens)
        if choice.reason in ("best_score", "only_candidate") and "unhealthy" not in choice.rejected.values():
            self._cache.put(key, choice)
        return self._decision(route.name, choice, "miss", tokens)

    def _decision(self, route: str | None, choice: Choice, cache: str, tokens: int) -> Decision:
        return Decision(self._new_id(), route, choice, cache, self._wall_clock(), tokens)

    def _choose_named(self, wire: Wire, tokens: int) -> Choice:
        choice = self._named.get(wire.model)
        if choice is None:
            raise GatewayError("model_not_found", f"there is no model or route named {wire.model[:128]!r}", param="model")
        if wire.preferences.max_cost_usd is not None:
            reason = MaxCost().reject(self._request(wire, tokens), self._fleet.candidate(wire.model))
            if reason is not None:
                raise refusal({wire.model: reason})
        return choice

    async def _choose(self, route: Route, wire: Wire, tokens: int) -> Choice:
        started = self._clock()
        policy = route.policy
        text = wire.prompt.text(route.text_cap) if policy.needs & {"text", "embedding"} else ""
        request = replace(self._request(wire, tokens), text=text)
        candidates = [self._fleet.candidate(name) for name in route.models]
        try:
            if policy.instant:
                choice = decide(policy, request, candidates, self._rng, self._clock, started + route.deadline)
            else:
                choice = await self._choose_in_thread(route, request, candidates, started + route.deadline)
        except NoCandidate as none_left:
            raise refusal(none_left.rejected) from None
        self._metrics.decision_duration.labels(route.name).observe(self._clock() - started)
        for plugin, seconds in choice.plugin_seconds.items():
            self._metrics.plugin_duration.labels(plugin).observe(seconds)
        for plugin in choice.errors:
            self._metrics.plugin_errors.labels(plugin).inc()
        return choice

    def ask(self, decision: Decision, wire: Wire) -> Ask:
        """What the route's planner wants asked, first of all."""
        route = self._routes.get(decision.route or "")
        if route is None:
            return Ask((decision.choice.model,))
        wishes = wire.preferences
        left = Budget(wishes.max_cost_usd, None if wishes.max_latency_ms is None else wishes.max_latency_ms / 1000)
        step = route.policy.planner.next(self._request(wire, decision.prompt_tokens), decision.choice.ranking, (), left)
        if isinstance(step, Answer) or len(step) != 1 or not step[0].final:
            raise PlannerError(f"planner of route {route.name!r}: its first step must be one final ask")
        return step[0]

    async def _choose_in_thread(self, route: Route, request: RouteRequest, candidates: Sequence[Candidate], deadline: float) -> Choice:
        """A policy that computes runs beside the event loop. If it is late, its thread goes on, and nobody waits for it."""

        def think() -> Choice:
            return decide(route.policy, request, candidates, self._rng, self._clock, deadline)

        if not self._places.acquire(blocking=False):
            return default_choice(route.policy, request, candidates, "deadline", self._clock)
        job = self._threads.submit(think)
        job.add_done_callback(lambda _: self._places.release())
        future = asyncio.wrap_future(job)
        done, _ = await asyncio.wait([future], timeout=deadline - self._clock())
        if not done:
            future.cancel()
            return default_choice(route.policy, request, candidates, "deadline", self._clock)
        return future.result()

    def _request(self, wire: Wire, tokens: int) -> RouteRequest:
        return RouteRequest(
            endpoint=wire.endpoint,
            prompt_tokens=tokens,
            max_tokens=wire.max_tokens,
            n=wire.n,
            needs=wire.needs,
            preferences=wire.preferences,
        )

    def _key(self, route: Route, wire: Wire) -> Hashable:
        """All that a policy may read of a request. Sessions and deadlines change nothing of the choice."""
        text = b""
        if route.policy.needs & {"text", "embedding"}:
            spoken = wire.prompt.text(route.text_cap).strip()
            text = hashlib.blake2b(spoken.encode(errors="replace"), digest_size=16).digest()
        p = wire.preferences
        wishes = (p.models, p.exclude, p.max_cost_usd, p.min_quality, p.cost_weight)
        return (self._fingerprint, route.name, wire.endpoint, wire.needs, wire.prompt.size, wire.max_tokens, wire.n, wishes, text)


_CAUSES: tuple[tuple[str, Code, str], ...] = (
    ("unhealthy", "no_healthy_backend", "no backend of a model that could answer is up"),
    ("max_cost", "max_cost_too_low", "the request's max_cost_usd pays for no candidate"),
    ("context_length", "context_length_exceeded", "the prompt and the answer fit no candidate's context window"),
)


def refusal(rejected: Mapping[str, str]) -> GatewayError:
    """The client's error when no candidate is left. A candidate that only lacks a healthy backend is worth waiting for, and so on down."""
    listed = ", ".join(f"{name} ({reason})" for name, reason in rejected.items())
    reasons = set(rejected.values())
    for reason, code, message in _CAUSES:
        if reason in reasons:
            param = "router.max_cost_usd" if reason == "max_cost" else "messages" if reason == "context_length" else None
            return GatewayError(code, f"{message}: {listed}", param=param, retry_after=1 if reason == "unhealthy" else None)
    param = "router.models" if reasons == {"not_allowed"} else None
    return GatewayError("no_capable_model", f"no candidate has what the request needs: {listed}", param=param)

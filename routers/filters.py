"""Hard rules. The order of the default ones matters: what comes later only hears of candidates that passed what comes before."""

from __future__ import annotations

from routers.api import Candidate, RouteRequest
from routers.expectation import expected_cost, possible_cost


class AllowList:
    """Only models that the caller may use, and that the request allows (`router.models`, `router.exclude`)."""

    def reject(self, request: RouteRequest, candidate: Candidate) -> str | None:
        wishes, name = request.preferences, candidate.name
        allowed = (request.allowed is None or name in request.allowed) and (wishes.models is None or name in wishes.models)
        return None if allowed and name not in wishes.exclude else "not_allowed"

    def is_idle(self, request: RouteRequest) -> bool:
        wishes = request.preferences
        return request.allowed is None and wishes.models is None and not wishes.exclude


class Capability:
    """Only models that have the endpoint and everything that the request uses: tools, json_schema, vision."""

    def reject(self, request: RouteRequest, candidate: Candidate) -> str | None:
        has = candidate.model.capabilities
        return None if request.endpoint in has and request.needs <= has else "no_capability"


class ContextWindow:
    """Only models whose window holds the prompt and the answer that was asked for. An unknown window is not held against a model."""

    def reject(self, request: RouteRequest, candidate: Candidate) -> str | None:
        window = candidate.model.context_window
        fits = window is None or request.prompt_tokens + (request.max_tokens or 0) <= window
        return None if fits else "context_length"


class MaxCost:
    """Only models whose expected cost is within `router.max_cost_usd`. A model without a price promises nothing, and is out."""

    def reject(self, request: RouteRequest, candidate: Candidate) -> str | None:
        bound = request.preferences.max_cost_usd
        if bound is None:
            return None
        cost = expected_cost(request, candidate)
        return None if cost is not None and cost <= bound else "max_cost"

    def is_idle(self, request: RouteRequest) -> bool:
        return request.preferences.max_cost_usd is None


class Budget:
    """Only models at which the request cannot cost more than what is left of the caller's budget. Without a price nobody can tell."""

    def reject(self, request: RouteRequest, candidate: Candidate) -> str | None:
        if request.budget_usd is None:
            return None
        cost = possible_cost(request, candidate)
        return None if cost is not None and cost <= request.budget_usd else "budget"

    def is_idle(self, request: RouteRequest) -> bool:
        return request.budget_usd is None


class Health:
    """Only models with a backend that can serve now."""

    def reject(self, request: RouteRequest, candidate: Candidate) -> str | None:
        return None if candidate.healthy else "unhealthy"

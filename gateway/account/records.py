"""What happened to one request: the decision, the attempts, the bill."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from gateway.account.costs import Usage
from gateway.account.planned import Planned
from routers.api import Choice, Endpoint, RouteRequest

LEARNED = "learned_from"
"""Member of a kept document that is not shown."""


class Decision(Struct, frozen=True, gc=False):
    """How one request was routed. Headers, dry run, log, metrics, `explain` and feedback all show this object.

    `route`: None if the client named a model itself. `cache`: hit, miss, pin or bypass. `created`: Unix time, seconds.
    `single`: why one call makes the answer, though the route's planner may make several; None where nothing is against it.
    """

    id: str
    route: str | None
    choice: Choice
    cache: str
    created: float
    prompt_tokens: int
    single: str | None = None

    @property
    def propensity(self) -> float | None:
        """The probability with which the model was chosen; None if chance had no part in it."""
        return self.choice.ranking[0].propensity

    def document(self) -> dict[str, Any]:
        """As JSON shows it."""
        choice = self.choice
        return {
            "id": self.id,
            "route": self.route,
            "model": choice.model,
            "policy": choice.policy,
            "reason": choice.reason,
            "cache": self.cache,
            "created": self.created,
            "prompt_tokens_estimate": self.prompt_tokens,
            "propensity": self.propensity,
            "shadow": choice.shadow,
            "single": self.single,
            "candidates": [
                {
                    "model": scored.name,
                    "score": scored.score,
                    "opinions": dict(scored.opinions),
                    "quality": scored.quality,
                    "uncertainty": scored.uncertainty,
                    "propensity": scored.propensity,
                    "expected_cost_usd": scored.cost_usd,
                }
                for scored in choice.ranking
            ],
            "rejected": dict(choice.rejected),
            "plugin_ms": {name: seconds * 1000 for name, seconds in choice.plugin_seconds.items()},
            "errors": dict(choice.errors),
        }


class Attempt(Struct, frozen=True, gc=False):
    """One try at one backend. `outcome`: ok, an HTTP status, or how the call failed. `seconds`: until the first byte or the failure."""

    model: str
    backend: str
    outcome: str
    seconds: float


class Record(Struct, gc=False):
    """A decision and what came of it; filled in as the request goes on. Unknown is None.

    `caller`: id of whoever asked. `estimated`: the usage is our own count of what was streamed, since the backend did not get to say.
    `planned`: what the route's planner did; None where it makes one call always. `usage` is then that of the final ask alone, and
    `cost_usd` that of all.
    `text`: what was asked, only where the ledger wants it. `asked`: the request as its routing saw it, but for the text. `request`: with
    the text, only where the policy learns.
    """

    decision: Decision
    endpoint: Endpoint
    request_id: str
    stream: bool = False
    caller: str = "anyone"
    model: str | None = None
    attempts: list[Attempt] = []
    status: int | None = None
    error: str | None = None
    usage: Usage | None = None
    estimated: bool = False
    text: str | None = None
    asked: RouteRequest | None = None
    request: RouteRequest | None = None
    cost_usd: float | None = None
    baseline_cost_usd: float | None = None
    overhead_seconds: float | None = None
    first_byte_seconds: float | None = None
    seconds: float | None = None
    planned: Planned | None = None
    trace_id: str | None = None

    @property
    def rounds_usage(self) -> Usage | None:
        """Tokens of what a planner had asked before the answer; None if nothing is known of them, or there was nothing."""
        return None if self.planned is None else self.planned.usage

    def kept(self) -> dict[str, Any]:
        """The document, and what learners will ask for: as it is kept for `GET /v1/decisions/{id}` and for feedback."""
        asked = self.request
        if asked is None:
            return self.document()
        learned = {"text": asked.text, "max_tokens": asked.max_tokens, "n": asked.n, "needs": sorted(asked.needs)}
        return {**self.document(), LEARNED: learned}

    def document(self) -> dict[str, Any]:
        """As `GET /v1/decisions/{id}` shows it."""
        usage = self.usage
        return {
            "object": "decision",
            **self.decision.document(),
            "endpoint": self.endpoint,
            "request_id": self.request_id,
            "caller": self.caller,
            "stream": self.stream,
            "answered_by": self.model,
            "attempts": [{"model": a.model, "backend": a.backend, "outcome": a.outcome, "ms": a.seconds * 1000} for a in self.attempts],
            "rounds": [] if self.planned is None else self.planned.documents(),
            "status": self.status,
            "error": self.error,
            "usage": None if usage is None else {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens},
            "estimated": self.estimated,
            "cost_usd": self.cost_usd,
            "baseline_cost_usd": self.baseline_cost_usd,
            "overhead_ms": milliseconds(self.overhead_seconds),
            "time_to_first_token_ms": milliseconds(self.first_byte_seconds) if self.stream else None,
            "duration_ms": milliseconds(self.seconds),
        }


def milliseconds(seconds: float | None) -> float | None:
    """As documents and lines say it, to the microsecond."""
    return None if seconds is None else round(seconds * 1000, 3)

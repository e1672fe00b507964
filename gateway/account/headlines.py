"""What a list shows of a request that is over: a line for each, and the rest for whoever opens it."""

from __future__ import annotations

from typing import Any

from gateway.account.costs import add_usage
from gateway.account.records import Record, milliseconds


def headline(record: Record, place: str) -> dict[str, Any]:
    """Of a request that is over, without a word of what was asked or answered. `place`: names the process. Unknown is None."""
    decision, planned = record.decision, record.planned
    choice = decision.choice
    usage = record.usage if planned is None else add_usage(record.usage, planned.usage)
    return {
        "id": decision.id,
        "time": decision.created,
        "place": place,
        "caller": record.caller,
        "endpoint": record.endpoint,
        "stream": record.stream,
        "route": decision.route,
        "chosen": choice.model,
        "model": record.model,
        "policy": choice.policy,
        "reason": choice.reason,
        "cache": decision.cache,
        "status": record.status,
        "error": record.error,
        "attempts": len(record.attempts),
        "calls": None if planned is None else planned.calls,
        "prompt_tokens": None if usage is None else usage.prompt_tokens,
        "completion_tokens": None if usage is None else usage.completion_tokens,
        "cost_usd": record.cost_usd,
        "baseline_cost_usd": record.baseline_cost_usd,
        "overhead_ms": milliseconds(record.overhead_seconds),
        "first_byte_ms": milliseconds(record.first_byte_seconds) if record.stream else None,
        "ms": milliseconds(record.seconds),
    }

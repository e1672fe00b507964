"""One line for each request: JSON for machines, or plain text for a terminal. Written in batches, off the request's path."""

from __future__ import annotations

import asyncio
from typing import TextIO

import msgspec

from gateway.account.costs import add_usage
from gateway.account.records import Record

FLUSH_SECONDS = 0.1
MAX_LINES = 10_000


class Journal:
    """Collects lines and writes them a few times a second. `out`: where to; None writes nothing. Prompts and keys are never in it.

    Beyond MAX_LINES unwritten lines the newest are dropped and counted in `dropped`.
    """

    def __init__(self, out: TextIO | None, plain: bool) -> None:
        self._out = out
        self._plain = plain
        self._lines: list[str] = []
        self._timer: asyncio.TimerHandle | None = None
        self.dropped = 0

    def request(self, record: Record) -> None:
        """The line of a request that is over."""
        if self._out is not None:
            self._add(_as_text(record) if self._plain else _as_json(record))

    def refused(self, request_id: str, endpoint: str, status: int, code: str, seconds: float) -> None:
        """The line of a request that ended before there was a decision."""
        if self._out is None:
            return
        if self._plain:
            self._add(f"{status}  {endpoint:<11} {code}  {seconds * 1000:.1f} ms")
            return
        line = {
            "event": "request",
            "request_id": request_id,
            "endpoint": endpoint,
            "status": status,
            "error": code,
            "ms": seconds * 1000,
        }
        self._add(msgspec.json.encode(line).decode())

    def _add(self, line: str) -> None:
        if len(self._lines) >= MAX_LINES:
            self.dropped += 1
            return
        self._lines.append(line)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)

    def flush(self) -> None:
        """Writes what has been collected."""
        self._timer = None
        lines, self._lines = self._lines, []
        if lines and self._out is not None:
            self._out.write("\n".join(lines) + "\n")
            self._out.flush()


def _as_json(record: Record) -> str:
    decision, planned = record.decision, record.planned
    usage = record.usage if planned is None else add_usage(record.usage, planned.usage)
    line = {
        "event": "request",
        "time": decision.created,
        "request_id": record.request_id,
        "decision_id": decision.id,
        "caller": record.caller,
        "endpoint": record.endpoint,
        "stream": record.stream,
        "route": decision.route,
        "model": record.model or decision.choice.model,
        "policy": decision.choice.policy,
        "reason": decision.choice.reason,
        "cache": decision.cache,
        "status": record.status,
        "error": record.error,
        "attempts": len(record.attempts),
        "prompt_tokens": None if usage is None else usage.prompt_tokens,
        "completion_tokens": None if usage is None else usage.completion_tokens,
        "cost_usd": record.cost_usd,
        "overhead_ms": _ms(record.overhead_seconds),
        "first_byte_ms": _ms(record.first_byte_seconds),
        "ms": _ms(record.seconds),
    }
    if planned is not None:
        line |= {"calls": planned.calls, "single": decision.single}
    return msgspec.json.encode(line).decode()


def _as_text(record: Record) -> str:
    decision = record.decision
    chosen = record.model or decision.choice.model
    cost = "cost unknown" if record.cost_usd is None else f"${record.cost_usd:.7f}"
    calls = 1 if record.planned is None else record.planned.calls
    retried = f"  {len(record.attempts)} attempts" if len(record.attempts) > calls else ""
    planned = "" if record.planned is None else f"  single: {decision.single}" if decision.single else f"  {calls} calls"
    error = f"  {record.error}" if record.error else ""
    milliseconds = f"{(record.seconds or 0) * 1000:.1f} ms"
    return (
        f"{record.status}  {record.endpoint:<11} {decision.route or '-':<10} -> {chosen:<12} {decision.choice.reason:<14}"
        f" cache {decision.cache:<6} {cost}  {milliseconds}{planned}{retried}{error}  {decision.id}"
    )


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)

"""One line for each request: JSON for machines, or plain text for a terminal. Made and written in batches, off the request's path."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TextIO

import msgspec
from msgspec import Struct

from gateway.account.costs import add_usage
from gateway.account.records import Record, milliseconds
from gateway.account.visit import Visit
from gateway.account.words import in_words, what_followed

FLUSH_SECONDS = 0.1
MAX_LINES = 10_000
PATIENCE_SECONDS = 1.0
"""So long `flush` waits for whoever reads the lines and takes none."""


class Refused(Struct, frozen=True, gc=False):
    """A request that ended before there was a decision. `time`: Unix time, seconds."""

    time: float
    request_id: str
    caller: str
    endpoint: str
    status: int
    error: str
    seconds: float
    trace_id: str | None


class Journal:
    """Collects what is to be said, and says it a few times a second. `out`: where to; None writes nothing. No prompt and no key is in it.

    The lines are made in the event loop, and a thread writes them: whoever reads them may stand still. Beyond MAX_LINES that wait the
    newest are dropped and counted in `dropped`, and so are those that cannot be written.
    """

    def __init__(self, out: TextIO | None, plain: bool, wall_clock: Callable[[], float] = time.time) -> None:
        self._out = out
        self._plain = plain
        self._wall_clock = wall_clock
        self._waiting: list[Record | Refused] = []
        self._made: deque[tuple[int, str]] = deque()
        self._writing = threading.Lock()
        self._timer: asyncio.TimerHandle | None = None
        self._missed = 0
        self._lines_made = 0  # counted by the event loop alone
        self._lines_out = 0  # and these two by whoever has `_writing`
        self._unwritten = 0

    @property
    def dropped(self) -> int:
        """Lines that were lost so far."""
        return self._missed + self._unwritten

    def __len__(self) -> int:
        return len(self._waiting) + self._lines_made - self._lines_out

    def request(self, record: Record) -> None:
        """The line of a request that is over. The record is not changed any more."""
        if self._out is not None:
            self._add(record)

    def refused(self, visit: Visit, endpoint: str, status: int, code: str, seconds: float) -> None:
        """The line of a request that ended before there was a decision."""
        if self._out is not None:
            now, caller = self._wall_clock() - seconds, visit.caller.id
            self._add(Refused(now, visit.request_id, caller, endpoint, status, code, seconds, visit.trace_id))

    def flush(self) -> None:
        """Writes what has been collected, and returns when it is written."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._make()
        if self._out is not None and self._writing.acquire(timeout=PATIENCE_SECONDS):
            self._write_made()

    def _add(self, entry: Record | Refused) -> None:
        if len(self) >= MAX_LINES:
            self._missed += 1
            return
        self._waiting.append(entry)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self._hand_over)

    def _hand_over(self) -> None:
        self._timer = None
        self._make()
        if not self._writing.acquire(blocking=False):  # the lines before are not out yet
            self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self._hand_over)
            return
        # A daemon, so that a reader that stands still does not keep the process from ending; it is gone when its lines are.
        threading.Thread(target=self._write_made, name="pointsman-log", daemon=True).start()

    def _make(self) -> None:
        entries, self._waiting = self._waiting, []
        if entries:
            lines = _Lines(self._plain)
            self._lines_made += len(entries)
            self._made.append((len(entries), "".join([lines.of(entry) + "\n" for entry in entries])))

    def _write_made(self) -> None:
        """Only ever called by who has `_writing`, which is let go here."""
        assert self._out is not None
        try:
            while self._made:
                count, text = self._made.popleft()
                if not _written(self._out, text):
                    self._unwritten += count
                self._lines_out += count
        finally:
            self._writing.release()


def _written(out: TextIO, text: str) -> bool:
    """Whether somebody took it."""
    try:
        out.write(text)
        out.flush()
    except (OSError, ValueError):
        return False
    return True


class _Lines:
    """Makes the lines of a batch. A remembered choice is put in words once."""

    def __init__(self, plain: bool) -> None:
        self._plain = plain
        self._words: dict[int, str] = {}

    def of(self, entry: Record | Refused) -> str:
        if isinstance(entry, Refused):
            return _refused_as_text(entry) if self._plain else _refused_as_json(entry)
        choice = entry.decision.choice
        words = self._words.get(id(choice))
        if words is None:
            words = self._words[id(choice)] = in_words(choice)
        why = words + what_followed(entry)
        return _as_text(entry, why) if self._plain else _as_json(entry, why)


def _refused_as_json(refused: Refused) -> str:
    line = {
        "event": "request",
        "time": refused.time,
        "request_id": refused.request_id,
        "trace_id": refused.trace_id,
        "caller": refused.caller,
        "endpoint": refused.endpoint,
        "status": refused.status,
        "error": refused.error,
        "ms": milliseconds(refused.seconds),
    }
    return msgspec.json.encode(line).decode()


def _refused_as_text(refused: Refused) -> str:
    return f"{refused.status}  {refused.endpoint:<11} {refused.error}  {refused.seconds * 1000:.1f} ms  {refused.request_id}"


def _as_json(record: Record, why: str) -> str:
    decision, planned = record.decision, record.planned
    usage = record.usage if planned is None else add_usage(record.usage, planned.usage)
    line = {
        "event": "request",
        "time": decision.created,
        "request_id": record.request_id,
        "decision_id": decision.id,
        "trace_id": record.trace_id,
        "caller": record.caller,
        "endpoint": record.endpoint,
        "stream": record.stream,
        "route": decision.route,
        "model": record.model or decision.choice.model,
        "policy": decision.choice.policy,
        "reason": decision.choice.reason,
        "why": why,
        "cache": decision.cache,
        "status": record.status,
        "error": record.error,
        "attempts": len(record.attempts),
        "prompt_tokens": None if usage is None else usage.prompt_tokens,
        "completion_tokens": None if usage is None else usage.completion_tokens,
        "cost_usd": record.cost_usd,
        "overhead_ms": milliseconds(record.overhead_seconds),
        "first_byte_ms": milliseconds(record.first_byte_seconds),
        "ms": milliseconds(record.seconds),
    }
    if planned is not None:
        line |= {"calls": planned.calls, "single": decision.single}
    return msgspec.json.encode(line).decode()


def _as_text(record: Record, why: str) -> str:
    decision = record.decision
    chosen = record.model or decision.choice.model
    cost = "cost unknown" if record.cost_usd is None else f"${record.cost_usd:.7f}"
    calls = 1 if record.planned is None else record.planned.calls
    retried = f"  {len(record.attempts)} attempts" if len(record.attempts) > calls else ""
    planned = f"  {calls} calls" if record.planned is not None and decision.single is None else ""
    error = f"  {record.error}" if record.error else ""
    milliseconds = f"{(record.seconds or 0) * 1000:.1f} ms"
    return (
        f"{record.status}  {record.endpoint:<11} {decision.route or '-':<10} -> {chosen:<12} {cost}  {milliseconds}"
        f"{planned}{retried}{error}  {why}  {decision.id}"
    )

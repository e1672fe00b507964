"""One request on its way through the gateway: what is known of it so far."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from gateway.account.records import Record
from gateway.account.tracing import NO_TRACE, Trace, trace_id_of
from gateway.guard.callers import ANYONE
from gateway.guard.limits import Grant

_TOKEN = re.compile(rb"[A-Za-z0-9._:\-]{1,128}")


class Visit:
    """`started`: on the monotonic clock, seconds. `request_id`: the client's own if it is well-formed, else a new one.

    `record`: None until there is a decision. `status` and `code`: of the error that ended it, if one did. `prompt_size`: bytes that the
    model reads whose answer is relayed.
    `grant`: what was reserved of the caller's allowance; `grants`: of its budget, what more the asks of a plan needed.
    `streamed`: events that went to the client; `answer_size`: bytes of a whole answer.
    `worked`: a model has worked on it, so that it cost something even if no count comes. `trace`: hears of its way.
    """

    __slots__ = (
        "answer_size",
        "caller",
        "code",
        "grant",
        "grants",
        "headers",
        "prompt_size",
        "reason",
        "record",
        "request_id",
        "started",
        "status",
        "streamed",
        "trace",
        "worked",
    )

    def __init__(self, started: float, headers: Mapping[bytes, bytes], new_id: Callable[[], str], trace: Trace = NO_TRACE) -> None:
        self.started = started
        self.trace = trace
        self.headers = headers
        given = headers.get(b"x-request-id")
        self.request_id = given.decode() if given is not None and _TOKEN.fullmatch(given) else f"req-{new_id()}"
        self.record: Record | None = None
        self.caller = ANYONE
        self.grant: Grant | None = None
        self.grants: Sequence[Grant] = ()
        self.prompt_size = 0
        self.streamed = 0
        self.answer_size = 0
        self.worked = False
        self.status: int | None = None
        self.code: str | None = None
        self.reason: str | None = None

    @property
    def trace_id(self) -> str | None:
        """The trace that it belongs to, ours or one that the client has named: 32 hex digits."""
        return self.trace.id or trace_id_of(self.headers)

    def fail(self, status: int, code: str, reason: str | None = None) -> None:
        self.status, self.code, self.reason = status, code, reason or code

"""The seam for traces: what a request tells of its way, and what becomes of it where nothing is traced, which is nothing at all.

Which of the two it is, is decided once, when a gateway is built; whoever tells does not ask. The way that sends spans is `account.spans`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from backends.api import Header
from backends.retry import Outcome
from gateway.account.costs import Usage
from routers.api import Endpoint

if TYPE_CHECKING:
    from gateway.account.records import Decision
    from gateway.account.visit import Visit
    from gateway.flow.wire import Wire

TRACEPARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
"""W3C Trace Context, 3.2: version, trace, parent, flags."""

_TRACESTATE = re.compile(rb"[\x20-\x7e]{1,512}")


class AskSpan(Protocol):
    """One call to a backend. `headers`: name it to the backend as the parent of what happens there."""

    @property
    def headers(self) -> Sequence[Header]: ...

    def answered(self, seconds: float) -> None:
        """The first bytes of its answer are here, so long after it was sent."""

    def end(self, outcome: Outcome, usage: Usage | None) -> None:
        """It is over. `usage`: as the backend counted; None if it did not say."""


class Trace(Protocol):
    """One request. `id`: 32 hex digits; None where it is not traced."""

    @property
    def id(self) -> str | None: ...

    def deciding(self) -> None:
        """A decision is being made from now on."""

    def decided(self, decision: Decision) -> None:
        """It has been made."""

    def ask(self, model: str, served_as: str, backend: str, wire: Wire, purpose: str) -> AskSpan:
        """A backend is called. `backend`: its URL; `served_as`: its own name of the model. `purpose`: what a planner wants of it."""

    def relaying(self) -> None:
        """From now on the answer goes to the client."""

    def end(self, visit: Visit, endpoint: Endpoint) -> None:
        """The request is over, however it went."""


class Tracing(Protocol):
    """Begins traces. `dropped`: spans that were lost so far. Its length: spans that wait to be sent."""

    @property
    def dropped(self) -> int: ...

    def __len__(self) -> int: ...

    def begin(self, endpoint: Endpoint, headers: Mapping[bytes, bytes]) -> Trace:
        """A request has come. `headers`: the client's, with lower-case names."""

    def passed_on(self, headers: Mapping[bytes, bytes]) -> Sequence[Header]:
        """Of the client's headers those about its trace that go to the backend as they came."""


class _NoAsk:
    """A call that is not traced."""

    headers: Sequence[Header] = ()

    def answered(self, seconds: float) -> None:
        return None

    def end(self, outcome: Outcome, usage: Usage | None) -> None:
        return None


class _NoTrace:
    """A request that is not traced. One object stands for them all."""

    id: str | None = None

    def deciding(self) -> None:
        return None

    def decided(self, decision: Decision) -> None:
        return None

    def ask(self, model: str, served_as: str, backend: str, wire: Wire, purpose: str) -> AskSpan:
        return NO_ASK

    def relaying(self) -> None:
        return None

    def end(self, visit: Visit, endpoint: Endpoint) -> None:
        return None


NO_ASK: AskSpan = _NoAsk()
NO_TRACE: Trace = _NoTrace()


class NoTracing:
    """Nothing is traced. What clients say of their own traces goes on to the backends all the same."""

    dropped = 0

    def __len__(self) -> int:
        return 0

    def begin(self, endpoint: Endpoint, headers: Mapping[bytes, bytes]) -> Trace:
        return NO_TRACE

    def passed_on(self, headers: Mapping[bytes, bytes]) -> Sequence[Header]:
        traceparent = headers.get(b"traceparent")
        if traceparent is None or TRACEPARENT.fullmatch(traceparent) is None:
            return ()
        tracestate = headers.get(b"tracestate")
        if tracestate is None or _TRACESTATE.fullmatch(tracestate) is None:
            return ((b"traceparent", traceparent),)
        return ((b"traceparent", traceparent), (b"tracestate", tracestate))


def trace_id_of(headers: Mapping[bytes, bytes]) -> str | None:
    """The trace that a client says its request belongs to: 32 hex digits, or None."""
    traceparent = headers.get(b"traceparent")
    found = None if traceparent is None else TRACEPARENT.fullmatch(traceparent)
    return None if found is None else found[2].decode()

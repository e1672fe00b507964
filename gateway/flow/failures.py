"""An attempt that brought nothing: what it is called, and what the client is told in the end."""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from backends.retry import Outcome
from gateway.errors import GatewayError


class Failure(Struct, frozen=True):
    """Why an attempt brought nothing."""

    outcome: Outcome
    retry_after: float | None = None

    @property
    def label(self) -> str:
        """For metrics and records: how the attempt ended."""
        return str(self.outcome.status) if self.outcome.status is not None else str(self.outcome.kind)


class _Envelope(Struct):
    error: Raw = Raw(b"null")


_ENVELOPE = msgspec.json.Decoder(_Envelope)


def failure_in(content: bytes) -> Failure | None:
    """What is wrong with the first event of a stream, if anything."""
    if content == b"[DONE]":
        return None
    try:
        envelope = _ENVELOPE.decode(content)
    except msgspec.DecodeError:
        return Failure(Outcome(kind="invalid"))
    if bytes(envelope.error) == b"null":
        return None
    return Failure(Outcome(status=500))


def as_error(failure: Failure, late: bool) -> GatewayError:
    """The client's error when there is nothing left to try. `late`: the request's own deadline is over."""
    if late:
        return GatewayError("deadline_exceeded", "no answer within the request's max_latency_ms", param="router.max_latency_ms")
    status, kind = failure.outcome.status, failure.outcome.kind
    if status == 429:
        return GatewayError("overloaded", "every backend that may answer is at its limit", retry_after=failure.retry_after or 1)
    if status is not None:
        return GatewayError("upstream_error", f"the backend answered with status {status}", retry_after=failure.retry_after)
    if kind in ("connect_timeout", "first_byte_timeout", "idle_timeout", "total_timeout"):
        return GatewayError("upstream_timeout", f"the backend did not answer in time ({str(kind).replace('_', ' ')})")
    if kind == "invalid":
        return GatewayError("upstream_invalid", "the backend's answer is not one of an OpenAI-style server")
    return GatewayError("upstream_error", "the backend could not be reached or broke off before it answered")

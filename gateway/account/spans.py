"""Traces as OpenTelemetry has them: one span a request, and below it `decide`, one for each call to a backend, and `relay`.

Calls follow the semantic conventions for generative AI (client inference, status: development), whose names of them are `chat small`; they
say `pointsman.step: ask` as well. The request's own span follows those for HTTP servers. Nothing of a prompt or an answer is in a span
unless that is asked for, and never a header of the client.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from urllib.parse import urlsplit

import msgspec
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags, Tracer, TraceState
from opentelemetry.trace import set_span_in_context as within

from backends.api import Header
from backends.retry import Outcome
from gateway.account.costs import Usage
from gateway.account.records import Decision, Record
from gateway.account.span_queue import SpanQueue
from gateway.account.tracing import NO_ASK, TRACEPARENT, AskSpan, Trace
from gateway.account.visit import Visit
from gateway.flow.wire import Wire
from routers.api import Endpoint

PROVIDER = "vllm"
"""`gen_ai.provider.name`: the conventions know no name for a server of one's own, and let one be chosen."""

OPERATIONS: Mapping[Endpoint, str] = {"chat": "chat", "completions": "text_completion", "embeddings": "embeddings"}
PATHS: Mapping[Endpoint, str] = {"chat": "/v1/chat/completions", "completions": "/v1/completions", "embeddings": "/v1/embeddings"}
SHOWN_CHARACTERS = 32_768
"""Of a prompt, where prompts are shown."""

Attributes = dict[str, str | bool | int | float | Sequence[str] | Sequence[float]]
_SAYS = msgspec.json.Decoder(dict[str, msgspec.Raw])


class OtelTracing:
    """Begins traces whose spans `provider` makes and `queue` sends. `prompts`: what was asked stands in the spans of calls."""

    def __init__(self, provider: TracerProvider, queue: SpanQueue, prompts: bool) -> None:
        self._tracer = provider.get_tracer("pointsman")
        self._queue = queue
        self._prompts = prompts

    @property
    def dropped(self) -> int:
        return self._queue.dropped

    def __len__(self) -> int:
        return len(self._queue)

    async def aclose(self) -> None:
        """Sends what waits."""
        await self._queue.aclose()

    def begin(self, endpoint: Endpoint, headers: Mapping[bytes, bytes]) -> Trace:
        parent = read_parent(headers)
        context = Context() if parent is None else within(NonRecordingSpan(parent), Context())
        attributes: Attributes = {"http.request.method": "POST", "http.route": PATHS[endpoint], "url.path": PATHS[endpoint]}
        span = self._tracer.start_span(f"POST {PATHS[endpoint]}", context, SpanKind.SERVER, attributes)
        return _Sampled(self._tracer, span, self._prompts) if span.is_recording() else _Unsampled(span.get_span_context())

    def passed_on(self, headers: Mapping[bytes, bytes]) -> Sequence[Header]:
        """Nothing: each call names its own span to the backend."""
        return ()


class _Unsampled:
    """A request that was not drawn. Backends hear of its trace, and that it is not recorded."""

    id: str | None = None

    def __init__(self, context: SpanContext) -> None:
        self._ask = _Named(parent_headers(context))

    def deciding(self) -> None:
        return None

    def decided(self, decision: Decision) -> None:
        return None

    def ask(self, model: str, served_as: str, backend: str, wire: Wire, purpose: str) -> AskSpan:
        return self._ask

    def relaying(self) -> None:
        return None

    def end(self, visit: Visit, endpoint: Endpoint) -> None:
        return None


class _Named:
    """A call that has a name for the backend, and no span."""

    def __init__(self, headers: Sequence[Header]) -> None:
        self.headers = headers

    def answered(self, seconds: float) -> None:
        return None

    def end(self, outcome: Outcome, usage: Usage | None) -> None:
        return None


class _Sampled:
    """A request that is traced."""

    def __init__(self, tracer: Tracer, span: Span, prompts: bool) -> None:
        self._tracer = tracer
        self._span = span
        self._prompts = prompts
        self._within = within(span, Context())
        self._step: Span | None = None
        self.id: str | None = f"{span.get_span_context().trace_id:032x}"

    def deciding(self) -> None:
        self._step = self._tracer.start_span("decide", self._within)

    def decided(self, decision: Decision) -> None:
        if self._step is not None:
            self._step.set_attributes(_of_decision(decision))
            self._step.end()
            self._step = None

    def ask(self, model: str, served_as: str, backend: str, wire: Wire, purpose: str) -> AskSpan:
        if not self._span.is_recording():  # the request is over: a call that is late to hear of it
            return NO_ASK
        operation, (name, host, port) = OPERATIONS[wire.endpoint], _address(backend)
        attributes: Attributes = {
            "pointsman.step": "ask",
            "pointsman.backend": name,
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": PROVIDER,
            "gen_ai.request.model": model,
            "gen_ai.request.stream": wire.stream,
            "server.address": host,
            "server.port": port,
        }
        if wire.max_tokens is not None:
            attributes["gen_ai.request.max_tokens"] = wire.max_tokens
        if purpose:
            attributes["pointsman.purpose"] = purpose
        if self._prompts:
            attributes["gen_ai.input.messages"] = said(wire)
        span = self._tracer.start_span(f"{operation} {model}", self._within, SpanKind.CLIENT, attributes)
        return _Ask(span, served_as, wire.stream)

    def relaying(self) -> None:
        self._step = self._tracer.start_span("relay", self._within)

    def end(self, visit: Visit, endpoint: Endpoint) -> None:
        record = visit.record
        status = visit.status if record is None else record.status
        error = (visit.code if (visit.status or 0) >= 400 else None) if record is None else record.error
        span, step = self._span, self._step
        span.set_attributes({"pointsman.request_id": visit.request_id, "pointsman.caller": visit.caller.id})
        if status is not None:
            span.set_attribute("http.response.status_code", status)
        if record is not None:
            span.set_attributes(_of_record(record))
        if error is not None:
            span.set_attribute("error.type", error)
            if status is None or status >= 500 or status == 200:  # a client's own error is no failure of the server
                span.set_status(Status(StatusCode.ERROR, error))
        if step is not None:
            if error is not None:
                step.set_attribute("error.type", error)
                step.set_status(Status(StatusCode.ERROR, error))
            step.end()
        span.end()


class _Ask:
    """A call that is traced."""

    def __init__(self, span: Span, served_as: str, stream: bool) -> None:
        self._span = span
        self._served_as = served_as
        self._stream = stream
        self.headers = parent_headers(span.get_span_context())

    def answered(self, seconds: float) -> None:
        self._span.set_attribute("gen_ai.response.model", self._served_as)
        if self._stream:
            self._span.set_attribute("gen_ai.response.time_to_first_chunk", seconds)

    def end(self, outcome: Outcome, usage: Usage | None) -> None:
        span = self._span
        if usage is not None:
            _set_known(span, "gen_ai.usage.input_tokens", usage.prompt_tokens)
            _set_known(span, "gen_ai.usage.output_tokens", usage.completion_tokens)
            _set_known(span, "gen_ai.usage.cache_read.input_tokens", usage.cached_tokens)
            _set_known(span, "gen_ai.usage.reasoning.output_tokens", usage.reasoning_tokens)
        _set_known(span, "http.response.status_code", outcome.status)
        if outcome.cancelled:
            span.set_attribute("pointsman.cancelled", True)
        elif outcome.kind is not None or (outcome.status or 0) >= 400:
            kind = str(outcome.status) if outcome.kind is None else outcome.kind
            span.set_attribute("error.type", kind)
            span.set_status(Status(StatusCode.ERROR, outcome.text))
        span.end()


def _set_known(span: Span, name: str, value: int | None) -> None:
    if value is not None:
        span.set_attribute(name, value)


def _of_decision(decision: Decision) -> Attributes:
    choice = decision.choice
    found: Attributes = {
        "pointsman.decision_id": decision.id,
        "pointsman.model": choice.model,
        "pointsman.policy": choice.policy,
        "pointsman.reason": choice.reason,
        "pointsman.cache": decision.cache,
        "pointsman.candidates": [scored.name for scored in choice.ranking],
        "pointsman.scores": [scored.score for scored in choice.ranking],
    }
    if decision.route is not None:
        found["pointsman.route"] = decision.route
    if choice.rejected:
        found["pointsman.rejected"] = [f"{name}: {reason}" for name, reason in choice.rejected.items()]
    return found


def _of_record(record: Record) -> Attributes:
    """What a request came to. Tokens stand in the spans of its calls alone, so that no sum counts them twice."""
    decision = record.decision
    found: Attributes = {
        "pointsman.decision_id": decision.id,
        "pointsman.model": record.model or decision.choice.model,
        "pointsman.reason": decision.choice.reason,
        "pointsman.cache": decision.cache,
        "pointsman.attempts": len(record.attempts),
        "pointsman.stream": record.stream,
    }
    if decision.route is not None:
        found["pointsman.route"] = decision.route
    if record.cost_usd is not None:
        found["pointsman.cost_usd"] = record.cost_usd
    if record.overhead_seconds is not None:
        found["pointsman.overhead_seconds"] = record.overhead_seconds
    if record.planned is not None:
        found["pointsman.calls"] = record.planned.calls
    return found


@lru_cache(maxsize=1024)
def _address(backend: str) -> tuple[str, str, int]:
    """Of a backend's URL: its name in metrics, host and port."""
    parts = urlsplit(backend)
    return parts.netloc, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def read_parent(headers: Mapping[bytes, bytes]) -> SpanContext | None:
    """The span that the client names as the parent; None if it names none, or not as W3C Trace Context wants it."""
    traceparent = headers.get(b"traceparent")
    found = None if traceparent is None else TRACEPARENT.fullmatch(traceparent)
    if found is None or found[1] == b"ff":
        return None
    state = TraceState.from_header([headers.get(b"tracestate", b"").decode("latin-1")])
    context = SpanContext(int(found[2], 16), int(found[3], 16), True, TraceFlags(int(found[4], 16) & 3), state)
    return context if context.is_valid else None


def parent_headers(context: SpanContext) -> Sequence[Header]:
    """Names a span as the parent."""
    traceparent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}".encode()
    state = context.trace_state.to_header()
    return ((b"traceparent", traceparent), (b"tracestate", state.encode())) if state else ((b"traceparent", traceparent),)


def said(wire: Wire) -> str:
    """What a call asks, as `gen_ai.input.messages` has it: JSON. Of longer prompts the first SHOWN_CHARACTERS."""
    members = _SAYS.decode(b'{"model":null' + wire.tail)
    subject = members.get("messages") or members.get("prompt") or members.get("input") or msgspec.Raw(b"null")
    decoded = msgspec.json.decode(subject)
    messages = decoded if wire.endpoint == "chat" and isinstance(decoded, list) else [{"role": "user", "content": decoded}]
    left, shown = SHOWN_CHARACTERS, []
    for message in messages:
        content = message.get("content")
        text = content if isinstance(content, str) else "" if content is None else msgspec.json.encode(content).decode()
        shown.append({"role": str(message.get("role")), "parts": [{"type": "text", "content": text[:left]}]})
        left -= len(text)
        if left <= 0:
            break
    return msgspec.json.encode(shown).decode()

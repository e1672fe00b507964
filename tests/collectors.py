"""An OpenTelemetry collector in the test's own loop: it takes OTLP over HTTP, and keeps what it was sent."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Sent

Mood = Literal["takes", "hangs", "refuses"]
KINDS = {Sent.SPAN_KIND_INTERNAL: "internal", Sent.SPAN_KIND_SERVER: "server", Sent.SPAN_KIND_CLIENT: "client"}


@dataclass(frozen=True)
class Seen:
    """A span as the collector has it. Ids are hex digits; `parent` is empty for the first one of a trace. `error`: its status."""

    name: str
    kind: str
    trace: str
    id: str
    parent: str
    state: str
    start: int
    end: int
    error: bool
    says: Mapping[str, Any]


@dataclass
class Collector:
    """`raw`: every body that came. `headers`: of the last request. `mood`: what it does with the next one."""

    port: int = 0
    mood: Mood = "takes"
    spans: list[Seen] = field(default_factory=list)
    resource: dict[str, Any] = field(default_factory=dict)
    raw: list[bytes] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def named(self, name: str) -> list[Seen]:
        """Spans of that name, in the order in which they began."""
        return sorted((span for span in self.spans if span.name == name), key=lambda span: span.start)

    def below(self, parent: Seen) -> list[Seen]:
        """The children of a span, in the order in which they began."""
        return sorted((span for span in self.spans if span.parent == parent.id), key=lambda span: span.start)

    def roots(self) -> list[Seen]:
        """The requests' own spans."""
        return sorted((span for span in self.spans if span.kind == "server"), key=lambda span: span.start)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.headers = dict(re.findall(r"(?m)^([\w-]+): *(.*?)\r$", head.decode().lower()))
                body = await reader.readexactly(int(self.headers["content-length"]))
                if self.mood == "hangs":
                    await asyncio.sleep(3600)
                status = b"200 OK" if self.mood == "takes" else b"400 Bad Request"
                if self.mood == "takes":
                    assert head.startswith(b"POST /v1/traces ")
                    self._keep(body)
                said = ExportTraceServiceResponse().SerializeToString()
                writer.write(b"HTTP/1.1 " + status + b"\r\ncontent-length: %d\r\n\r\n" % len(said) + said)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _keep(self, body: bytes) -> None:
        self.raw.append(body)
        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resource = _pairs(group.resource.attributes)
            for scope in group.scope_spans:
                self.spans += [_seen(span) for span in scope.spans]


def _seen(span: Sent) -> Seen:
    ids = (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex())
    failed = span.status.code == span.status.STATUS_CODE_ERROR
    times = (span.start_time_unix_nano, span.end_time_unix_nano)
    return Seen(span.name, KINDS[span.kind], *ids, span.trace_state, *times, failed, _pairs(span.attributes))


def _pairs(pairs: Sequence[Any]) -> dict[str, Any]:
    return {pair.key: _plain(pair.value) for pair in pairs}


def _plain(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    return [_plain(one) for one in value.array_value.values] if kind == "array_value" else getattr(value, kind or "string_value")


@asynccontextmanager
async def collector(mood: Mood = "takes") -> AsyncIterator[Collector]:
    """A collector that listens."""
    found = Collector(mood=mood)
    tasks: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with suppress(asyncio.CancelledError):
            await found.answer(reader, writer)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    found.port = server.sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

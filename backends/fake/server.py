"""The fake's HTTP server, on bare asyncio protocols: faults need the socket itself."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from random import Random
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import httptools

from backends.fake.engine import Engine, Latency
from backends.fake.faults import Schedule, Scheduled
from backends.fake.residency import Residency
from backends.fake.shapes import Character

MAX_BODY_BYTES = 64 * 1024 * 1024
MAX_RECORDS = 10_000
RECORDED_BYTES = 65_536
SERVER = "pointsman-fake-vllm"


@dataclass(slots=True)
class Record:
    """What the server saw of one request. `peer_closed_at_chunk`: chunks sent when the client left; None if it stayed."""

    id: int
    method: str
    path: str
    headers: dict[str, str]
    body: str
    started: float
    stream: bool = False
    chunks_sent: int = 0
    bytes_sent: int = 0
    finished: bool = False
    peer_closed_at_chunk: int | None = None
    closed_after_s: float | None = None
    fault: str | None = None


@dataclass(slots=True)
class Counters:
    """What `/metrics` counts."""

    prompt_tokens: int = 0
    generation_tokens: int = 0
    requests: dict[str, int] = field(default_factory=dict)


class Sleeper:
    """Sleep mode. `sleeping`: parts that are not in GPU memory. `naps`: how often running requests were aborted for it.

    `lost_weights`: level 2 threw them away, and they were not read again. `quiet`: set while the engine works on nothing.
    """

    def __init__(self, level: int) -> None:
        self.level = level
        self.sleeping = {"weights", "kv_cache"} if level else set()
        self.lost_weights = level == 2
        self.naps = 0
        self.awake = asyncio.Event()
        if not level:
            self.awake.set()
        self.quiet = asyncio.Event()
        self.quiet.set()
        self._working = 0

    @contextmanager
    def works(self) -> Iterator[None]:
        """The engine works on a request."""
        self._working += 1
        self.quiet.clear()
        try:
            yield
        finally:
            self._working -= 1
            if not self._working:
                self.quiet.set()


class Request:
    """One request as parsed."""

    __slots__ = ("body", "headers", "keep_alive", "method", "path", "query")

    def __init__(self) -> None:
        self.method = ""
        self.path = ""
        self.query: Mapping[str, list[str]] = {}
        self.headers: dict[str, str] = {}
        self.body = b""
        self.keep_alive = True

    def json(self) -> Any:
        return json.loads(self.body or b"{}")


Answerer = Callable[["FakeServer", "Connection", Request], Awaitable[None]]


class FakeServer:
    """A fake vLLM server for one or several model names. Used in a test's own loop, or by `pointsman fake-vllm`.

    `free`: while it is cleared, nothing is answered, not even a health check. `adapter_calls`: that wait, and that run, by adapter.
    """

    def __init__(
        self,
        characters: Sequence[Character],
        answer: Answerer,
        *,
        latency: Latency | None = None,
        faults: Sequence[Scheduled] = (),
        seed: int = 0,
        clock: Callable[[], float] = time.monotonic,
        api_key: str | None = None,
        residency: Residency | None = None,
    ) -> None:
        self.characters = {character.name: character for character in characters}
        self.adapters: dict[str, str] = {}
        self.adapter_paths: dict[str, str] = {}
        self.adapter_calls: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
        self._answer = answer
        self.clock = clock
        self.api_key = api_key
        self.engine = Engine(latency or Latency(), clock)
        self.schedule = Schedule(faults, Random(seed))
        self.records: deque[Record] = deque(maxlen=MAX_RECORDS)
        self.counters = Counters()
        self.residency = residency or Residency()
        self.sleeper = Sleeper(self.residency.level)
        self.free = asyncio.Event()
        self.free.set()
        self.booted = clock()
        self.url = ""
        self._count = 0
        self._server: asyncio.Server | None = None
        self.connections: set[Connection] = set()

    @property
    def name(self) -> str:
        """The first model's name."""
        return next(iter(self.characters))

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Listens, and returns the base URL, such as http://127.0.0.1:8000/v1."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self, self._answer), host, port, backlog=1024)
        self.booted = self.clock()
        bound = self._server.sockets[0].getsockname()[1]
        self.url = f"http://{host}:{bound}/v1"
        return self.url

    async def stop(self) -> None:
        """Closes the listener and every connection."""
        if self._server is not None:
            self._server.close()
        for connection in tuple(self.connections):
            connection.abort()
        await asyncio.sleep(0)

    def record(self, request: Request) -> Record:
        self._count += 1
        body = request.body[:RECORDED_BYTES].decode(errors="replace")
        record = Record(self._count, request.method, request.path, dict(request.headers), body, self.clock())
        self.records.append(record)
        return record

    def documents(self) -> list[dict[str, Any]]:
        """The records as JSON shows them."""
        return [asdict(record) for record in self.records]


class Connection(asyncio.Protocol):
    """One client connection: parses requests, answers them one after the other, and stops when the peer leaves."""

    def __init__(self, server: FakeServer, answer: Answerer) -> None:
        self.server = server
        self._answer = answer
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._request = Request()
        self._body: list[bytes] = []
        self._waiting: deque[Request] = deque()
        self._task: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self.closed = False
        self.record: Record | None = None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.server.connections.add(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            self.close()

    def eof_received(self) -> bool:
        self._peer_left()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._peer_left()
        self.server.connections.discard(self)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def _peer_left(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._writable.set()
        record = self.record
        if record is not None and not record.finished:
            record.peer_closed_at_chunk = record.chunks_sent
            record.closed_after_s = self.server.clock() - record.started
        if self._task is not None:
            self._task.cancel()

    # httptools

    def on_message_begin(self) -> None:
        self._request = Request()
        self._body = []

    def on_url(self, url: bytes) -> None:
        parts = urlsplit(url.decode("latin-1"))
        self._request.path = parts.path
        self._request.query = parse_qs(parts.query)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._request.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._request.method = self._parser.get_method().decode()

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        self._request.body = b"".join(self._body)
        self._request.keep_alive = self._parser.should_keep_alive()
        self._waiting.append(self._request)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        while self._waiting and not self.closed:
            request = self._waiting.popleft()
            await self.server.free.wait()
            await self._answer(self.server, self, request)
            if not request.keep_alive:
                self.close()
        self._task = None

    # What answers are made of.

    def write(self, data: bytes) -> None:
        if self._transport is not None and not self.closed:
            self._transport.write(data)
            if self.record is not None:
                self.record.bytes_sent += len(data)

    async def drained(self) -> None:
        """Waits while the peer does not read."""
        await self._writable.wait()

    def respond(self, status: int, body: bytes, media: str = "application/json", headers: Sequence[tuple[str, str]] = ()) -> None:
        """A whole answer."""
        lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Status')}", f"server: {SERVER}", f"content-type: {media}"]
        lines += [f"{name}: {value}" for name, value in headers]
        if status != 204:
            lines.append(f"content-length: {len(body)}")
        self.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)

    def respond_json(self, document: Any, status: int = 200, headers: Sequence[tuple[str, str]] = ()) -> None:
        self.respond(status, json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode(), headers=headers)

    def begin_stream(self) -> None:
        """The head of a streamed answer."""
        head = (
            f"HTTP/1.1 200 OK\r\nserver: {SERVER}\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        self.write(head.encode())

    def chunk(self, data: bytes) -> None:
        """One chunk of the body, in one write."""
        self.write(b"%x\r\n" % len(data) + data + b"\r\n")
        if self.record is not None:
            self.record.chunks_sent += 1

    def end_stream(self) -> None:
        self.write(b"0\r\n\r\n")

    def close(self) -> None:
        """FIN after what was written."""
        if self._transport is not None:
            self._finish()
            self._transport.close()

    def reset(self) -> None:
        """RST at once."""
        if self._transport is not None:
            self._finish()
            raw = self._transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _finish(self) -> None:
        self.closed = True
        if self.record is not None:
            self.record.finished = True


_REASONS = {
    200: "OK",
    204: "No Content",
    302: "Found",
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    405: "Method Not Allowed",
}
_REASONS |= {408: "Request Timeout", 413: "Payload Too Large", 422: "Unprocessable Entity", 429: "Too Many Requests"}
_REASONS |= {500: "Internal Server Error", 502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout"}

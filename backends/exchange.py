"""One HTTP/1.1 request and its response, parsed by llhttp."""

from __future__ import annotations

import asyncio
from typing import Protocol

import httptools

from backends.api import BackendError, Call, ConnectionLost, FailureKind, Header, InvalidResponse, Take, TimedOut

MAX_HEAD_BYTES = 64 * 1024
PAUSE_AT_BYTES = 256 * 1024


class Line(Protocol):
    """The connection, as an exchange needs it."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def abort(self) -> None: ...

    def answered(self, keep_alive: bool) -> None: ...


class Exchange:
    """One request and its response on a connection. The parser calls its `on_…` methods; it is the `Response` that callers read."""

    __slots__ = (
        "_body_seen",
        "_buffered",
        "_chunks",
        "_complete",
        "_connection",
        "_delimited",
        "_error",
        "_head_bytes",
        "_head_done",
        "_last",
        "_parser",
        "_paused",
        "_sent",
        "_started",
        "_take",
        "_timeouts",
        "_waiter",
        "headers",
        "status",
    )

    def __init__(self, connection: Line, call: Call, started: float, now: float) -> None:
        self.status = 0
        self.headers: list[Header] = []
        self._connection = connection
        self._timeouts = call.timeouts
        self._started = started
        self._sent = self._last = now
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[None] | None = None
        self._take: Take | None = None
        self._chunks: list[bytes] = []
        self._buffered = 0
        self._head_bytes = 0
        self._head_done = self._body_seen = self._complete = self._paused = self._delimited = False
        self._error: BackendError | None = None

    # What the caller does.

    async def head(self) -> None:
        """Waits for status and headers."""
        while not self._head_done:
            if self._error is not None:
                raise self._error
            await self._turn()

    async def read(self) -> bytes:
        while not self._chunks:
            if self._complete:
                return b""
            if self._error is not None:
                raise self._error
            await self._turn()
        return self._taken()

    async def pour(self, take: Take) -> bool:
        while True:
            if self._chunks:
                if not take(self._taken()):
                    return True
            elif self._complete:
                return False
            elif self._error is not None:
                raise self._error
            else:
                self._take = take
                try:
                    await self._turn()
                    if self._take is None:
                        return True
                finally:
                    self._take = None

    def _taken(self) -> bytes:
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._buffered = 0
        if self._paused:
            self._paused = False
            self._connection.resume()
        return data

    def close(self) -> None:
        self._chunks.clear()
        if not self._complete and self._error is None:
            self._error = ConnectionLost("lost", "closed by the gateway")
            self._connection.abort()
            self._wake()

    def _turn(self) -> asyncio.Future[None]:
        """Done when something has come."""
        self._waiter = waiter = self._connection.loop.create_future()
        return waiter

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # What the connection tells.

    def feed(self, data: bytes, now: float) -> None:
        self._last = now
        if not self._head_done:
            self._head_bytes += len(data)
        parser = self._parser
        if parser is None:
            return
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.fail(InvalidResponse("invalid", "the backend's answer is not HTTP/1.1"))
        if not self._head_done and self._head_bytes > MAX_HEAD_BYTES:
            self.fail(InvalidResponse("invalid", f"the response head exceeds {MAX_HEAD_BYTES} bytes"))
        if self._complete:
            self._parser = None  # the parser and this hold each other: left so, every call would be a cycle for the collector
        if self._take is not None and self._chunks:
            if not self._take(self._taken()):
                self._take = None
            elif not self._complete and self._error is None:
                return  # whoever waits need not wake up for this: half the time that a chunk takes
        elif self._buffered > PAUSE_AT_BYTES and not self._paused and not self._complete:
            self._paused = True
            self._connection.pause()
        self._wake()

    def ended(self, reused: bool) -> None:
        """The peer closed. The end of a body that nothing else delimits; otherwise a loss."""
        if self._complete or self._error is not None:
            return
        if self._head_done and not self._delimited:
            self._complete = True
        elif reused and not self._head_bytes:
            self._error = ConnectionLost("stale", "a kept-alive connection closed as the request was sent")
        elif self._head_done:
            self._error = ConnectionLost("lost", "the backend closed the connection amid its answer")
        else:
            self._error = ConnectionLost("lost", "the backend closed the connection before it answered")
        self._wake()

    def fail(self, error: BackendError) -> None:
        if self._complete or self._error is not None:
            return
        self._error = error
        self._parser = None
        self._connection.abort()
        self._wake()

    def check(self, now: float) -> None:
        """Called by the timer: is one of the timeouts over? A reader that is slow itself is not held against the backend."""
        limits = self._timeouts
        if now - self._started > limits.total:
            self._time_out("total_timeout", limits.total)
        elif not self._body_seen:
            if now - self._sent > limits.first_byte:
                self._time_out("first_byte_timeout", limits.first_byte)
        elif self._waiter is not None and now - self._last > limits.idle:
            self._time_out("idle_timeout", limits.idle)

    def _time_out(self, kind: FailureKind, seconds: float) -> None:
        self.fail(TimedOut(kind, f"{kind.replace('_', ' ')} after {seconds:g} s"))

    # What the parser finds.

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head_done:
            return  # a trailer
        name = name.lower()
        if name in (b"content-length", b"transfer-encoding"):
            self._delimited = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        self.status = self._parser.get_status_code()
        if self.status >= 200:
            self._head_done = True
            self._delimited = self._delimited or self.status in (204, 304)

    def on_body(self, body: bytes) -> None:
        self._body_seen = True
        self._chunks.append(body)
        self._buffered += len(body)

    def on_message_begin(self) -> None:
        if self._complete:
            self._connection.abort()  # an answer that nobody asked for

    def on_message_complete(self) -> None:
        if self.status < 200:
            self.headers.clear()
            self._delimited = False
            return
        assert self._parser is not None
        self._complete = True
        self._connection.answered(self._parser.should_keep_alive())

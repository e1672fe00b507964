"""One HTTP request as it came in, and the answer that goes back: whole in one write, or as a stream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Protocol
from urllib.parse import unquote

import httptools

from backends.api import Header
from gateway.errors import ClientGone, GatewayError

HIGH_WATER = 65_536
"""More of a body than this is not read before somebody asks for it."""
_LINE = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_BODILESS = (204, 304)


class Carrier(Protocol):
    """The connection, as a request on it needs it."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...

    @property
    def stamp(self) -> bytes:
        """Header lines that go with every answer."""

    @property
    def jammed(self) -> bool:
        """Whether the client has yet to take what was written."""

    def write(self, data: bytes) -> None: ...

    async def drain(self) -> None:
        """Returns when the client takes more, or is gone."""

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def answered(self) -> None:
        """The answer is out."""


class Inbound:
    """A request. `target`: as its first line has it. `headers`: the last of each name, in lower case; `fields`: all, in order.

    `keep_alive`: whether the connection can take another request. `whole`: its body has come. `started`, `complete`: of the answer.
    `gone`: the client has left; `on_gone` is called when that happens.
    """

    __slots__ = (
        "_body",
        "_buffered",
        "_carrier",
        "_chunked",
        "_headers",
        "_held",
        "_left",
        "_paused",
        "_waiter",
        "complete",
        "expects_continue",
        "fields",
        "gone",
        "keep_alive",
        "method",
        "on_gone",
        "started",
        "target",
        "version",
        "whole",
    )

    def __init__(self, carrier: Carrier) -> None:
        self._carrier = carrier
        self._headers: dict[bytes, bytes] | None = None
        self._body: list[bytes] = []
        self._buffered = 0
        self._paused = self._chunked = False
        self._held = b""
        self._left: int | None = None
        self._waiter: asyncio.Future[None] | None = None
        self.fields: list[Header] = []
        self.method = self.target = b""
        self.version = "1.1"
        self.keep_alive = True
        self.expects_continue = self.whole = self.started = self.complete = self.gone = False
        self.on_gone: Callable[[], None] | None = None

    @property
    def headers(self) -> Mapping[bytes, bytes]:
        if self._headers is None:
            self._headers = dict(self.fields)
        return self._headers

    @property
    def jammed(self) -> bool:
        """Whether the client has yet to take what was written."""
        return self._carrier.jammed

    def url(self) -> tuple[str, bytes, bytes]:
        """The path, decoded and as it came, and the query. Raises GatewayError."""
        try:
            parsed = httptools.parse_url(self.target)
            raw = parsed.path or b"/"
            return unquote(raw.decode("ascii")), raw, parsed.query or b""
        except (httptools.HttpParserInvalidURLError, UnicodeDecodeError):
            raise GatewayError("invalid_value", "the request's target is no path") from None

    # The request's body.

    async def read(self) -> bytes:
        """The next bytes of the body, b"" at its end. Raises ClientGone."""
        while not self._body:
            if self.gone:
                raise ClientGone
            if self.whole:
                return b""
            await self._more()
        data = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body.clear()
        self._buffered = 0
        return data

    async def _more(self) -> None:
        if self.expects_continue:
            self.expects_continue = False
            self._carrier.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self._paused:
            self._paused = False
            self._carrier.resume()
        await self._wait()

    async def _wait(self) -> None:
        self._waiter = waiter = self._carrier.loop.create_future()
        try:
            await waiter
        finally:
            self._waiter = None

    def feed(self, data: bytes) -> None:
        """More of the body has come. Once there is an answer, nobody wants it."""
        if self.complete:
            return
        self.expects_continue = False
        self._body.append(data)
        self._buffered += len(data)
        if self._waiter is not None:
            self._wake()
        elif self._buffered > HIGH_WATER and not self._paused:
            self._paused = True
            self._carrier.pause()

    def end(self) -> None:
        """The body has come."""
        self.whole = True
        if self._waiter is not None:
            self._wake()

    def leave(self) -> None:
        """The client is gone."""
        self.gone = True
        if self._waiter is not None:
            self._wake()
        if self.on_gone is not None:
            self.on_gone()

    async def left(self) -> None:
        """Returns when the client is gone, or has its answer."""
        while not self.gone and not self.complete:
            await self._wait()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # The answer.

    def respond(self, status: int, headers: Sequence[Header], body: bytes) -> None:
        """A whole answer, in one write."""
        if self.gone or self.started:
            return
        self.started = True
        head = self._head(status, [*headers, (b"content-length", b"%d" % len(body))], None)
        self._carrier.write(head if self._is_bodiless(status) else head + body)
        self._finish()

    def begin(self, status: int, headers: Sequence[Header], size: int | None = None) -> None:
        """The head of an answer whose body follows; it goes out with the body's first part, in one write.

        `size`: of that body, bytes; None if it is not known yet.
        """
        if self.gone or self.started:
            return
        self.started = True
        self._left = size
        self._chunked = size is None and self.version == "1.1" and not self._is_bodiless(status)
        if size is None and not self._chunked:
            self.keep_alive = self._is_bodiless(status) and self.keep_alive
        self._held = self._head(status, headers, size)

    async def drain(self) -> None:
        """Returns when the client takes more, or is gone."""
        await self._carrier.drain()

    def put(self, data: bytes, more: bool = True) -> None:
        """A part of the body, and whether `more` will follow. Wait with `drain` before it, or what was not taken piles up."""
        if self.gone or self.complete:
            return
        if self.method == b"HEAD":
            data = b""
        elif self._chunked:
            if data:
                data = b"%x\r\n" % len(data) + data + (b"\r\n" if more else b"\r\n0\r\n\r\n")
            elif not more:
                data = b"0\r\n\r\n"
        elif self._left is not None:
            self._left -= len(data)
            if self._left < 0 or (self._left and not more):
                raise ValueError("the answer's body is not as long as its head says")
        if self._held:
            data, self._held = self._held + data, b""
        if data:
            self._carrier.write(data)
        if not more:
            self._finish()

    def _finish(self) -> None:
        self.complete = True
        self._body.clear()
        self._wake()
        self._carrier.answered()

    def _is_bodiless(self, status: int) -> bool:
        return self.method == b"HEAD" or status in _BODILESS

    def _head(self, status: int, headers: Sequence[Header], size: int | None) -> bytes:
        stamp = self._carrier.stamp
        parts = [_LINE[status], stamp]
        for name, value in headers:
            parts += (name, b": ", value, b"\r\n")
        lines = 2 + stamp.count(b"\n") + len(headers)
        if size is not None:
            parts.append(b"content-length: %d\r\n" % size)
            lines += 1
        elif self._chunked:
            parts.append(b"transfer-encoding: chunked\r\n")
            lines += 1
        if not self.keep_alive:
            parts.append(b"connection: close\r\n")
            lines += 1
        parts.append(b"\r\n")
        head = b"".join(parts)
        if head.count(b"\n") != lines or head.count(b"\r") != lines or b"\0" in head:
            raise ValueError("a header of the answer holds a line break")
        return head

"""HTTP/1.1 calls to one backend over a pool of kept-alive connections: asyncio protocols and llhttp, nothing in between."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import deque
from typing import cast
from urllib.parse import urlsplit

from backends.api import (
    Call,
    ConnectError,
    Response,
    TimedOut,
    root_path,
)
from backends.deadlines import Deadlines
from backends.exchange import PAUSE_AT_BYTES, Exchange
from backends.places import Places

# vLLM's server drops idle connections after 5 s: giving them up earlier means that a request hardly ever meets a closing one.
IDLE_SECONDS = 4.0
MOST_LINES = 64
"""So many first lines of requests are remembered."""


class Connection(asyncio.Protocol):
    """One socket of the pool. Carries one exchange at a time."""

    __slots__ = ("_pool", "_transport", "closed", "exchange", "idle_since", "loop", "used")

    def __init__(self, pool: Http1Transport) -> None:
        self._pool = pool
        self.loop = pool.loop
        self._transport: asyncio.Transport | None = None
        self.exchange: Exchange | None = None
        self.idle_since = 0.0
        self.used = False
        self.closed = False

    def start(self, call: Call, head: bytes, started: float) -> Exchange:
        self.exchange = exchange = Exchange(self, call, started, time.monotonic())
        assert self._transport is not None
        if len(call.body) < PAUSE_AT_BYTES:
            self._transport.write(head + call.body)
        else:
            self._transport.writelines((head, call.body))
        return exchange

    def answered(self, keep_alive: bool) -> None:
        """The exchange is complete: the connection is free, unless the peer wants it closed."""
        exchange, self.exchange = self.exchange, None
        self.used = True
        if exchange is not None:
            self._pool.release(exchange, self if keep_alive and not self.closed else None)
        if not keep_alive:
            self.abort()

    def pause(self) -> None:
        if self._transport is not None and not self.closed:
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None and not self.closed:
            self._transport.resume_reading()

    def abort(self) -> None:
        """Closes the socket at once and gives the exchange's place in the pool back."""
        self.closed = True
        if self._transport is not None:
            self._transport.abort()
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            self._pool.release(exchange, None)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class is none of asyncio's

    def data_received(self, data: bytes) -> None:
        if self.exchange is None:
            self.abort()
        else:
            self.exchange.feed(data, time.monotonic())

    def eof_received(self) -> bool:
        self.connection_lost(None)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.ended(self.used)
            self._pool.release(exchange, None)


class Http1Transport:
    """The default transport (`backends.api.Transport`): up to `max_connections` at once to the server of one URL.

    `url`: http:// or https://, its path is put before the path of each call. Raises ValueError for any other URL.
    """

    def __init__(
        self, url: str, *, deadlines: Deadlines | None = None, max_connections: int = 1024, tls: ssl.SSLContext | None = None
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"not an http(s) URL: {url!r}")
        self._host, self._path = parts.hostname, parts.path.rstrip("/").encode("ascii")
        self._root = root_path(parts.path).encode("ascii")
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = (tls or ssl.create_default_context()) if parts.scheme == "https" else None
        self._host_line = (
            b"\r\nhost: " + parts.netloc.rpartition("@")[2].encode("idna" if not parts.netloc.isascii() else "ascii") + b"\r\n"
        )
        self._deadlines = Deadlines() if deadlines is None else deadlines
        self._places = Places(max_connections)
        self._first_lines: dict[tuple[str, bool, str], bytes] = {}
        self._idle: deque[Connection] = deque()
        self._open: set[Exchange] = set()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return self._deadlines.loop

    async def send(self, call: Call) -> Response:
        started = time.monotonic()
        if not self._places.take():
            await self._wait_for_place(call.timeouts.connect)
        connection = self._take(started)
        if connection is None:
            connection = await self._connect_in_place(call.timeouts.connect)
        exchange = connection.start(call, self._head(call), started)
        self._open.add(exchange)
        self._deadlines.watch(exchange)
        try:
            await exchange.head()
        except asyncio.CancelledError:
            exchange.close()
            raise
        return exchange

    async def aclose(self) -> None:
        for exchange in tuple(self._open):
            exchange.close()
        for connection in self._idle:
            connection.abort()
        self._idle.clear()

    def release(self, exchange: Exchange, connection: Connection | None) -> None:
        """An exchange is over; `connection` is free for the next one, or None if it is gone."""
        if exchange not in self._open:
            return
        self._open.discard(exchange)
        self._deadlines.forget(exchange)
        self._places.leave()
        if connection is not None:
            connection.idle_since = time.monotonic()
            self._idle.append(connection)

    def _take(self, now: float) -> Connection | None:
        """The connection that was used last, if there is one. Those that have been idle for too long are closed, the oldest first: else
        the few that a quiet time takes again and again would keep the many of a busy one open.
        """
        idle = self._idle
        while idle and (idle[0].closed or now - idle[0].idle_since >= IDLE_SECONDS):
            idle.popleft().abort()
        while idle:
            connection = idle.pop()
            if not connection.closed:
                return connection
        return None

    async def _wait_for_place(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._places.wait()
        except TimeoutError:
            raise TimedOut("connect_timeout", f"no free connection within {seconds:g} s") from None

    async def _connect_in_place(self, seconds: float) -> Connection:
        try:
            return await self._connect(seconds)
        except BaseException:
            self._places.leave()
            raise

    async def _connect(self, seconds: float) -> Connection:
        try:
            async with asyncio.timeout(seconds):
                _, connection = await self.loop.create_connection(lambda: Connection(self), self._host, self._port, ssl=self._tls)
        except TimeoutError:
            raise TimedOut("connect_timeout", f"no connection within {seconds:g} s") from None
        except (OSError, UnicodeError) as error:
            raise ConnectError("connect", f"cannot connect: {error.__class__.__name__}") from error
        return connection

    def _head(self, call: Call) -> bytes:
        line = (call.method, call.from_root, call.path)
        first = self._first_lines.get(line)
        if first is None:
            base = self._root if call.from_root else self._path
            first = b"".join((call.method.encode(), b" ", base, call.path.encode("ascii"), b" HTTP/1.1", self._host_line))
            if len(self._first_lines) < MOST_LINES:
                self._first_lines[line] = first
        lines = [first]
        for name, value in call.headers:
            lines += (name, b": ", value, b"\r\n")
        if call.body or call.method != "GET":
            lines.append(b"content-length: %d\r\n" % len(call.body))
        lines.append(b"\r\n")
        return b"".join(lines)

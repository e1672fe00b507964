"""A client's connection: HTTP/1.1, parsed by llhttp. It stands where uvicorn's own protocol would, and takes one request at a time.

uvicorn's makes a cycle, an event and some dicts for each request, sends the head and the body by themselves, and looks at every header
twice: that was a quarter of a cached request's time. It also bounds neither heads nor slow clients (Slowloris; RFC 9112, 9.5).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol

import httptools
import uvicorn

from backends.api import Header
from gateway.errors import GatewayError
from gateway.sections.server import ServerSection
from gateway.serving.inbound import Inbound
from gateway.serving.patience import LINGER_BYTES, Patience

_END_OF_HEAD = b"\r\n\r\n"
Serve = Callable[[Inbound], Awaitable[None]]


class Unacceptable(Exception):
    """A head that is beyond the bounds."""


class State(Protocol):
    """What uvicorn keeps of all connections."""

    connections: set[object]
    tasks: set[asyncio.Task[None]]
    default_headers: list[Header]
    total_requests: int


class House:
    """What all connections share. `serve`: answers a request. `section`: the settings in force. `leaving`: no connection is to be kept."""

    def __init__(self, serve: Serve, section: Callable[[], ServerSection], leaving: Callable[[], bool]) -> None:
        self.serve = serve
        self.section = section
        self.leaving = leaving
        self._stamped_for: list[Header] | None = None
        self._stamp = b""

    def stamp(self, headers: list[Header]) -> bytes:
        """Headers that go with every answer, as lines. uvicorn makes a new list when the date has changed."""
        if headers is not self._stamped_for:
            self._stamped_for = headers
            self._stamp = b"".join(b"%s: %s\r\n" % header for header in headers)
        return self._stamp


class Connection(asyncio.Protocol):
    """One client. `current`: the request that is being answered, or was last; those behind it wait in line, unread as far as possible.

    `task`: answers it, or waits for `turn` to come with the next one.
    """

    __slots__ = (
        "_current",
        "_deaf",
        "_house",
        "_line",
        "_parser",
        "_paused",
        "_reading",
        "_state",
        "_task",
        "_transport",
        "_turn",
        "_writable",
        "loop",
        "patience",
        "write",
    )

    def __init__(self, house: House, state: State, keep_alive_seconds: float) -> None:
        self._house = house
        self._state = state
        self.loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self.write: Callable[[bytes], None]
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        # A second request behind one that said `connection: close` is no error: it is not answered.
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._current: Inbound | None = None
        self._reading: Inbound | None = None
        self._line: deque[Inbound] = deque()
        self._writable: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._turn: asyncio.Future[None] | None = None
        self._deaf = self._paused = False
        self.patience = Patience(keep_alive_seconds)

    @property
    def transport(self) -> asyncio.Transport:
        assert self._transport is not None
        return self._transport

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        return self._current is not None and not self._current.complete

    # As a request needs it.

    @property
    def stamp(self) -> bytes:
        return self._house.stamp(self._state.default_headers)

    @property
    def jammed(self) -> bool:
        return self._writable is not None

    async def drain(self) -> None:
        if self._writable is not None:
            await asyncio.shield(self._writable)

    def pause(self) -> None:
        if not self._paused:
            self._paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        if self._paused and not self.transport.is_closing():
            self._paused = False
            self.transport.resume_reading()

    def answered(self) -> None:
        current = self._current
        assert current is not None
        self._state.total_requests += 1
        self.patience.answered()
        if not current.keep_alive:
            self.transport.close()
        elif not self.transport.is_closing():
            self.resume()
            if self._line:
                self._start(self._line.popleft())

    def be_last(self) -> None:
        """The request that is being answered is the last one of this connection."""
        if self.busy and self._current is not None:
            self._current.keep_alive = False

    def shutdown(self) -> None:
        """Closes as soon as no answer is on its way."""
        if self.busy:
            self.be_last()
        else:
            self.transport.close()

    def is_late(self, now: float) -> bool:
        """Whether what is awaited should be here by now, or what was written be taken. Called now and then."""
        left, closing = self.transport.get_write_buffer_size(), self.transport.is_closing()
        return self.patience.is_late(now, self._house.section(), left, self.busy, closing)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # uvloop's own class is none of asyncio's
        self.write = self.transport.write
        self._state.connections.add(self)
        self.patience.expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._state.connections.discard(self)
        self._line.clear()
        self._parser = None  # the parser and this hold each other
        self.resume_writing()
        if self._current is not None and not self._current.complete:
            self._current.leave()
        self._current = self._reading = None  # each holds this
        turn, self._turn = self._turn, None
        if turn is not None and not turn.done():
            turn.set_result(None)
        if exc is None:
            self.transport.close()

    def pause_writing(self) -> None:
        if self._writable is None:
            self._writable = self.loop.create_future()

    def resume_writing(self) -> None:
        writable, self._writable = self._writable, None
        if writable is not None and not writable.done():
            writable.set_result(None)

    def data_received(self, data: bytes) -> None:
        parser, patience = self._parser, self.patience
        if parser is None or self._deaf:
            return
        if patience.idle_since is not None and patience.body_since is None:
            patience.expect_head()
        if patience.head_since is not None:
            bound = self._house.section().max_header_bytes
            patience.head_bytes += len(data)
            if patience.head_bytes > bound and data.find(_END_OF_HEAD, 0, max(0, len(data) - (patience.head_bytes - bound))) < 0:
                self._refuse(f"the request's head is larger than {bound} bytes")
                return
        elif patience.body_since is not None and not self.busy:
            patience.unwanted += len(data)
            if patience.unwanted > LINGER_BYTES:
                self.transport.abort()
                return
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # Nobody here speaks anything else: the request is answered as it is, and what follows is not understood.
            self._deaf = True
            if self._reading is not None:
                self._reading.keep_alive = False
                self._reading.end()
        except httptools.HttpParserError:
            self._refuse("the request is no HTTP that is accepted here")

    def _refuse(self, why: str) -> None:
        """In OpenAI's shape, as any error; behind an answer that is on its way, nothing more is read."""
        self._deaf = True
        if self.busy and self._current is not None and (self._current is not self._reading or self._current.whole):
            self._current.keep_alive = False
            self._line.clear()
            return
        body = GatewayError("invalid_value", why).body()
        head = b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
        if self._current is None or not self._current.started or self._current.complete:
            self.transport.write(head + body)
        if self.busy and self._current is not None:
            self._current.leave()
        self.transport.close()

    # What the parser finds.

    def on_message_begin(self) -> None:
        self._reading = Inbound(self)
        if self.patience.head_since is None:
            self.patience.expect_head()

    def on_url(self, url: bytes) -> None:
        assert self._reading is not None
        self._reading.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        assert self._reading is not None
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self._reading.expects_continue = True
        self._reading.fields.append((name, value))

    def on_headers_complete(self) -> None:
        reading, parser = self._reading, self._parser
        assert reading is not None
        assert parser is not None
        self.patience.expect_body()
        if len(reading.fields) > self._house.section().max_headers:
            raise Unacceptable
        reading.method = parser.get_method()
        version = parser.get_http_version()
        reading.version = version
        reading.keep_alive = version == "1.1" and parser.should_keep_alive()
        if self.busy:
            self._line.append(reading)
            self.pause()
        else:
            self._start(reading)

    def on_body(self, body: bytes) -> None:
        if self._reading is not None:
            self._reading.feed(body)

    def on_message_complete(self) -> None:
        self.patience.body_came()
        if self._reading is not None:
            self._reading.end()

    # Answering.

    def _start(self, inbound: Inbound) -> None:
        self._current = inbound
        if self._house.leaving():
            inbound.keep_alive = False
        turn, self._turn = self._turn, None
        if turn is None or turn.done():
            self._task = self.loop.create_task(self._answer())
        else:
            turn.set_result(None)
        assert self._task is not None
        self._state.tasks.add(self._task)

    async def _answer(self) -> None:
        """Answers one request after another: a task for each took 4 us. Where the next one comes before all is done for the one that has
        its answer, the next one gets a task of its own, and that is the one which goes on.
        """
        task = asyncio.current_task(self.loop)
        assert task is not None
        try:
            while (inbound := self._current) is not None:
                try:
                    await self._house.serve(inbound)
                finally:
                    if not inbound.complete and not inbound.gone:
                        self._give_up(inbound)
                if self._current is not inbound or self.transport.is_closing():
                    return
                self._state.tasks.discard(task)
                self._turn = turn = self.loop.create_future()
                await turn
        finally:
            self._state.tasks.discard(task)

    def _give_up(self, inbound: Inbound) -> None:
        if inbound.started or inbound.gone:
            self.transport.close()
            return
        error = GatewayError("internal_error", "something went wrong in the gateway")
        inbound.keep_alive = False
        inbound.respond(error.status, [(b"content-type", b"application/json")], error.body())


def protocol(house: House) -> Callable[..., Connection]:
    """What uvicorn makes connections with."""

    def make(config: uvicorn.Config, server_state: State, app_state: object, _loop: object = None) -> Connection:
        return Connection(house, server_state, config.timeout_keep_alive)

    return make

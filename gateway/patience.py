"""Clients that send slowly, take slowly, or send a head without end: they get some seconds and some bytes, and cost nobody else anything.

uvicorn itself bounds neither. (Slowloris; RFC 9112, 9.5.)
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.errors import GatewayError
from gateway.sections.server import ServerSection

LOOK_SECONDS = 0.5
LINGER_SECONDS = 5.0
LINGER_BYTES = 32 * 1024 * 1024
"""So long, and so much, is read of a body whose request is answered already, that the client may get to that answer (413)."""
_END_OF_HEAD = b"\r\n\r\n"


class Unacceptable(Exception):
    """A head that is beyond the bounds."""


class Patient(HttpToolsProtocol):
    """One connection. `head_since`, `body_since`: when it was opened or its request began, and when its body did, on the monotonic clock;
    None while none is awaited. `untaken`: how much of what was written last the client has not taken, and since when it takes nothing.
    `unwanted`: bytes of a body that came after its answer, and since when.
    """

    section: Callable[[], ServerSection]
    head_since: float | None = None
    head_bytes = 0
    body_since: float | None = None
    untaken: tuple[int, float] = (0, 0.0)
    unwanted = 0
    unwanted_since: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.head_since = time.monotonic()

    def data_received(self, data: bytes) -> None:
        if self.head_since is not None:
            bound = self.section().max_header_bytes
            self.head_bytes += len(data)
            if self.head_bytes > bound and data.find(_END_OF_HEAD, 0, max(0, len(data) - (self.head_bytes - bound))) < 0:
                self.send_400_response(f"the request's head is larger than {bound} bytes")
                return
        elif self.body_since is not None and self.cycle.response_complete:
            self.unwanted += len(data)
            if self.unwanted > LINGER_BYTES:
                self.transport.abort()
        super().data_received(data)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self.head_since is None:
            self.head_since = time.monotonic()

    def on_headers_complete(self) -> None:
        self.body_since, self.head_since, self.head_bytes = time.monotonic(), None, 0
        if len(self.headers) > self.section().max_headers:
            raise Unacceptable
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self.body_since = self.unwanted_since = None
        self.unwanted = 0
        super().on_message_complete()

    def is_late(self, now: float) -> bool:
        """Whether what is awaited should be here by now, or what was written be taken. Called now and then."""
        section = self.section()
        if self._takes_nothing(now, section.write_seconds):
            return True
        answered = self.cycle is None or self.cycle.response_complete
        if self.body_since is not None:
            if answered and self.unwanted_since is None:
                self.unwanted_since = now
            lingers = self.unwanted_since is not None and now - self.unwanted_since > LINGER_SECONDS
            return lingers or now - self.body_since > section.body_seconds
        if self.head_since is None:
            # Bytes that begin no request (empty lines) have ended uvicorn's own wait for the next one.
            idle = answered and self.timeout_keep_alive_task is None and not self.transport.is_closing()
            self.head_since = now if idle else None
            return False
        if not answered:
            self.head_since = now  # what comes slowly behind a request that is being answered has time until then
        return now - self.head_since > section.header_seconds

    def _takes_nothing(self, now: float, seconds: float) -> bool:
        """While an answer is being written, `Client` looks after that."""
        left = self.transport.get_write_buffer_size()
        over = self.transport.is_closing() or (self.cycle is not None and self.cycle.response_complete)
        if not left or not over or left < self.untaken[0] or not self.untaken[0]:
            self.untaken = (left if over else 0, now)
        return left > 0 and over and now - self.untaken[1] > seconds

    def send_400_response(self, msg: str) -> None:
        """In OpenAI's shape, as any error."""
        body = GatewayError("invalid_value", msg if msg.startswith("the ") else "the request is no HTTP that is accepted here").body()
        head = b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
        self.transport.write(head + body)
        self.transport.close()


def protocol(section: Callable[[], ServerSection]) -> type[Patient]:
    """The protocol of all connections. `section`: the settings in force."""
    return cast(type[Patient], type("Patient", (Patient,), {"section": staticmethod(section)}))


async def hurry(connections: Callable[[], Iterable[object]]) -> None:
    """Closes connections whose request does not come in time, until it is cancelled."""
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        now = time.monotonic()
        for connection in connections():
            if isinstance(connection, Patient) and connection.is_late(now):
                connection.transport.abort()

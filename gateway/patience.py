"""Clients that send a request slowly, or its head without end: they get some seconds and some bytes, and cost nobody else anything.

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
_END_OF_HEAD = b"\r\n\r\n"


class Unacceptable(Exception):
    """A head that is beyond the bounds."""


class Patient(HttpToolsProtocol):
    """One connection. `head_since`, `body_since`: when it was opened or its request began, and when its body did, on the monotonic clock;
    None while none is awaited.
    """

    section: Callable[[], ServerSection]
    head_since: float | None = None
    head_bytes = 0
    body_since: float | None = None

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
        self.body_since = None
        super().on_message_complete()

    def is_late(self, now: float) -> bool:
        """Whether what is awaited should be here by now."""
        section = self.section()
        if self.head_since is not None:
            return now - self.head_since > section.header_seconds
        return self.body_since is not None and now - self.body_since > section.body_seconds

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

"""The client's connection: uvicorn's, but nobody holds one for ever by sending slowly, taking slowly, or with a head that has no end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from gateway.errors import GatewayError

MAX_HEAD_BYTES = 64 * 1024
MAX_HEADERS = 256
LEAST_RATE = 1024
"""Bytes of a body that a client must send in a second, in the long run."""

LINGER_SECONDS = 1.0
LINGER_BYTES = 16 * 1024 * 1024
"""So long, and so much, is read what nobody wants, that the client may get to the answer (413) before the connection breaks off."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds. `head`: until the head of a request is here, from the connection or from the head's own first byte. `body`: from the head
    until the body is here, and a second more for each LEAST_RATE bytes of it. `write`: for a client to take some byte of an answer.
    """

    head: float = 30.0
    body: float = 30.0
    write: float = 60.0


class Doorway(HttpToolsProtocol):
    """One connection. Whoever is too slow is hung up on; a head beyond MAX_HEAD_BYTES or MAX_HEADERS is answered with 400.

    An answer counts as taken when it has left the socket's buffer, not when we are done with it. `patience`: that in force.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        patience: Callable[[], Patience],
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._patience = patience
        self._head_bytes = 0
        self._body_bytes = self._unwanted = 0
        self._awaited: str | None = None
        self._since = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._flushing: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect(None)
        if self._flushing is not None:
            self._flushing.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._awaited == "body":
            self._body_bytes += len(data)
            if self.cycle.response_complete:
                self._unwanted += len(data)
        else:
            self._head_bytes += len(data)
        before = self.cycle
        super().data_received(data)
        if self._unwanted > LINGER_BYTES:
            self._break_off(self.cycle)
        if not self.transport.is_closing() and (self._head_bytes > MAX_HEAD_BYTES or len(self.headers or ()) > MAX_HEADERS):
            self._weigh()
        if self.cycle is not before:
            self._head_bytes = 0
        self._look()

    def send_400_response(self, msg: str) -> None:
        body = GatewayError("invalid_value", msg).body()
        head = [b"content-type: application/json\r\nconnection: close\r\n", b"content-length: %d\r\n\r\n" % len(body)]
        self.transport.write(b"".join([STATUS_LINE[400], *head, body]))
        self.transport.close()

    def on_message_complete(self) -> None:
        if self.cycle.response_complete:
            self.cycle.more_body = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch_flush()
        if self.cycle.response_complete and self.cycle.more_body:
            self._unwanted = 0
            self.loop.call_later(LINGER_SECONDS, self._break_off, self.cycle)
        self._look()

    def _break_off(self, cycle: RequestResponseCycle) -> None:
        """A client that goes on with a body whose request was answered long ago has had the time to read that answer."""
        if self.cycle is cycle and cycle.more_body:
            self.transport.abort()

    def _missing(self) -> str | None:
        """What of a request is missing, if anything: its head or its body."""
        cycle = self.cycle
        if self.scope is not None and (cycle is None or cycle.scope is not self.scope):
            return "head"
        if cycle is None:
            return "head"
        if cycle.more_body:
            return "body"
        # Bytes that begin no request (empty lines) have ended uvicorn's own wait for the next one.
        return "head" if cycle.response_complete and self.timeout_keep_alive_task is None else None

    def _look(self) -> None:
        missing = None if self.transport.is_closing() else self._missing()
        if missing != self._awaited:
            self._expect(missing)

    def _expect(self, what: str | None) -> None:
        self._awaited = what
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if what is not None:
            self._since, self._body_bytes = self.loop.time(), 0
            self._timer = self.loop.call_later(self._allowed(), self._late)

    def _allowed(self) -> float:
        """Seconds for what is awaited."""
        patience = self._patience()
        return patience.head if self._awaited == "head" else patience.body + self._body_bytes / LEAST_RATE

    def _late(self) -> None:
        left = self._since + self._allowed() - self.loop.time()
        if left > 0.01 or self._answering():
            self._timer = self.loop.call_later(max(left, 1.0), self._late)
        else:
            self._timer = None
            self.transport.abort()

    def _weigh(self) -> None:
        """Looks at a head that may be too large: bytes of a body may have come with it."""
        whole = self.cycle is not None and self.cycle.scope is self.scope
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers or ()) if whole else self._head_bytes
        if size <= MAX_HEAD_BYTES and len(self.headers or ()) <= MAX_HEADERS:
            return
        if self._answering():
            self.transport.abort()
            return
        if whole:
            self.cycle.disconnected = True  # nobody answers it
        self.send_400_response(f"the head of a request may have {MAX_HEAD_BYTES} bytes and {MAX_HEADERS} headers")

    def _answering(self) -> bool:
        """Whether an earlier request of this connection still gets its answer."""
        return bool(self.pipeline) or (self.cycle is not None and self.cycle.scope is not self.scope and not self.cycle.response_complete)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_flush()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        async def watched(scope: Any, receive: Any, send: Any) -> None:
            try:
                await app(scope, receive, send)
            finally:
                if not cycle.response_complete:  # the connection is closed once what was written is out
                    self.loop.call_soon(self._watch_flush)

        super()._start_asgi_task(cycle, watched)

    def _watch_flush(self) -> None:
        """What was written may wait for the client to take it. While more is written `Client` looks after that; from then on this does."""
        if self._flushing is None and self.transport.get_write_buffer_size():
            written = self.transport.is_closing() or self.cycle.response_complete
            left = self.transport.get_write_buffer_size() if written else None
            self._flushing = self.loop.call_later(self._patience().write, self._check_flush, left)

    def _check_flush(self, before: int | None) -> None:
        self._flushing = None
        if before is not None and self.transport.get_write_buffer_size() >= before:
            self.transport.abort()
        else:
            self._watch_flush()

"""The client's end of a request: the answer goes out here, and it is noticed when the client leaves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from backends.api import Header
from backends.deadlines import Deadlines
from gateway.errors import ClientGone
from gateway.serving.inbound import Inbound


class Client:
    """Inside `with client`, a client that leaves, or that takes nothing for `write_seconds`, cancels what runs there, wherever it
    waits; that surfaces as ClientGone, and every `finally` on the way closes what it opened.
    """

    __slots__ = ("_deadlines", "_inbound", "_jammed_since", "_task", "_write_seconds", "gone")

    def __init__(self, inbound: Inbound, deadlines: Deadlines, write_seconds: float) -> None:
        self._inbound = inbound
        self._deadlines = deadlines
        self._write_seconds = write_seconds
        self._jammed_since = 0.0
        self._task: asyncio.Task[Any] | None = None
        self.gone = False

    @property
    def committed(self) -> bool:
        """Whether an answer has begun."""
        return self._inbound.started

    @property
    def served(self) -> bool:
        """Whether the answer's last byte is on its way."""
        return self._inbound.complete

    def whole(self, status: int, headers: Sequence[Header], body: bytes) -> None:
        """A whole answer."""
        self._inbound.respond(status, headers, body)

    def head(self, status: int, headers: Sequence[Header]) -> None:
        """Status and headers of a stream. From here on the client is committed to this answer."""
        self._inbound.begin(status, headers)

    async def write(self, data: bytes, more: bool = True) -> None:
        """A part of a stream, when the client's connection takes it: so a slow reader slows the backend."""
        if self.jammed:
            await self.drain()
        self.put(data, more)

    @property
    def jammed(self) -> bool:
        """Whether the client has yet to take what was written."""
        return self._inbound.jammed

    def put(self, data: bytes, more: bool = True) -> None:
        """A part of a stream. If the client is jammed, wait with `drain` first."""
        self._inbound.put(data, more)

    async def drain(self) -> None:
        """Returns when the client takes more."""
        self._jammed_since = time.monotonic()
        self._deadlines.watch(self)
        try:
            await self._inbound.drain()
        finally:
            self._deadlines.forget(self)

    def __enter__(self) -> Self:
        self._task = asyncio.current_task(self._deadlines.loop)
        self._inbound.on_gone = self._leave
        if self._inbound.gone:
            raise ClientGone
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._inbound.on_gone = None
        task, self._task = self._task, None
        if self.gone and task is not None and kind is asyncio.CancelledError:
            task.uncancel()
            raise ClientGone from None

    def check(self, now: float) -> None:
        """Called by the timer while the client takes nothing."""
        if now - self._jammed_since > self._write_seconds:
            self._leave()

    def _leave(self) -> None:
        if not self.gone and self._task is not None:
            self.gone = True
            self._task.cancel()

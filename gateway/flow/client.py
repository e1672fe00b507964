"""The client's end of a request: the answer goes out here, and it is noticed when the client leaves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from types import TracebackType
from typing import Any, Self

from backends.api import Header
from backends.deadlines import Deadlines
from gateway.errors import ClientGone

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Client:
    """One ASGI request. Inside `async with client`, a client that leaves, or that takes nothing for `write_seconds`, cancels what runs
    there, wherever it waits; that surfaces as ClientGone, and every `finally` on the way closes what it opened.

    Listening for the client's leave takes a task, and most requests of a fast backend are over before it could matter: it starts at the
    first tick of the common timer (50 ms).
    """

    __slots__ = (
        "_deadlines",
        "_receive",
        "_send",
        "_task",
        "_watcher",
        "_write_seconds",
        "_writing_since",
        "committed",
        "finished",
        "gone",
    )

    def __init__(self, receive: Receive, send: Send, deadlines: Deadlines, write_seconds: float) -> None:
        self._receive = receive
        self._send = send
        self._deadlines = deadlines
        self._write_seconds = write_seconds
        self._writing_since: float | None = None
        self._task: asyncio.Task[Any] | None = None
        self._watcher: asyncio.Task[None] | None = None
        self.committed = False
        self.finished = False
        self.gone = False

    @property
    def served(self) -> bool:
        """Whether the answer's last byte is on its way."""
        return self.finished and self._writing_since is None

    async def head(self, status: int, headers: Sequence[Header]) -> None:
        """Status and headers. From here on the client is committed to this answer."""
        self.committed = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def write(self, data: bytes, more: bool = True) -> None:
        """Returns when the client's connection takes more: so a slow reader slows the backend."""
        self._writing_since = time.monotonic()
        self.finished = not more
        await self._send({"type": "http.response.body", "body": data, "more_body": more})
        self._writing_since = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.current_task(self._deadlines.loop)
        self._deadlines.watch(self)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._deadlines.forget(self)
        task, self._task = self._task, None
        watcher, self._watcher = self._watcher, None  # each holds the other: left so, every request would be a cycle for the collector
        if watcher is not None:
            watcher.cancel()
        if self.gone and task is not None and kind is asyncio.CancelledError:
            task.uncancel()
            raise ClientGone from None

    async def _watch(self) -> None:
        """Starlette leaves a handler alone that waits for something else while its client leaves: so this listens all the while."""
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._leave()

    def check(self, now: float) -> None:
        """Called by the timer."""
        if self._watcher is None and self._task is not None:
            self._watcher = self._deadlines.loop.create_task(self._watch())
        if self._writing_since is not None and now - self._writing_since > self._write_seconds:
            self.finished = False
            self._leave()

    def _leave(self) -> None:
        if not self.gone and not self.finished and self._task is not None:
            self.gone = True
            self._task.cancel()

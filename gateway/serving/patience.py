"""Clients that send slowly, take slowly, or send a head without end: they get some seconds and bytes, and cost nobody else anything."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from gateway.sections.server import ServerSection

LOOK_SECONDS = 0.5
LINGER_SECONDS = 5.0
LINGER_BYTES = 32 * 1024 * 1024
"""So long, and so much, is read of a body whose request is answered already, that the client may get to that answer (413)."""


class Late(Protocol):
    """A connection."""

    @property
    def transport(self) -> asyncio.Transport: ...

    def is_late(self, now: float) -> bool: ...


class Patience:
    """What one client is waited for. `head_since`, `body_since`: when it connected or its request began, and when its body did, on the
    monotonic clock; None while none is awaited. `idle_since`: when it got its last answer. `untaken`: how much of what was written last it
    has not taken, and since when it takes nothing. `unwanted`: bytes of a body that came after its answer, and since when.
    """

    __slots__ = ("_keep_alive", "body_since", "head_bytes", "head_since", "idle_since", "untaken", "unwanted", "unwanted_since")

    def __init__(self, keep_alive_seconds: float) -> None:
        self._keep_alive = keep_alive_seconds
        self.head_since: float | None = None
        self.head_bytes = 0
        self.body_since: float | None = None
        self.idle_since: float | None = None
        self.untaken: tuple[int, float] = (0, 0.0)
        self.unwanted = 0
        self.unwanted_since: float | None = None

    def expect_head(self) -> None:
        self.head_since = time.monotonic()
        self.idle_since = None

    def expect_body(self) -> None:
        self.body_since, self.head_since, self.head_bytes = time.monotonic(), None, 0

    def body_came(self) -> None:
        self.body_since = self.unwanted_since = None
        self.unwanted = 0

    def answered(self) -> None:
        self.idle_since = time.monotonic()

    def is_late(self, now: float, section: ServerSection, left: int, busy: bool, closing: bool) -> bool:
        """`left`: bytes that the client has not taken yet. `busy`: a request is being answered. `closing`: the connection is."""
        if self._takes_nothing(now, section.write_seconds, left, busy, closing):
            return True
        if self.body_since is not None:
            if not busy and self.unwanted_since is None:
                self.unwanted_since = now
            lingers = self.unwanted_since is not None and now - self.unwanted_since > LINGER_SECONDS
            return lingers or now - self.body_since > section.body_seconds
        if self.head_since is None:
            return self.idle_since is not None and not busy and now - self.idle_since > self._keep_alive
        if busy:
            self.head_since = now  # what comes slowly behind a request that is being answered has time until then
        return now - self.head_since > section.header_seconds

    def _takes_nothing(self, now: float, seconds: float, left: int, busy: bool, closing: bool) -> bool:
        """While an answer is being written, `Client` looks after that."""
        over = closing or not busy
        if not left or not over or left < self.untaken[0] or not self.untaken[0]:
            self.untaken = (left if over else 0, now)
        return left > 0 and over and now - self.untaken[1] > seconds


async def hurry(connections: Callable[[], Iterable[Late]]) -> None:
    """Closes connections whose request does not come in time, until it is cancelled."""
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        now = time.monotonic()
        for connection in tuple(connections()):
            if connection.is_late(now):
                connection.transport.abort()

"""One timer for all open exchanges, instead of one for each read."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Expiring(Protocol):
    """Something that is looked at now and then until it is forgotten."""

    def check(self, now: float) -> None:
        """`now`: `time.monotonic()`."""


class Deadlines:
    """Looks at every watched item each `tick` seconds while there are any, so a timeout fires up to one tick late.

    Setting and cancelling a timer for each read costs several microseconds; here a read costs nothing.
    """

    def __init__(self, tick: float = 0.05) -> None:
        self._tick = tick
        self._items: set[Expiring] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop that all of this runs in. Kept, since `asyncio.get_running_loop` makes a system call (getpid) in Python 3.11."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop

    def __len__(self) -> int:
        return len(self._items)

    def watch(self, item: Expiring) -> None:
        self._items.add(item)
        if self._timer is None:
            self._timer = self.loop.call_later(self._tick, self._look)

    def forget(self, item: Expiring) -> None:
        self._items.discard(item)

    def _look(self) -> None:
        now = time.monotonic()
        for item in tuple(self._items):
            item.check(now)
        self._timer = self.loop.call_later(self._tick, self._look) if self._items else None

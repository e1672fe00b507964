"""Requests as they end, for whoever watches: those of this process at once, and through Redis those of all the others.

While nobody watches, a request costs two comparisons. Processes tell each other through a short stream in Redis rather than by its
publish and subscribe: reading it is a call like any other, bounded in time, in all four kinds of Redis, and nothing is lost between two.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import msgspec

from gateway.account.headlines import headline
from gateway.account.records import Record
from gateway.errors import GatewayError
from gateway.memory.store import Store, StoreDown

MOST_WATCHERS = 16
KEPT = 256
"""Lines that wait for a watcher; beyond that the oldest are dropped."""
MOST_IN_BATCH = 64
"""Lines that other processes are told in one go; beyond that they are told how many more there were."""
BATCH_SECONDS = 0.03
LOOK_SECONDS = 0.06
ASK_SECONDS = 1.0
"""So long may it take until a process knows that somebody watches elsewhere."""
WATCHED_MS = 5_000
STREAM_LENGTH = 100
STREAM_MS = 30_000


class Watcher:
    """Somebody who watches. `over`: it should come again, since another configuration is in force."""

    def __init__(self) -> None:
        self._lines: deque[bytes] = deque()
        self._dropped = 0
        self._news = asyncio.Event()
        self.over = False

    def put(self, line: bytes) -> int:
        """Returns how many older lines make room for it."""
        full = len(self._lines) >= KEPT
        if full:
            self._lines.popleft()
            self._dropped += 1
        self._lines.append(line)
        self._news.set()
        return int(full)

    def miss(self, count: int) -> None:
        """So many lines will never come."""
        self._dropped += count

    def end(self) -> None:
        self.over = True
        self._news.set()

    async def take(self, seconds: float) -> tuple[list[bytes], int]:
        """Lines that came, as JSON, and how many were dropped before them. Returns as soon as there is a line, or after so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()
        lines, dropped = list(self._lines), self._dropped
        self._lines.clear()
        self._dropped = 0
        self._news.clear()
        return lines, dropped


class Feed:
    """`place`: names this process, for people and for the other processes. `dropped`: lines that never came to a watcher."""

    def __init__(self, store: Store | None, place: str) -> None:
        self._store = store
        self.place = place
        self._watchers: list[Watcher] = []
        self._wanted = False
        self._arrived = asyncio.Event()
        self._batch: list[bytes] = []
        self._skipped = 0
        self._timer: asyncio.TimerHandle | None = None
        self._last: str | None = None
        self._asked_at = float("-inf")
        self._owner: object = None
        self.dropped = 0

    def __len__(self) -> int:
        """How many watch here."""
        return len(self._watchers)

    def publish(self, record: Record) -> None:
        """A request is over."""
        if not self._watchers and not self._wanted:
            return
        line = msgspec.json.encode(headline(record, self.place))
        for watcher in self._watchers:
            self.dropped += watcher.put(line)
        if self._wanted:
            self._tell_others(line)

    def follow(self, owner: object) -> None:
        """`owner`: the gateway in force. Whoever watches through another one should come again: a watcher would keep it alive."""
        if owner is not self._owner:
            self._owner = owner
            for watcher in self._watchers:
                watcher.end()

    @contextmanager
    def watch(self) -> Iterator[Watcher]:
        """Raises GatewayError where too many watch already."""
        if len(self._watchers) >= MOST_WATCHERS:
            raise GatewayError("overloaded", f"{MOST_WATCHERS} watch already", retry_after=10)
        watcher = Watcher()
        self._watchers.append(watcher)
        self._arrived.set()
        try:
            yield watcher
        finally:
            self._watchers.remove(watcher)
            if not self._watchers:
                self._arrived.clear()
                self._last = None

    async def run(self) -> None:
        """Hears of the other processes while somebody watches here, and asks whether somebody watches there."""
        store = self._store
        if store is None:
            return
        while True:
            with suppress(StoreDown):
                await self._exchange(store)
            if self._watchers:
                await asyncio.sleep(LOOK_SECONDS)
            else:
                with suppress(TimeoutError):
                    async with asyncio.timeout(ASK_SECONDS):
                        await self._arrived.wait()

    async def _exchange(self, store: Store) -> None:
        now = asyncio.get_running_loop().time()
        if self._watchers and self._last is None:
            self._last = await self._newest(store)
            self._asked_at = float("-inf")
        if now - self._asked_at >= ASK_SECONDS:
            key = store.key("all", "watched")
            if self._watchers:
                await store.call("SET", key, "1", "PX", WATCHED_MS)
                self._wanted = True
            else:
                self._wanted = await store.get(key) is not None
            self._asked_at = now
        if self._watchers and self._last is not None:
            for entry, fields in await store.call("XRANGE", self._stream(store), f"({self._last}", "+", "COUNT", STREAM_LENGTH) or ():
                self._last = _text(entry)
                self._hear(fields)

    async def _newest(self, store: Store) -> str:
        """Where the stream ends now: what was told before this is old."""
        found = await store.call("XREVRANGE", self._stream(store), "+", "-", "COUNT", 1)
        return _text(found[0][0]) if found else "0-0"

    def _hear(self, fields: Any) -> None:
        """Of another process; what cannot be read is passed over."""
        if not isinstance(fields, Mapping):
            return
        told = {_text(name): value for name, value in fields.items()}
        if _text(told.get("place", b"")) == self.place:
            return
        skipped = _text(told.get("skipped", b"0"))
        for watcher in self._watchers:
            for line in bytes(told.get("lines", b"")).splitlines()[:MOST_IN_BATCH]:
                self.dropped += watcher.put(line)
            watcher.miss(int(skipped) if skipped.isdigit() else 0)

    def _tell_others(self, line: bytes) -> None:
        if len(self._batch) >= MOST_IN_BATCH:
            self._skipped += 1
            self.dropped += 1
            return
        self._batch.append(line)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(BATCH_SECONDS, self._send)

    def _send(self) -> None:
        self._timer = None
        lines, self._batch = b"\n".join(self._batch), []
        skipped, self._skipped = self._skipped, 0
        store = self._store
        if store is None or not store.up:
            return
        stream = self._stream(store)
        store.later("XADD", stream, "MAXLEN", STREAM_LENGTH, "*", "place", self.place, "skipped", skipped, "lines", lines)
        store.later("PEXPIRE", stream, STREAM_MS)

    @staticmethod
    def _stream(store: Store) -> str:
        return store.key("all", "watching")


def _text(value: bytes | str) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value

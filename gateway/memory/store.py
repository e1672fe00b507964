"""Redis or Valkey within bounds: every call ends within `timeout`, and while the store is away every call ends at once.

What is kept there is of use and never needed: a request goes on without it. So callers catch the one exception, StoreDown.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import Any, TypeVar

from redis.exceptions import NoScriptError

from backends.breaker import Breaker
from backends.places import Places
from gateway.memory.outbox import Command, Entry, Outbox, Part, Script
from gateway.memory.redis_clients import MAX_CONNECTIONS, create
from gateway.memory.redis_failures import FAILURES, Reason, judge
from gateway.memory.redis_urls import parse

__all__ = ["Script", "Store", "StoreDown"]

SCHEMA = 1
PROBE_MILLISECONDS = 10_000
_TENANT = re.compile(r"[A-Za-z0-9._-]{1,64}")
_PART = re.compile(r"[A-Za-z0-9._:-]+")
_log = logging.getLogger("pointsman")
T = TypeVar("T")


class StoreDown(Exception):
    """The store did not do what was asked, or nobody knows whether it did. `reason` is one of redis_failures.REASONS."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(f"the store did not answer as it should ({reason})")
        self.reason: Reason = reason


def ignore(reason: str) -> None:
    """Counts nothing."""


class Store:
    """One worker's way to the store. `timeout` in seconds; `failed(reason)` hears of each call that failed, but not of those that were
    refused while the store is away. `dropped` writes never arrived, `changes` counts how often `up` changed.

    The first failure that is the store's state (a timeout, a lost connection, READONLY, OOM …) takes it away: `up` is False and calls
    raise StoreDown at once. `run` looks for it in the background and brings it back. Raises ValueError for a bad URL or prefix.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 0.05,
        prefix: str = "pointsman",
        clock: Callable[[], float] = time.monotonic,
        rng: Random | None = None,
        failed: Callable[[str], None] = ignore,
    ) -> None:
        if not _TENANT.fullmatch(prefix):
            raise ValueError("a prefix is made of 1 to 64 letters, digits, '.', '_' and '-'")
        address = parse(url)
        self._name = address.shown
        self._prefix = prefix
        self._timeout = timeout
        self._clock = clock
        self._failed = failed
        self._client = create(address, timeout)
        self._places = Places(MAX_CONNECTIONS)
        self._breaker = Breaker(1, pause=0.25, cap=2.0, clock=clock, rng=rng)
        self._outbox = Outbox()
        self._reason: Reason = "other"
        self._away_since = 0.0
        self._held_up_until = float("-inf")
        self._is_up = asyncio.Event()
        self._is_up.set()
        self._is_away = asyncio.Event()
        self._has_writes = asyncio.Event()
        self.changes = 0

    @property
    def up(self) -> bool:
        return self._breaker.state == "closed"

    @property
    def pending(self) -> int:
        """Writes that have not arrived yet."""
        return len(self._outbox)

    @property
    def dropped(self) -> int:
        """Writes that never arrive: the line was full, or they were malformed or refused."""
        return self._outbox.dropped

    def key(self, tenant: str, kind: str, *parts: str) -> str:
        """`prefix:1:tenant:kind:part…`, 1 being the version of what is kept. Raises ValueError for characters that a key may not have."""
        return self._key(tenant, tenant, kind, parts)

    def tagged(self, tenant: str, kind: str, *parts: str) -> str:
        """The same with the tenant in braces: all such keys of a tenant live on one node of a Cluster, so that a script may use several."""
        return self._key(tenant, f"{{{tenant}}}", kind, parts)

    def _key(self, tenant: str, shown: str, kind: str, parts: tuple[str, ...]) -> str:
        if not _TENANT.fullmatch(tenant):
            raise ValueError("a tenant is made of 1 to 64 letters, digits, '.', '_' and '-'")
        if not all(map(_PART.fullmatch, (kind, *parts))):
            raise ValueError("a key's parts are made of letters, digits, '.', '_', ':' and '-'")
        return ":".join((self._prefix, str(SCHEMA), shown, kind, *parts))

    async def get(self, key: str) -> bytes | None:
        """Raises StoreDown, as all calls do."""
        value: bytes | None = await self._attempt(self._client.execute, ("GET", key))
        return value

    async def set(self, key: str, value: bytes, ttl_seconds: float) -> None:
        await self._attempt(self._client.execute, ("SET", key, value, "PX", _milliseconds(ttl_seconds)))

    async def add(self, key: str, value: bytes, ttl_seconds: float) -> bool:
        """Sets the key if it is not there; returns whether it did. After StoreDown it may be set all the same."""
        return bool(await self._attempt(self._client.execute, ("SET", key, value, "PX", _milliseconds(ttl_seconds), "NX")))

    async def delete(self, key: str) -> None:
        await self._attempt(self._client.execute, ("DEL", key))

    async def call(self, *command: Part) -> Any:
        """Any command that does not block. Returns the reply as redis-py gives it, strings as bytes."""
        return await self._attempt(self._client.execute, command)

    async def run_script(self, script: Script, keys: Sequence[str], args: Sequence[Part]) -> Any:
        """Runs a script, by its hash, and with its text if the server does not know it. In a Cluster the keys share a hash tag."""
        return await self._attempt(self._evaluate, Entry((len(keys), *keys, *args), script))

    def later(self, *command: Part | Callable[[], Command]) -> None:
        """Sends a command when there is time; or what a callable without parameters makes then. It may be sent twice."""
        first = command[0]
        self._post(Entry(first if callable(first) else command))  # type: ignore[arg-type]

    def run_later(self, script: Script, keys: Sequence[str], args: Sequence[Part]) -> None:
        """Runs a script when there is time. If its outcome is unknown it runs again, so it must be idempotent."""
        self._post(Entry((len(keys), *keys, *args), script))

    def _post(self, entry: Entry) -> None:
        self._outbox.add(entry)
        self._has_writes.set()

    async def run(self) -> None:
        """Looks for the store while it is away (and once at the start), and sends what waits, until it is cancelled. What waits then
        is sent once more, within `timeout`, if the store is up.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._watch())
                tasks.create_task(self._send_writes())
        finally:
            await self._flush()

    async def aclose(self) -> None:
        """Closes the connections."""
        with contextlib.suppress(*FAILURES):
            async with asyncio.timeout(max(1.0, self._timeout)):
                await self._client.close()

    async def _attempt(self, work: Callable[[T], Awaitable[Any]], what: T) -> Any:
        if self._breaker.state != "closed":
            raise StoreDown(self._reason)
        started = self._clock()
        try:
            async with asyncio.timeout(self._timeout):
                if not self._places.take():
                    await self._places.wait()
                try:
                    return await work(what)
                finally:
                    self._places.leave()
        except FAILURES as error:
            raise self._judge(error, started) from error

    async def _evaluate(self, entry: Entry) -> Any:
        try:
            return await self._client.execute(entry.command())
        except NoScriptError:
            return await self._client.execute(entry.command(whole=True))

    def _judge(self, error: BaseException, started: float) -> StoreDown:
        """Counts a failure; the store is away from now on if it is the store's."""
        reason, is_state = judge(error)
        self._failed(reason)
        if is_state and self.up and (reason != "timeout" or not self._was_held_up(started)):
            self._leave(reason)
        return StoreDown(reason)

    def _was_held_up(self, started: float) -> bool:
        """Whether a timeout tells of this process alone: its event loop did not come round for so long that the timers of all calls
        ran out together. It is believed once; a call that begins after that and is late again tells of the store.
        """
        now = self._clock()
        if now - started <= 2 * self._timeout:
            return False
        if started > self._held_up_until:
            held_up_before = self._held_up_until > now - 10 * self._timeout
            self._held_up_until = now
            return not held_up_before
        return True

    def _leave(self, reason: Reason) -> None:
        self._reason = reason
        self._away_since = self._clock()
        self._breaker.failed()
        self._is_up.clear()
        self._is_away.set()
        self.changes += 1
        _log.warning("redis at %s is away (%s); requests go on without it", self._name, reason)

    def _return(self) -> None:
        self._breaker.succeeded()
        self._is_away.clear()
        self._is_up.set()
        self.changes += 1
        _log.warning("redis at %s is back after %.1f s", self._name, self._clock() - self._away_since)

    async def _watch(self) -> None:
        await self._probe()
        while True:
            await self._is_away.wait()
            await asyncio.sleep(max(0.0, self._breaker.retry_at - self._clock()))
            self._breaker.started()
            await self._probe()

    async def _probe(self) -> None:
        """A small write, so that a full or read-only store stays away."""
        started = self._clock()
        try:
            async with asyncio.timeout(self._timeout):
                await self._client.execute(("SET", f"{self._prefix}:probe", "1", "PX", PROBE_MILLISECONDS))
        except FAILURES as error:
            if self.up:
                self._judge(error, started)
            elif self._breaker.state == "half_open":
                self._reason, _ = judge(error)
                self._breaker.failed()
                await self._drop_idle()
            return
        # In state "open" a call failed after this probe had begun: what the probe says is old.
        if self._breaker.state == "half_open":
            self._return()

    async def _drop_idle(self) -> None:
        """Connections from before the outage may lead nowhere, so the next probe gets a new one."""
        with contextlib.suppress(*FAILURES):
            async with asyncio.timeout(self._timeout):
                await self._client.drop_idle()

    async def _send_writes(self) -> None:
        while True:
            await self._has_writes.wait()
            await self._is_up.wait()
            await self._send_batch()
            if not self._outbox:
                self._has_writes.clear()

    async def _flush(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._timeout):
                while self._outbox and self.up:
                    await self._send_batch()

    async def _send_batch(self) -> None:
        entries = self._outbox.take()
        started, slow = self._clock(), False
        kept: list[Entry] = entries
        try:
            async with asyncio.timeout(self._timeout):
                kept = await self._deliver(entries)
        except FAILURES as error:
            slow = self._judge(error, started).reason == "timeout"
            if not judge(error)[1]:
                self._outbox.dropped += len(entries)
                kept = []
        finally:
            # Cancelled on the way, too, the batch stays in line.
            if kept:
                self._outbox.keep(kept, slow)
            else:
                self._outbox.sent()

    async def _deliver(self, entries: list[Entry], whole: bool = False) -> list[Entry]:
        """Sends the writes in one go. Returns those to send again, as the store's state was against them."""
        made = [(entry, command) for entry in entries if (command := self._made(entry, whole)) is not None]
        again: list[Entry] = []
        unknown: list[Entry] = []
        for (entry, _), reply in zip(made, await self._client.batch([command for _, command in made]), strict=True):
            if isinstance(reply, NoScriptError) and not whole:
                unknown.append(entry)
            elif isinstance(reply, FAILURES):
                if judge(reply)[1]:
                    again.append(entry)
                    self._judge(reply, self._clock())
                else:
                    self._lose(judge(reply)[0])
        return again + (await self._deliver(unknown, whole=True) if unknown else [])

    def _made(self, entry: Entry, whole: bool) -> tuple[Part, ...] | None:
        try:
            return entry.command(whole)
        except (TypeError, ValueError, LookupError, AttributeError):
            _log.exception("a write to redis could not be made; it is dropped")
            self._lose("other")
            return None

    def _lose(self, reason: Reason) -> None:
        self._outbox.dropped += 1
        self._failed(reason)


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))

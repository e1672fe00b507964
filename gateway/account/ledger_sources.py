"""Reading the ledger back, from its files or from its stream in Redis. Blocking: for commands, never on the way of a request."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import msgspec

from gateway.account.ledger import VERSION, Entry
from gateway.account.ledger_files import last_lines, read_lines
from gateway.memory.redis_urls import Address, parse

PAGE = 1000
SKEW_SECONDS = 60.0
"""How far the clock of Redis, which numbers the stream, may be behind that of a gateway."""
_FIELD = b"line"
_ENTRY = msgspec.json.Decoder(Entry)
_Reply = list[tuple[bytes, dict[bytes, bytes]]]


class Source(Protocol):
    """Where entries come from. `broken`: lines met so far that are no entries of this version; they are left out."""

    broken: int

    def entries(self, since: float | None = None) -> Iterator[Entry]:
        """All entries from `since` (Unix time) on, oldest first as they were written."""

    def last(self, count: int, wait: Callable[[], None] | None = None) -> Iterator[Entry]:
        """The entries in the newest `count` lines, oldest first. With `wait` then those that are written from now on, without an end.

        `wait` is called when there is nothing new.
        """


class FileSource:
    """A ledger file and the rotated ones beside it. Methods raise OSError where a file cannot be read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.broken = 0

    def entries(self, since: float | None = None) -> Iterator[Entry]:
        return self._decode(read_lines(self._path, since), since)

    def last(self, count: int, wait: Callable[[], None] | None = None) -> Iterator[Entry]:
        return self._decode(last_lines(self._path, count, wait), None)

    def _decode(self, lines: Iterator[bytes], since: float | None) -> Iterator[Entry]:
        for line in lines:
            found = _decode(line)
            if found is not None:
                if since is None or found.time >= since:
                    yield found
            elif line.endswith(b"\n"):  # else somebody is writing it now
                self.broken += 1


class StreamSource:
    """A ledger's stream in Redis. `key`: its name. Methods raise redis-py's RedisError; ValueError for a bad URL."""

    def __init__(self, url: str, key: str) -> None:
        self._redis = connect(parse(url))
        self._key = key
        self.broken = 0

    def entries(self, since: float | None = None) -> Iterator[Entry]:
        first = "-" if since is None else str(max(0, int((since - SKEW_SECONDS) * 1000)))
        for found in self._after(first):
            if since is None or found.time >= since:
                yield found

    def last(self, count: int, wait: Callable[[], None] | None = None) -> Iterator[Entry]:
        newest: _Reply = self._redis.xrevrange(self._key, count=count) if count else self._redis.xrevrange(self._key, count=1)
        yield from self._decode(newest[:count][::-1])
        if wait is None:
            return
        position = newest[0][0] if newest else b"0"
        while True:
            page = self._page(b"(" + position)
            yield from self._decode(page)
            if page:
                position = page[-1][0]
            else:
                wait()

    def _after(self, first: str | bytes) -> Iterator[Entry]:
        while page := self._page(first):
            yield from self._decode(page)
            first = b"(" + page[-1][0]

    def _page(self, first: str | bytes) -> _Reply:
        found: _Reply = self._redis.xrange(self._key, min=first, count=PAGE)
        return found

    def _decode(self, page: _Reply) -> Iterator[Entry]:
        for _, fields in page:
            found = _decode(fields.get(_FIELD, b""))
            if found is None:
                self.broken += 1
            else:
                yield found


def _decode(line: bytes) -> Entry | None:
    try:
        found = _ENTRY.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return found if found.v == VERSION else None


def connect(address: Address, seconds: float = 5.0) -> Any:
    """A blocking client of redis-py for any address that the gateway takes. `seconds`: for each step; it connects at its first use."""
    from redis import Redis, RedisCluster, Sentinel
    from redis.backoff import NoBackoff
    from redis.cluster import ClusterNode
    from redis.retry import Retry

    tls: dict[str, Any] = dict(address.tls or {})
    if "ssl_check_hostname" in tls:
        tls["ssl_check_hostname"] = tls["ssl_check_hostname"] == "true"
    timeouts = {"socket_timeout": seconds, "socket_connect_timeout": seconds}
    options = {**timeouts, **tls, "username": address.username, "password": address.password}
    if address.tls is not None:
        options["ssl"] = True
    if address.mode == "cluster":
        nodes = [ClusterNode(host, port) for host, port in address.hosts]  # type: ignore[no-untyped-call]
        return RedisCluster(startup_nodes=nodes, **options)
    options |= {"db": address.db, "retry": Retry(NoBackoff(), 1)}
    if address.mode == "sentinel":
        own = {**options, "db": 0, "username": address.sentinel_username, "password": address.sentinel_password}
        return Sentinel(address.hosts, sentinel_kwargs=own).master_for(address.service, **options)  # type: ignore[no-untyped-call]
    if address.mode == "unix":
        return Redis(unix_socket_path=address.path, **options)
    host, port = address.hosts[0]
    return Redis(host, port, **options)

"""The three ways to a Redis through redis-py, behind one small face: no retries, bounded connections, nothing waited for on the side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from redis.asyncio import Connection, ConnectionPool, Redis, RedisCluster, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff

from gateway.memory.redis_urls import Address

MAX_CONNECTIONS = 64  # for those who wait for a reply; the background work has some more
Part = str | bytes | int


class Client(Protocol):
    """Raises what redis-py raises. Bounded in connections but not in time: the caller holds the clock."""

    async def execute(self, command: Sequence[Part]) -> Any:
        """One command, once. Returns the reply as redis-py gives it; strings are bytes."""

    async def batch(self, commands: Iterable[Sequence[Part]]) -> list[Any]:
        """Commands in one go. Returns a reply for each, an exception where the server refused one."""

    async def drop_idle(self) -> None:
        """Closes the connections that nobody uses: after an outage they may lead nowhere."""

    async def close(self) -> None: ...


def create(address: Address, timeout: float) -> Client:
    """A client for an address; it connects when it is first used. `timeout`: seconds for each step of a connection."""
    return _Cluster(address, timeout) if address.mode == "cluster" else _Pooled(address, timeout)


class _Pooled:
    """One server, on TCP, TLS or a Unix socket, or the primary that Sentinels name."""

    def __init__(self, address: Address, timeout: float) -> None:
        self._sentinel: Sentinel | None = None
        options = {**_options(address, timeout), "db": address.db, "max_connections": MAX_CONNECTIONS + 4}
        if address.mode == "sentinel":
            self._sentinel = _sentinel(address, timeout)
            options["ssl"] = address.tls is not None
            self._pool: ConnectionPool = SentinelConnectionPool(address.service, self._sentinel, **options)  # type: ignore[no-untyped-call]
        elif address.mode == "unix":
            self._pool = ConnectionPool(UnixDomainSocketConnection, path=address.path, **options)
        else:
            kind = Connection if address.tls is None else SSLConnection
            host, port = address.hosts[0]
            self._pool = ConnectionPool(kind, host=host, port=port, **options)
        self._redis: Redis = Redis.from_pool(self._pool)

    async def execute(self, command: Sequence[Part]) -> Any:
        return await self._redis.execute_command(*command)  # type: ignore[no-untyped-call]

    async def batch(self, commands: Iterable[Sequence[Part]]) -> list[Any]:
        pipeline = self._redis.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        return await pipeline.execute(raise_on_error=False)

    async def drop_idle(self) -> None:
        await self._pool.disconnect(inuse_connections=False)

    async def close(self) -> None:
        await self._redis.aclose()
        if self._sentinel is not None:
            await self._sentinel.aclose()


class _Cluster:
    """A Redis Cluster. redis-py forgets the map of its slots after a lost connection, and reads it anew with the next command."""

    def __init__(self, address: Address, timeout: float) -> None:
        nodes = [ClusterNode(host, port) for host, port in address.hosts]
        options = _options(address, timeout)
        # It must hear of a timeout before the caller gives up: only then does it look for another primary.
        options["socket_timeout"] = timeout * 0.8
        self._redis = RedisCluster(startup_nodes=nodes, ssl=address.tls is not None, max_connections=MAX_CONNECTIONS + 4, **options)

    async def execute(self, command: Sequence[Part]) -> Any:
        return await self._redis.execute_command(*command)

    async def batch(self, commands: Iterable[Sequence[Part]]) -> list[Any]:
        pipeline = self._redis.pipeline()
        for command in commands:
            pipeline.execute_command(*command)
        return await pipeline.execute(raise_on_error=False)

    async def drop_idle(self) -> None:
        for node in self._redis.get_nodes():
            await node.disconnect_free_connections()

    async def close(self) -> None:
        await self._redis.aclose()


def _options(address: Address, timeout: float) -> dict[str, Any]:
    """What all connections share. RESP2 and no driver's name: a new connection costs no round trips but AUTH and SELECT."""
    tls: dict[str, Any] = dict(address.tls or {})
    if "ssl_check_hostname" in tls:
        tls["ssl_check_hostname"] = tls["ssl_check_hostname"] == "true"
    return {
        "username": address.username,
        "password": address.password,
        # The caller's clock bounds each call. redis-py's own would start a task for each write (asyncio.wait_for), and before
        # Python 3.12 wait_for can swallow the cancellation of a request.
        "socket_timeout": None,
        "socket_connect_timeout": timeout,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        "driver_info": None,
        **tls,
    }


def _sentinel(address: Address, timeout: float) -> Sentinel:
    """Sentinels are asked in turn; each gets a part of the time, so that a frozen one does not use up all of it."""
    patience = timeout / (len(address.hosts) + 1)
    options = _options(address, patience)
    options |= {
        "username": address.sentinel_username,
        "password": address.sentinel_password,
        "socket_timeout": patience,
        "ssl": address.tls is not None,
    }
    return Sentinel(address.hosts, sentinel_kwargs=options)  # type: ignore[no-untyped-call]

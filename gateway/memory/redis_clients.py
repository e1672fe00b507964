"""The three ways to a Redis through redis-py, behind one small face: no retries, bounded connections, nothing waited for on the side."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from redis.asyncio import Connection, ConnectionPool, Redis, RedisCluster, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import AbstractConnection, RedisSSLContext
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool, SentinelManagedConnection, SentinelManagedSSLConnection
from redis.backoff import NoBackoff

from gateway.memory.redis_urls import Address

# For those who wait for a reply; the background work has some more. 16 carry 20,000 calls a second on a near server (as many as 64 do:
# one worker makes no more) and 3,000 at 5 ms a round trip. More would only mean more TLS handshakes at the same moment.
MAX_CONNECTIONS = 16
MAX_OPENING = 4
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
    """A client for an address; it connects when it is first used. `timeout`: seconds for each step of a connection. Raises ValueError
    if the certificates cannot be read.
    """
    return _Cluster(address, timeout) if address.mode == "cluster" else _Pooled(address, timeout)


class _SparingPool(ConnectionPool):
    """Opens at most MAX_OPENING connections at the same time; who comes then waits until one is free or may be opened.

    Else a burst of calls on cold connections opens one for each call, and their TLS handshakes compete until all have used up their
    time and are cancelled; and the next burst begins in the same way.
    """

    def __init__(self, *positional: Any, **options: Any) -> None:
        super().__init__(*positional, **options)
        self._opening = 0
        self._line: deque[asyncio.Future[None]] = deque()

    async def get_connection(self, command_name: Any = None, *keys: Any) -> Any:
        while self._opening >= MAX_OPENING and not self._has_idle():
            await self._turn()
        if self._has_idle():
            return await super().get_connection()  # type: ignore[no-untyped-call]
        self._opening += 1
        try:
            return await super().get_connection()  # type: ignore[no-untyped-call]
        finally:
            self._opening -= 1
            self._wake()

    async def release(self, connection: AbstractConnection) -> None:
        await super().release(connection)
        self._wake()

    def _has_idle(self) -> bool:
        # The last one is what the pool gives out next.
        return bool(self._available_connections) and self._available_connections[-1].is_connected

    async def _turn(self) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._line.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._wake()
            elif turn in self._line:
                self._line.remove(turn)
            raise

    def _wake(self) -> None:
        while self._line:
            turn = self._line.popleft()
            if not turn.done():
                turn.set_result(None)
                return


class _SparingSentinelPool(_SparingPool, SentinelConnectionPool):
    """The same for a primary that Sentinels name."""


class _TlsConnection(SSLConnection):
    """Takes its TLS context from outside: redis-py would read the system's certificates anew for each connection (tens of ms)."""

    def __init__(self, *, shared: RedisSSLContext, **options: Any) -> None:
        super().__init__(**options)
        self.ssl_context = shared


class _TlsSentinelConnection(SentinelManagedSSLConnection):
    """The same for a primary that Sentinels name."""

    def __init__(self, *, shared: RedisSSLContext, **options: Any) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call]
        self.ssl_context = shared


class _Pooled:
    """One server, on TCP, TLS or a Unix socket, or the primary that Sentinels name."""

    def __init__(self, address: Address, timeout: float) -> None:
        self._sentinel: Sentinel | None = None
        options = {**_options(address, timeout), "db": address.db, "max_connections": MAX_CONNECTIONS + 4}
        if address.mode == "sentinel":
            self._sentinel = _sentinel(address, timeout)
            options["connection_class"] = SentinelManagedConnection if address.tls is None else _TlsSentinelConnection
            self._pool: ConnectionPool = _SparingSentinelPool(address.service, self._sentinel, **options)
        elif address.mode == "unix":
            self._pool = _SparingPool(UnixDomainSocketConnection, path=address.path, **options)
        else:
            kind = Connection if address.tls is None else _TlsConnection
            host, port = address.hosts[0]
            self._pool = _SparingPool(kind, host=host, port=port, **options)
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
        shared = options.pop("shared", None)
        # It must hear of a timeout before the caller gives up: only then does it look for another primary.
        options["socket_timeout"] = timeout * 0.8
        self._redis = RedisCluster(startup_nodes=nodes, ssl=shared is not None, max_connections=MAX_CONNECTIONS + 4, **options)
        if shared is not None:
            self._redis.connection_kwargs |= {"connection_class": _TlsConnection, "shared": shared}
            for node in self._redis.startup_nodes:
                node.connection_class = _TlsConnection
                node.connection_kwargs["shared"] = shared

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
    tls = {} if address.tls is None else {"shared": _tls(address.tls)}
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


def _tls(options: dict[str, str]) -> RedisSSLContext:
    context = RedisSSLContext(
        keyfile=options.get("ssl_keyfile"),
        certfile=options.get("ssl_certfile"),
        cert_reqs=options.get("ssl_cert_reqs", "required"),
        ca_certs=options.get("ssl_ca_certs"),
        check_hostname=options.get("ssl_check_hostname", "true") == "true",
    )
    try:
        context.get()
    except OSError as error:
        raise ValueError("the certificate files that the Redis URL names cannot be read") from error
    return context


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

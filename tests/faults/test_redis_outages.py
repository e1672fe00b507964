"""Redis is of use and never needed: whatever happens to it, requests go on. (Faults 13, 14.)"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.gateways import Running, chat, pair, until
from tests.redis_servers import KINDS, RedisServer, redis_server
from tests.state.callers import Keys

Away = Callable[[RedisServer], None]


@asynccontextmanager
async def gateway(url: str, folder: Path) -> AsyncIterator[tuple[Running, dict[str, str]]]:
    """A gateway that uses Redis for everything: keys with limits, cache, sessions, ledger."""
    keys = Keys(folder)
    key = keys.add(rpm=10_000, tpm=10_000_000, budget_usd=100)
    more: dict[str, Any] = {"auth": keys.auth, "redis": {"url": url, "timeout_ms": 600}, "ledger": {"redis": True}}
    async with pair(**more) as running:
        yield running, key


async def send(running: Running, key: dict[str, str], count: int = 10) -> None:
    """Requests of every kind, and all are answered."""
    for number in range(count):
        body = chat(content=f"question {number}", stream=bool(number % 3 == 1), router={"session": f"s{number % 2}"}, max_tokens=10)
        headers = {**key, **({"idempotency-key": f"i{number}"} if number % 3 == 2 else {})}
        answer = await running.client.post("/v1/chat/completions", json=body, headers=headers)
        assert answer.status_code == 200, answer.text
    assert (await running.client.get("/readyz")).status_code == 200


def is_up(running: Running) -> bool:
    store = running.gateway.memory.store
    return store is not None and store.up


def said(caplog: pytest.LogCaptureFixture) -> tuple[int, int]:
    """How often the log said that Redis is away, and back."""
    return (
        sum("is away" in record.getMessage() for record in caplog.records),
        sum("is back" in record.getMessage() for record in caplog.records),
    )


def read_only(server: RedisServer) -> None:
    server.command("REPLICAOF", "127.0.0.1", "1")


def full(server: RedisServer) -> None:
    server.command("CONFIG", "SET", "maxmemory", "1")


def paused(server: RedisServer) -> None:
    server.command("CLIENT", "PAUSE", "2500")


def ends_by_itself(_: RedisServer) -> None:
    pass


def wake(server: RedisServer) -> None:
    server.command("CONFIG", "SET", "maxmemory", "0")
    server.command("REPLICAOF", "NO", "ONE")


OUTAGES: dict[str, tuple[Away, Away]] = {
    "killed": (RedisServer.stop, RedisServer.start),
    "frozen": (RedisServer.freeze, RedisServer.thaw),
    "paused": (paused, ends_by_itself),
    "read-only": (read_only, wake),
    "full": (full, wake),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("outage", OUTAGES)
async def test_requests_go_on_and_it_comes_back(kind: str, outage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    begin, end = OUTAGES[outage]
    with redis_server(kind) as server:
        async with gateway(server.url, tmp_path) as (running, key):
            await send(running, key)
            begin(server)
            await send(running, key)
            assert not is_up(running)
            assert "pointsman_redis_up 0.0" in (await running.client.get("/metrics")).text
            assert said(caplog) == (1, 0)
            end(server)
            assert await until(lambda: is_up(running), 10.0)
            await send(running, key)
            assert said(caplog) == (1, 1)


@pytest.mark.parametrize("kind", KINDS)
async def test_down_at_boot(kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with redis_server(kind) as server:
        server.stop()
        async with gateway(server.url, tmp_path) as (running, key):
            await send(running, key)
            assert said(caplog) == (1, 0)
            server.start()
            assert await until(lambda: is_up(running), 10.0)
            await send(running, key)
            assert said(caplog) == (1, 1)


@pytest.mark.parametrize("kind", KINDS)
async def test_flushed_and_its_scripts_forgotten(kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with redis_server(kind) as server:
        async with gateway(server.url, tmp_path) as (running, key):
            for command in (("FLUSHALL",), ("SCRIPT", "FLUSH"), ("FLUSHALL",)):
                await send(running, key, 4)
                server.command(*command)
            await send(running, key, 4)
            assert is_up(running)
            assert said(caplog) == (0, 0)


async def test_wrong_password(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with redis_server("redis", "--requirepass", "right") as server:
        url = server.url.replace("redis://", "redis://:wrong-canary@")
        async with gateway(url, tmp_path) as (running, key):
            await send(running, key)
            assert not is_up(running)
            assert said(caplog) == (1, 0)
            assert "canary" not in caplog.text + (await running.client.get("/metrics")).text


async def test_something_else_listens_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A server that accepts, and says things that are not Redis."""

    async def lie(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n$5\r\nhello\r\n*-9\r\n" * 3)
        with contextlib.suppress(ConnectionError):
            await reader.read(1000)
        writer.close()

    liar = await asyncio.start_server(lie, "127.0.0.1", 0)
    port = liar.sockets[0].getsockname()[1]
    async with gateway(f"redis://127.0.0.1:{port}", tmp_path) as (running, key):
        await send(running, key)
        assert not is_up(running)
        assert said(caplog) == (1, 0)
    liar.close()


async def test_a_listener_that_never_accepts(tmp_path: Path) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        async with gateway(f"redis://127.0.0.1:{deaf.getsockname()[1]}", tmp_path) as (running, key):
            await send(running, key)
            assert not is_up(running)

"""Clients that send slowly, too much, or nothing at all: they are cut off, and nobody else notices. (Faults 17 and 18.)"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from tests.gateways import Running, chat, pair, until

SECONDS = {"header_seconds": 1, "body_seconds": 1}
REQUEST = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"


async def is_closed(reader: asyncio.StreamReader, seconds: float = 10) -> bool:
    """Whether the gateway closes the connection within so long."""
    try:
        async with asyncio.timeout(seconds):
            while await reader.read(65536):
                pass
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    return True


async def served(running: Running) -> bool:
    return (await running.post(**chat())).status_code == 200


async def test_a_head_that_never_ends_is_not_waited_for() -> None:
    async with pair(server=SECONDS) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(REQUEST)

        async def drip() -> None:
            while True:
                writer.write(b"x-a: b\r\n")
                await asyncio.sleep(0.1)

        dripping = asyncio.create_task(drip())
        assert await served(running)
        assert await is_closed(reader)
        dripping.cancel()
        writer.close()
        assert await served(running)


async def test_a_body_that_never_ends_is_not_waited_for() -> None:
    async with pair(server=SECONDS) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(REQUEST + b"content-length: 1000\r\n\r\n{")
        assert await served(running)
        assert await is_closed(reader)
        writer.close()
        backends = [backend for one in running.gateway.fleet for backend in one.pool.backends]
        assert all(backend.inflight == 0 for backend in backends)


async def test_connections_that_say_nothing_are_closed_and_nobody_waits_for_them() -> None:
    async with pair(server=SECONDS) as running, AsyncExitStack() as stack:
        readers = []
        for _ in range(300):
            reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
            stack.callback(writer.close)
            readers.append(reader)
        assert await served(running)
        assert all(await asyncio.gather(*(is_closed(reader) for reader in readers)))


@pytest.mark.parametrize(
    "head",
    [
        b"".join(b"x-%d: %s\r\n" % (number, b"a" * 1000) for number in range(150)),
        b"x-one: " + b"a" * 100_000 + b"\r\n",
        b"".join(b"x-%d: a\r\n" % number for number in range(1000)),
    ],
    ids=["150 kB", "one of 100 kB", "1000 headers"],
)
async def test_a_head_beyond_the_bounds_is_refused(head: bytes) -> None:
    async with pair() as running:
        answer = await running.raw(REQUEST + head + b"content-length: 2\r\n\r\n{}")
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b'"code":"invalid_value"' in answer
        assert await served(running)


async def test_a_conversation_with_pauses_keeps_its_connection() -> None:
    async with pair(server=SECONDS) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        for _ in range(2):
            writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
            assert b"200 OK" in await asyncio.wait_for(reader.readuntil(b"}"), 5)
            await asyncio.sleep(2.2)
        writer.close()
        assert await until(lambda: True)

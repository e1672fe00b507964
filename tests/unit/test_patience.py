"""Connections of clients that send too slowly, take too slowly, or send too much of a head. (Faults 16, 17.)"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn

from gateway.sections.server import ServerSection
from gateway.serving import asgi
from gateway.serving.connection import House, protocol
from gateway.serving.inbound import Inbound
from gateway.serving.patience import hurry
from tests.gateways import until

GET = b"GET / HTTP/1.1\r\nhost: x\r\n"
POST = b"POST / HTTP/1.1\r\nhost: x\r\n"
QUICK = ServerSection(header_seconds=0.4, body_seconds=0.4, write_seconds=0.4)
SLOW = ServerSection(header_seconds=30, body_seconds=30, write_seconds=30)
Message = MutableMapping[str, Any]


class Echo:
    """Reads a body and says how long it was. `/large` is some MB, `/half` breaks off amid it, `/full` is answered before it was read."""

    def __init__(self) -> None:
        self.seen = 0
        self.left = 0

    async def __call__(self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]) -> None:
        size = 0
        if scope["path"] == "/full":
            await send({"type": "http.response.start", "status": 413, "headers": [(b"content-length", b"4")]})
            await send({"type": "http.response.body", "body": b"full"})
            return
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.left += 1
                return
            size += len(message["body"])
            if not message.get("more_body"):
                break
        self.seen += 1
        if scope["path"] == "/slow":
            await asyncio.sleep(1.0)
        body = b"%d" % size if scope["path"] not in ("/large", "/half") else b"x" * 20_000_000
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        if scope["path"] == "/half":
            await send({"type": "http.response.body", "body": body[:10_000_000], "more_body": True})
            return
        await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def door(section: ServerSection = QUICK, keep_alive: int = 75) -> AsyncIterator[tuple[uvicorn.Server, Echo, int]]:
    app = Echo()

    async def serve(inbound: Inbound) -> None:
        await asgi.serve(app, inbound, *inbound.url(), {})

    settings: dict[str, Any] = {
        "http": protocol(House(serve, lambda: section, lambda: False)),
        "ws": "none",
        "lifespan": "off",
        "log_level": "error",
    }
    config = uvicorn.Config(app, port=0, timeout_keep_alive=keep_alive, **settings)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    assert await until(lambda: server.started or task.done(), 20)
    hurrying = asyncio.create_task(hurry(lambda: server.server_state.connections))
    try:
        yield server, app, server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        server.force_exit = True
        hurrying.cancel()
        await task


async def closed(reader: asyncio.StreamReader, seconds: float = 20) -> bytes:
    """What came until the other side closed."""
    async with asyncio.timeout(seconds):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""


@pytest.mark.parametrize(
    "opening",
    [b"", b"\r\n", b"GET", GET, GET + b"x-endless: yes\r\n", POST + b"content-length: 10\r\n\r\n123"],
    ids=["silence", "an empty line", "a word", "a head", "more of a head", "half a body"],
)
async def test_whoever_is_too_slow_is_hung_up_on(opening: bytes) -> None:
    async with door() as (server, _, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(opening)
        assert await closed(reader) == b""
        assert await until(lambda: not server.server_state.connections, 10)
        writer.close()


async def test_an_empty_line_after_an_answer_buys_no_time() -> None:
    async with door() as (_, _, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET + b"\r\n")
        await reader.readuntil(b"\r\n\r\n0")
        writer.write(b"\r\n")
        assert await closed(reader) == b""
        writer.close()


@pytest.mark.parametrize("opening", [GET, POST + b"content-length: 100000\r\n\r\n"], ids=["head", "body"])
async def test_a_byte_now_and_then_is_too_slow_as_well(opening: bytes) -> None:
    async with door() as (_, app, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(opening)

        async def drip() -> None:
            while True:
                writer.write(b"x")
                await asyncio.sleep(0.05)

        dripping = asyncio.create_task(drip())
        await closed(reader)
        dripping.cancel()
        writer.close()
        assert app.seen == 0


async def test_half_a_head_behind_a_request_waits_for_its_answer_and_not_for_ever() -> None:
    async with door() as (_, _, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET.replace(b" / ", b" /slow ") + b"\r\n" + GET)
        assert b"200 OK" in await reader.readuntil(b"\r\n\r\n0")
        assert await closed(reader) == b""
        writer.close()


async def test_an_idle_connection_has_its_own_time() -> None:
    async with door(keep_alive=1) as (_, _, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET + b"\r\n")
        assert await closed(reader)
        writer.close()


@pytest.mark.parametrize(
    ("head", "fits"),
    [
        (GET + b"x: " + b"y" * (SLOW.max_header_bytes - 200) + b"\r\n\r\n", True),
        (GET + b"x: " + b"y" * SLOW.max_header_bytes + b"\r\n\r\n", False),
        (GET + b"x: " + b"y" * (4 * SLOW.max_header_bytes), False),
        (b"GET /" + b"y" * (2 * SLOW.max_header_bytes), False),
        (GET + b"".join(b"x-%d: y\r\n" % n for n in range(SLOW.max_headers - 10)) + b"\r\n", True),
        (GET + b"".join(b"x-%d: y\r\n" % n for n in range(SLOW.max_headers + 10)) + b"\r\n", False),
        (POST + b"content-length: 200000\r\n\r\n" + b"z" * 200_000, True),
    ],
    ids=["large", "too large", "no end", "a long path", "many", "too many", "a body with it"],
)
@pytest.mark.parametrize("piece", [10**9, 5_000], ids=["at once", "in pieces"])
async def test_heads_have_a_size(head: bytes, fits: bool, piece: int) -> None:
    async with door(SLOW) as (_, app, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            for start in range(0, len(head), piece):
                writer.write(head[start : start + piece])
                await writer.drain()
                await asyncio.sleep(0)
            answer = await reader.readuntil(b"}}" if not fits else b"\r\n\r\n")
        except (ConnectionResetError, BrokenPipeError, asyncio.IncompleteReadError):
            assert not fits
            answer = b""
        writer.close()
        if fits:
            assert b" 200 " in answer
        else:
            assert app.seen == 0
        if answer and not fits:
            assert answer.startswith(b"HTTP/1.1 400 ")
            assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "invalid_value"


async def test_a_body_that_nobody_wants_is_read_for_a_moment() -> None:
    async with door(SLOW) as (_, _, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(POST.replace(b" / ", b" /full ") + b"content-length: 10000000\r\n\r\n")
        assert b" 413 " in await reader.readuntil(b"full")
        writer.write(b"x" * 100_000)
        assert await closed(reader) == b""
        writer.close()


async def test_after_a_body_that_nobody_wanted_the_connection_can_be_used_again() -> None:
    async with door(SLOW) as (_, _, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(POST.replace(b" / ", b" /full ") + b"content-length: 10\r\n\r\n01234")
        assert b" 413 " in await reader.readuntil(b"full")
        writer.write(b"56789")
        await asyncio.sleep(1.3)
        writer.write(GET + b"\r\n")
        assert b" 200 " in await reader.readuntil(b"\r\n\r\n0")
        writer.close()


async def test_what_is_no_request_gets_an_error_of_ours() -> None:
    async with door() as (_, _, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"HELLO\r\n\r\n")
        answer = await closed(reader)
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["type"] == "invalid_request_error"
        writer.close()


async def test_an_answer_that_nobody_takes_is_given_up() -> None:
    async with door() as (server, _, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(GET.replace(b" / ", b" /large ") + b"\r\n")
        await reader.readexactly(500)
        writer.transport.pause_reading()
        assert await until(lambda: not server.server_state.connections, 20)
        writer.transport.abort()


async def test_one_that_is_broken_off_amid_is_given_up_too() -> None:
    async with door() as (server, _, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(GET.replace(b" / ", b" /half ") + b"\r\n")
        await reader.readexactly(500)
        writer.transport.pause_reading()
        assert await until(lambda: not server.server_state.connections, 20)
        writer.transport.abort()


async def test_an_answer_that_is_taken_slowly_arrives() -> None:
    async with door() as (_, _, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET.replace(b" / ", b" /large ") + b"connection: close\r\n\r\n")
        size = 0
        while part := await reader.read(1_500_000):
            size += len(part)
            await asyncio.sleep(0.05)
        assert size > 20_000_000
        writer.close()

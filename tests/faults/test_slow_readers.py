"""Clients that do not read: backpressure up to the backend, bounded memory, and an end. (Fault 16.)"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.faults.fleets import ask, backend, calls, fleet, is_idle, statuses
from tests.gateways import Running, chat, until

PATIENT = {"first_byte": 30, "idle": 30, "total": 100}


@asynccontextmanager
async def reading_nothing(running: Running, body: dict[str, Any], first: int = 500) -> AsyncIterator[asyncio.StreamReader]:
    """A client that reads the first bytes of an answer and then no more. Its window is small, and full soon."""
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    plain.setblocking(False)
    await asyncio.get_running_loop().sock_connect(plain, ("127.0.0.1", running.port))
    reader, writer = await asyncio.open_connection(sock=plain, limit=4096)
    data = json.dumps(body).encode()
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(data) + data)
    await reader.readexactly(first)  # its buffer holds 8 KiB: then it stops reading by itself
    try:
        yield reader
    finally:
        writer.transport.abort()


async def test_the_backend_is_held_back_and_goes_on_when_the_client_does() -> None:
    """Row 16: what is not read is not fetched; buffers along the way hold a few MB at most."""
    async with fleet([["endless"]], timeouts=PATIENT) as running:
        async with reading_nothing(running, chat(stream=True)) as reader:
            record = calls(running.fakes["small-0"])[0]

            async def stands_still() -> bool:
                before = record.bytes_sent
                await asyncio.sleep(0.5)
                return record.bytes_sent == before

            assert await until(stands_still, 40)
            held = record.bytes_sent
            assert held < 30_000_000
            assert record.peer_closed_at_chunk is None, "slowness alone is no reason to give up"

            async def goes_on() -> bool:
                await reader.read(100_000)
                return record.bytes_sent > held

            assert await until(goes_on, 40)
        assert await until(lambda: record.peer_closed_at_chunk is not None, 10)
        assert await until(lambda: is_idle(running), 10)


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_in_the_end_it_is_cut_off_and_nothing_is_kept(stream: bool) -> None:
    """Row 16: a client that takes no byte for `write_seconds` loses its connection, the backend its call, without blame."""
    faults = ["endless"] if stream else []
    words = 24 if stream else 600_000
    async with fleet([faults], timeouts=PATIENT, server={"write_seconds": 1}, words=words) as running:
        async with reading_nothing(running, chat(content="Tell me a story", stream=stream)):
            assert running.stage is not None
            connections = running.stage.server.server_state.connections
            assert connections
            assert await until(lambda: not connections, 30)
        assert await until(lambda: is_idle(running), 10)
        assert (backend(running).breaker.state, backend(running).breaker.in_a_row) == ("closed", 0)


async def test_twenty_of_them_take_nothing_from_the_others() -> None:
    """Row 16: other clients of the same backend are served while slow readers hold their streams."""
    async with fleet([["endless@first=20"]], timeouts=PATIENT) as running:
        async with asyncio.timeout(60):
            slow = [reading_nothing(running, chat(content=f"story {n}", stream=True)) for n in range(20)]
            for one in slow:
                await one.__aenter__()
            assert backend(running).inflight == 20
            assert statuses(await ask(running, 40, at_once=4)) == {200: 40}
            assert statuses(await ask(running, 10, at_once=4, stream=True)) == {200: 10}
            assert backend(running).inflight == 20
            for one in slow:
                await one.__aexit__(None, None, None)
        assert await until(lambda: is_idle(running), 10)

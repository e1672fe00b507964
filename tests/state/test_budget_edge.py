"""A budget holds to the cent: two gateway processes, 64 requests at once at its edge, a hundred times."""

from __future__ import annotations

import asyncio
import json
import math
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from backends.fake.engine import Latency
from gateway.guard.verdicts import PICO
from tests.gateways import chat, fake, model, route, until
from tests.processes import free_port, process, wait_until_ready
from tests.redis_servers import redis_server
from tests.state.callers import Keys

TRIALS = 100
AT_ONCE = 64
MAX_TOKENS = 100
BODY = chat("large", "Say something.", max_tokens=MAX_TOKENS)


@contextmanager
def gateway(config: Path, log: Path) -> Any:
    """A gateway process. Gives its address."""
    port = free_port()
    command = [str(Path(sys.executable).parent / "pointsman"), "serve", "--config", str(config), "--port", str(port)]
    with process(command, log) as started:
        wait_until_ready(f"http://127.0.0.1:{port}/readyz", started, log)
        yield f"http://127.0.0.1:{port}"


@asynccontextmanager
async def two_gateways(folder: Path, keys: Keys, redis_url: str) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Two gateways before an expert that takes its time, so that all requests are there at the same moment."""
    async with fake("large", latency=Latency(ttft=250, seqs=1000)) as large, AsyncExitStack() as stack:
        clients = []
        for number in range(2):
            config = folder / f"gateway-{number}.yaml"
            whole = {
                "models": [model("large", large.url)],
                "routes": [route("large")],
                "redis": {"url": redis_url, "timeout_ms": 5000},
                "auth": keys.auth,
                "ledger": {"path": str(folder / "ledger.jsonl")},
            }
            config.write_text(json.dumps(whole))
            url = stack.enter_context(gateway(config, folder / f"gateway-{number}.log"))
            limits = httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE)
            clients.append(await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=60, limits=limits)))
        yield clients


def spent(server: Any, caller: str) -> tuple[int, int]:
    """What Redis says that a key has spent, and holds (pico-USD)."""
    (name,) = server.command("KEYS", f"*{caller}*:budget:*")
    found = server.command("HMGET", name, "spent", "held")
    return int(found[0] or 0), int(found[1] or 0)


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_exactly_as_many_are_admitted_as_the_budget_pays_for(tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    probe = keys.add(budget_usd=1.0)
    with redis_server() as server:
        trials = []
        async with two_gateways(tmp_path, keys, server.url) as clients:
            task = asyncio.create_task(clients[0].post("/v1/chat/completions", json=BODY, headers=probe))
            assert await until(lambda: bool(server.command("KEYS", "*:held:*")), 5.0)
            reserve = spent(server, keys.id(0))[1]
            assert (await task).status_code == 200
            assert reserve > MAX_TOKENS * 3.0 / 1e6 * PICO
            for number in range(TRIALS):
                budget = reserve * (10 + number % 40) + (number * 7919) % reserve
                trials.append((keys.add(budget_usd=budget / PICO), keys.id(), budget // reserve))
            await asyncio.sleep(2.5)  # the keys file is read anew
            for key, caller, expected in trials:
                sent = (clients[n % 2].post("/v1/chat/completions", json=BODY, headers=key) for n in range(AT_ONCE))
                answers = await asyncio.gather(*sent)
                codes = [answer.status_code for answer in answers]
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

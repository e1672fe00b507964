"""Redis freezes under load and thaws again: what requests feel of it, second by second.

python -m tests.benchmarks.frozen_redis [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import uvloop

from tests.gateways import chat, model, route, until
from tests.processes import free_port, process, wait_until_ready
from tests.redis_servers import RedisServer, redis_server
from tests.state.callers import Keys

RATE = 150
CONNECTIONS = 16
HEALTHY, FROZEN, THAWED = 4, 5, 6
AFTER = 0.05
"""Seconds into the first frozen second when Redis freezes: no request that it meets then belongs to the second before."""
BIN = str(Path(sys.executable).parent / "pointsman")


class Load:
    """Sends RATE requests a second, half of them with prompts that were never asked. Latencies in ms by the second in which a request
    was due, and from that moment; errors by the same seconds. `late`: ms by which the generator itself was late, part of the latency.
    """

    def __init__(self, client: httpx.AsyncClient, key: dict[str, str]) -> None:
        self._client = client
        self._key = key
        self.latencies: dict[int, list[float]] = {}
        self.errors: dict[int, int] = {}
        self.late: list[float] = []

    async def run(self, seconds: int) -> None:
        started = time.perf_counter()
        tasks = []
        for number in range(seconds * RATE):
            due = started + number / RATE
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.append(asyncio.create_task(self._send(number, due)))
        await asyncio.gather(*tasks)

    async def _send(self, number: int, due: float) -> None:
        body = chat(content=f"question {number if number % 2 else 0}", max_tokens=20)
        second = number // RATE
        self.late.append((time.perf_counter() - due) * 1000)
        try:
            answer = await self._client.post("/v1/chat/completions", json=body, headers=self._key)
            failed = answer.status_code != 200
        except httpx.HTTPError:
            failed = True
        self.latencies.setdefault(second, []).append((time.perf_counter() - due) * 1000)
        self.errors[second] = self.errors.get(second, 0) + failed


async def run(server: RedisServer | None, folder: Path) -> dict[str, Any]:
    """One run; without a server the same load without Redis."""
    keys = Keys(folder)
    key = keys.add(rpm=10**6, tpm=10**9, budget_usd=10**6)
    with ExitStack() as stack:
        port, expert = free_port(), free_port()
        stack.enter_context(process([BIN, "fake-vllm", "--model", "small", "--port", str(expert)], folder / "expert.log"))
        whole: dict[str, Any] = {
            "models": [model("small", f"http://127.0.0.1:{expert}/v1")],
            "routes": [route("small")],
            "auth": keys.auth,
            "ledger": {"path": str(folder / "ledger.jsonl")},
        }
        if server is not None:
            whole["redis"] = {"url": server.url}
        config, log = folder / "gateway.yaml", folder / "gateway.log"
        config.write_text(json.dumps(whole))
        started = stack.enter_context(process([BIN, "serve", "--config", str(config), "--port", str(port)], log))
        wait_until_ready(f"http://127.0.0.1:{port}/readyz", started, log)
        limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20, limits=limits) as client:
            await Load(client, key).run(1)
            load = Load(client, key)
            working = asyncio.create_task(load.run(HEALTHY + FROZEN + THAWED))
            back = None if server is None else await _freeze(server, client)
            await working
        lines = log.read_text().splitlines()
        said = [sum("is away" in line for line in lines), sum("is back" in line for line in lines)]
    return {"seconds": load.latencies, "errors": load.errors, "late": load.late, "back_after": back, "said": said}


async def _freeze(server: RedisServer, client: httpx.AsyncClient) -> float:
    """Freezes and thaws; returns how many seconds after the thaw the gateway uses Redis again."""
    await asyncio.sleep(HEALTHY + AFTER)
    server.freeze()
    await asyncio.sleep(FROZEN)
    server.thaw()
    thawed = time.perf_counter()

    async def is_back() -> bool:
        return "pointsman_redis_up 1.0" in (await client.get("/metrics")).text

    await until(is_back, 10)
    return time.perf_counter() - thawed


def p99(latencies: list[float]) -> float:
    return statistics.quantiles(latencies, n=100)[98]


def summary(with_redis: dict[str, Any], without: dict[str, Any]) -> dict[str, Any]:
    """Figures in ms and seconds. `added` is against the median of the healthy seconds' p99 in the same run: of as many requests each, and
    a pause of the generator in one of them does not hide what is added.
    """
    seconds, plain = with_redis["seconds"], without["seconds"]
    healthy = statistics.median(p99(seconds[s]) for s in range(HEALTHY))
    later = [x for s in range(HEALTHY + 1, HEALTHY + FROZEN) for x in seconds[s]]
    return {
        "healthy_p99_ms": healthy,
        "first_frozen_second_added_p99_ms": p99(seconds[HEALTHY]) - healthy,
        "first_frozen_second_worst_ms": max(seconds[HEALTHY]),
        "later_frozen_p50_ms": statistics.median(later),
        "later_frozen_p99_ms": p99(later),
        "later_frozen_p99_by_second_ms": [round(p99(seconds[s]), 2) for s in range(HEALTHY + 1, HEALTHY + FROZEN)],
        "without_redis_p50_ms": statistics.median([x for found in plain.values() for x in found]),
        "without_redis_p99_ms": p99([x for found in plain.values() for x in found]),
        "back_after_s": with_redis["back_after"],
        "log_lines": with_redis["said"],
        "errors": sum(with_redis["errors"].values()) + sum(without["errors"].values()),
        "generator_late_p99_ms": p99(with_redis["late"] + without["late"]),
        "generator_late_worst_ms": [max(with_redis["late"]), max(without["late"])],
    }


def measure() -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The summary, the run with Redis, and the one without."""
    gc.collect()
    gc.disable()  # a collection in the generator takes 30 to 75 ms, as long as what is measured
    try:
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other, redis_server() as server:
            with_redis = uvloop.run(run(server, Path(one)))
            without = uvloop.run(run(None, Path(other)))
    finally:
        gc.enable()
    return summary(with_redis, without), with_redis, without


def table(found: dict[str, Any], name: Callable[[int], str]) -> None:
    for second, latencies in sorted(found["seconds"].items()):
        p50 = statistics.median(latencies)
        figures = f"n {len(latencies):4d}   errors {found['errors'][second]}   p50 {p50:7.2f} ms   p99 {p99(latencies):7.2f} ms"
        print(f"{second:3d} s  {name(second):13} {figures}")


def state(second: int) -> str:
    return "healthy" if second < HEALTHY else "frozen" if second < HEALTHY + FROZEN else "thawed"


def main() -> None:
    parser = argparse.ArgumentParser(description="What a frozen Redis costs requests.")
    parser.add_argument("--json", action="store_true")
    as_json = parser.parse_args().json
    found, with_redis, without = measure()
    if as_json:
        print(json.dumps(found))
        return
    table(with_redis, state)
    table(without, lambda _: "without Redis")
    for name, value in found.items():
        print(f"{name:36} {value if not isinstance(value, float) else round(value, 2)}")


if __name__ == "__main__":
    main()

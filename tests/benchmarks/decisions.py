"""How long a decision takes: remembered here, remembered by Redis, taken anew, pinned; and what an allowance in Redis costs.

python -m tests.benchmarks.decisions [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop

from gateway.app import Gateway, build
from gateway.config import validate
from gateway.flow.wire import Wire, read
from gateway.guard.callers import ANYONE, Allowance, Caller
from gateway.policies import build_routes
from gateway.source import Source
from routers.registry import Registry
from tests.gateways import model, route, until
from tests.redis_servers import redis_server

CALLS = 3000
QUESTION = {"role": "user", "content": "What does the pointsman do when two trains want the same track at once? " * 7}
ANSWER = {"role": "assistant", "content": "He lets one of them wait. " * 10}
LIMITED = Caller("key_bench", "bench", allowance=Allowance(rpm=10**8, tpm=10**9, budget_usd=1e6))


def wire(*messages: dict[str, Any]) -> Wire:
    return read("chat", {}, json.dumps({"model": "auto", "max_tokens": 100, "messages": list(messages)}).encode())


def gateway(redis_url: str) -> Gateway:
    whole = {
        "models": [model("small", "http://127.0.0.1:9/v1"), model("large", "http://127.0.0.1:10/v1")],
        "routes": [route("small", "large")],
        "redis": {"url": redis_url, "timeout_ms": 1000},
    }
    config = validate(Source("bench", whole))
    return build(config, build_routes(config, Registry()))


async def timed(call: Callable[[Wire], Awaitable[Any]], before: Callable[[], Wire]) -> dict[str, float]:
    """p50 and p99 of a call, in µs. `before` reads the request, a new one each time as a wire remembers what was read of it; not timed."""
    found = []
    for _ in range(CALLS):
        asked = before()
        started = time.perf_counter()
        await call(asked)
        found.append((time.perf_counter() - started) * 1e6)
    return {"p50": statistics.median(found), "p99": statistics.quantiles(found, n=100)[98]}


async def decide(built: Gateway, asked: Wire, expected: str) -> None:
    decision = await built.decider.decide(built.decider.request(asked, ANYONE), asked, ANYONE)
    assert decision.cache == expected, decision.cache


async def measure(redis_url: str) -> dict[str, dict[str, float]]:
    """Every figure by name."""
    built = gateway(redis_url)
    store = built.memory.store
    assert store is not None
    background = asyncio.create_task(store.run())
    await decide(built, wire(QUESTION), "miss")
    assert await until(lambda: store.pending == 0)

    def first() -> Wire:
        return wire(QUESTION)

    def forgotten() -> Wire:
        built.memory.choices._local._entries.clear()  # so that only Redis knows
        return wire(QUESTION)

    async def anew(asked: Wire) -> None:
        await built.decider.decide(built.decider.request(asked, ANYONE), asked, ANYONE, fresh=True)

    async def reserve(_: Wire) -> None:
        built.guard.limits.release(await built.guard.limits.reserve(LIMITED, 200, 0.001))

    figures = {
        "remembered here": await timed(lambda asked: decide(built, asked, "hit"), first),
        "remembered by Redis": await timed(lambda asked: decide(built, asked, "hit"), forgotten),
        "pinned (conversation in Redis)": await timed(lambda asked: decide(built, asked, "pin"), lambda: wire(QUESTION, ANSWER, QUESTION)),
        "taken anew (scorer cost)": await timed(anew, first),
        "requests, tokens and budget reserved in Redis": await timed(reserve, first),
    }
    background.cancel()
    await asyncio.gather(background, return_exceptions=True)
    await store.aclose()
    built.threads.shutdown()
    return figures


def run() -> dict[str, dict[str, float]]:
    with redis_server() as server:
        return uvloop.run(measure(server.url))


def main() -> None:
    parser = argparse.ArgumentParser(description="How long a decision takes, in µs.")
    parser.add_argument("--json", action="store_true")
    figures = run()
    if parser.parse_args().json:
        print(json.dumps(figures))
        return
    for name, figure in figures.items():
        print(f"{name:<46} p50 {figure['p50']:8.1f} µs   p99 {figure['p99']:8.1f} µs")


if __name__ == "__main__":
    main()

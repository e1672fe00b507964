"""Many conversations over four servers with prefix caches: time to the first token by how the gateway chooses among them.

python -m tests.benchmarks.prefix_affinity [--policies round_robin,in_flight,default] [--conversations N] [--turns N] [--json]

The servers are fakes that read prompts as slowly as a large model does and keep a bounded prefix cache. All conversations together do
not fit into one cache, but they fit into four. Every policy gets the same conversations, new servers and a new gateway.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import httpx
import uvloop

from tests.processes import free_port, process, wait_until_ready

SERVERS = 4
LATENCY = "large"
"""60 ms before a first token, 150 ms for 1,000 prompt tokens that are not cached, 18 ms for each answer token, 16 requests at once."""
OPENINGS, OPENING_BYTES = 4, 6000
TURN_BYTES = 6000
THINKING_SECONDS = (1.5, 4.5)
AIM = 1.5
"""How many times shorter than with round robin the mean time to the first token must be."""
POLICIES: Mapping[str, list[dict[str, Any]] | None] = {
    "round_robin": [{"type": "round_robin"}],
    "in_flight": [{"type": "in_flight"}],
    "session": [{"type": "session", "weight": 2}, {"type": "in_flight"}],
    "prefix": [{"type": "prefix", "weight": 2}, {"type": "in_flight"}],
    "default": None,
}
_LETTERS = re.compile(r"vllm:(\w+)\{[^}]*\} ([0-9.]+)")


@dataclass
class Found:
    """What one policy brought. `waits`: seconds to the first token of each call, in the order in which they came."""

    waits: list[float] = field(default_factory=list)
    errors: int = 0
    cached: float = 0.0
    busiest: float = 0.0

    def row(self) -> dict[str, float]:
        """Times in ms; `cached`: share of prompt tokens; `busiest`: the busiest server's calls as a multiple of the mean."""
        waits = sorted(1000 * wait for wait in self.waits)
        return {
            "calls": len(waits),
            "errors": self.errors,
            "mean": statistics.fmean(waits),
            "p50": waits[len(waits) // 2],
            "p95": waits[int(len(waits) * 0.95)],
            "cached": self.cached,
            "busiest": self.busiest,
        }


class Conversation:
    """Asks turn after turn, each with all that was said before, and thinks in between. All that it says follows from its number."""

    def __init__(self, number: int, openings: Sequence[str]) -> None:
        self._rng = Random(number)
        self._name = f"conversation-{number}"
        self._messages = [{"role": "system", "content": self._rng.choice(openings)}]

    async def run(self, client: httpx.AsyncClient, turns: int, found: Found) -> None:
        await asyncio.sleep(self._rng.uniform(0, THINKING_SECONDS[1]))
        for _ in range(turns):
            self._messages.append({"role": "user", "content": prose(self._rng, TURN_BYTES)})
            try:
                answer, wait = await self._ask(client)
            except httpx.HTTPError:
                found.errors += 1
                return
            found.waits.append(wait)
            self._messages.append({"role": "assistant", "content": answer})
            await asyncio.sleep(self._rng.uniform(*THINKING_SECONDS))

    async def _ask(self, client: httpx.AsyncClient) -> tuple[str, float]:
        """The answer, and seconds to its first token."""
        body = {"model": "small", "messages": self._messages, "stream": True, "router": {"session": self._name}}
        started, wait, parts = time.perf_counter(), 0.0, []
        async with client.stream("POST", "/v1/chat/completions", json=body) as response:
            response.raise_for_status()
            async for line in response.aiter_lines():
                if line.startswith("data: {"):
                    choices = json.loads(line[6:])["choices"]
                    text = choices[0]["delta"].get("content") if choices else None
                    if text:
                        wait = wait or time.perf_counter() - started
                        parts.append(text)
        return "".join(parts), wait


def prose(rng: Random, size: int) -> str:
    """About `size` letters that no other draw has."""
    words = [f"{rng.getrandbits(40):x}" for _ in range(size // 11)]
    return " ".join(words)


async def converse(port: int, conversations: int, turns: int, seed: int) -> Found:
    rng, found = Random(seed), Found()
    openings = [prose(rng, OPENING_BYTES) for _ in range(OPENINGS)]
    limits = httpx.Limits(max_connections=conversations, max_keepalive_connections=conversations)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60, limits=limits) as client:
        talks = [Conversation(seed * 1_000_003 + number, openings) for number in range(conversations)]
        await asyncio.gather(*(talk.run(client, turns, found) for talk in talks))
    return found


def measure(policy: str, conversations: int, turns: int, seed: int, folder: Path) -> Found:
    """One policy, with processes of its own."""
    with ExitStack() as stack:
        ports = [free_port() for _ in range(SERVERS)]
        command = [sys.executable, "-m", "gateway"]
        for port in ports:
            log = folder / f"{policy}-{port}.log"
            fake = [*command, "fake-vllm", "--model", "small", "--port", str(port), "--latency", LATENCY, "--words", "12"]
            wait_until_ready(f"http://127.0.0.1:{port}/health", stack.enter_context(process(fake, log)), log)
        model = {"name": "small", "backends": [f"http://127.0.0.1:{port}/v1" for port in ports], "context_window": 32768}
        scorers = POLICIES[policy]
        config, log, port = folder / f"{policy}.yaml", folder / f"{policy}.log", free_port()
        config.write_text(json.dumps({"models": [model], **({} if scorers is None else {"balancing": {"scorers": scorers}})}))
        serve = [*command, "serve", "--config", str(config), "--port", str(port)]
        wait_until_ready(f"http://127.0.0.1:{port}/readyz", stack.enter_context(process(serve, log)), log)
        found = uvloop.run(converse(port, conversations, turns, seed))
        read = [figures(port) for port in ports]
    found.cached = sum(one["prefix_cache_hits_total"] for one in read) / max(1.0, sum(one["prefix_cache_queries_total"] for one in read))
    calls = [one["time_to_first_token_seconds_count"] for one in read]
    found.busiest = max(calls) / max(1.0, statistics.fmean(calls))
    return found


def figures(port: int) -> dict[str, float]:
    """What a server counted."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
        return {name: float(value) for name, value in _LETTERS.findall(response.read().decode())}


def main() -> None:
    parser = argparse.ArgumentParser(description="Time to the first token by how backends are chosen.")
    parser.add_argument("--policies", default="round_robin,in_flight,default", help=", ".join(POLICIES))
    parser.add_argument("--conversations", type=int, default=64)
    parser.add_argument("--turns", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        for policy in options.policies.split(","):
            rows[policy] = measure(policy, options.conversations, options.turns, options.seed, Path(folder)).row()
    naive, ours = rows.get("round_robin"), rows.get("default")
    better = None if naive is None or ours is None else naive["mean"] / ours["mean"]
    if options.json:
        print(json.dumps({"policies": rows, "better": better}))
    else:
        print(f"{'policy':12} {'calls':>6} {'errors':>6} {'mean':>9} {'p50':>9} {'p95':>9} {'cached':>7} {'busiest':>8}")
        for policy, row in rows.items():
            times = " ".join(f"{row[name]:6.0f} ms" for name in ("mean", "p50", "p95"))
            print(f"{policy:12} {row['calls']:6.0f} {row['errors']:6.0f} {times} {row['cached']:6.1%} {row['busiest']:7.2f}x")
        if better is not None:
            print(f"the mean time to the first token is {better:.2f} times shorter than with round robin; at least {AIM} is asked for")
    sys.exit(1 if any(row["errors"] for row in rows.values()) or (better is not None and better < AIM) else 0)


if __name__ == "__main__":
    main()

"""What a gateway still does when more is asked of its backends than they can do: with admission, and without.

python -m tests.benchmarks.goodput [--seconds S] [--json]

Requests come at random (Poisson, open loop) at 0.5, 1, 2 and 4 times what the backends can do. An answer is good if its first token is
there within FIRST seconds and all of it within TOTAL; whoever has no first token after PATIENCE seconds leaves. Exit code 1 if goodput
with admission at four times the capacity is below 90 % of its peak, or if the first tokens of what was admitted are not in time.
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
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import uvloop

from tests.gateways import chat, model
from tests.processes import free_port, process, wait_until_ready

FIRST, TOTAL, PATIENCE = 2.0, 3.0, 6.0
LOADS = (0.5, 1.0, 2.0, 4.0)
WARM_UP = 5.0
BACKENDS, SEQS = 2, 8
LATENCY = f"ttft=60,tpot=25,seqs={SEQS}"
WORDS = 10
BIN = str(Path(sys.executable).parent / "pointsman")
QUEUE = {"interactive": {"max_wait_seconds": 1.0}, "batch": {"max_wait_seconds": 60}}
MODES: dict[str, dict[str, Any]] = {
    "none": {},
    "fixed": {"admission": {"max_inflight": SEQS, "queue": QUEUE}},
    "adaptive": {"admission": {"max_inflight": "adaptive", "queue": QUEUE}},
}


@dataclass(slots=True)
class Call:
    """One request. Seconds from when it was due; None: never. `status`: 0 if the client left before it knew."""

    due: float
    status: int = 0
    first: float | None = None
    total: float | None = None
    retry_after: int | None = None

    @property
    def good(self) -> bool:
        return self.first is not None and self.total is not None and self.first <= FIRST and self.total <= TOTAL


class Client:
    """Sends streamed requests, each on a connection of its own, and counts time from when each was due."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._sent = 0

    async def send(self, call: Call, began: float) -> None:
        try:
            async with asyncio.timeout(PATIENCE) as patience:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                try:
                    writer.write(self._request())
                    await self._read(reader, call, began, patience)
                finally:
                    writer.close()
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass

    def _request(self) -> bytes:
        self._sent += 1
        body = json.dumps(chat("small", f"Tell me story {self._sent}.", stream=True)).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
        return head.encode() + body

    async def _read(self, reader: asyncio.StreamReader, call: Call, began: float, patience: asyncio.Timeout) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        status = int(head.split(" ", 2)[1])
        if status != 200:
            call.status, call.total = status, time.perf_counter() - began - call.due
            waits = [line[13:] for line in head.split("\r\n") if line.startswith("retry-after: ")]
            call.retry_after = int(waits[0]) if waits else None
            return
        await reader.readuntil(b"data:")
        call.status, call.first = status, time.perf_counter() - began - call.due
        patience.reschedule(None)
        rest = await reader.read(-1)
        if b"[DONE]" in rest:
            call.total = time.perf_counter() - began - call.due


async def offer(port: int, rate: float, seconds: float, seed: int) -> list[Call]:
    """Calls at random, `rate` a second on average, for so many seconds; returns when each has ended."""
    rng, client, calls, tasks = Random(seed), Client(port), [], []
    due, began = 0.0, time.perf_counter()
    while (due := due + rng.expovariate(rate)) < seconds:
        await asyncio.sleep(max(0.0, began + due - time.perf_counter()))
        call = Call(due)
        calls.append(call)
        tasks.append(asyncio.create_task(client.send(call, began)))
    await asyncio.gather(*tasks)
    return calls


async def capacity(ports: list[int], seconds: float) -> float:
    """Answers a second that the backends give when exactly as many calls as they have places are with them all the time."""
    end = time.perf_counter() + seconds
    done = 0

    async def worker(client: Client) -> None:
        nonlocal done
        while (began := time.perf_counter()) < end:
            call = Call(0.0)
            await client.send(call, began)
            done += call.total is not None

    began = time.perf_counter()
    await asyncio.gather(*(worker(client) for client in map(Client, ports) for _ in range(SEQS)))
    return done / (time.perf_counter() - began)


def figures(calls: list[Call], seconds: float) -> dict[str, float]:
    """Of the calls that were due after the warm-up. Rates are per second, times in seconds."""
    counted = [call for call in calls if call.due >= WARM_UP]
    admitted = [call for call in counted if call.first is not None]
    first = sorted(call.first for call in admitted if call.first is not None)
    refused = [call for call in counted if call.status >= 400]
    span = seconds - WARM_UP
    return {
        "offered": len(counted) / span,
        "goodput": sum(call.good for call in counted) / span,
        "late": sum(not call.good for call in admitted) / span,
        "left": sum(call.status == 0 for call in counted) / span,
        "rejected": len(refused) / span,
        "rejected_after": statistics.median(call.total or 0.0 for call in refused) if refused else 0.0,
        "retry_after": statistics.median(call.retry_after or 0 for call in refused) if refused else 0.0,
        "first_p50": first[len(first) // 2] if first else 0.0,
        "first_p99": first[min(len(first) - 1, int(len(first) * 0.99))] if first else 0.0,
    }


@contextmanager
def fakes(folder: Path) -> Iterator[list[int]]:
    with ExitStack() as stack:
        ports = [free_port() for _ in range(BACKENDS)]
        for port in ports:
            command = [BIN, "fake-vllm", "--model", "small", "--port", str(port), "--latency", LATENCY, "--words", str(WORDS)]
            log = folder / f"expert-{port}.log"
            wait_until_ready(f"http://127.0.0.1:{port}/health", stack.enter_context(process(command, log)), log)
        yield ports


@contextmanager
def gateway(folder: Path, ports: list[int], sections: Mapping[str, Any]) -> Iterator[int]:
    port, config, log = free_port(), folder / "gateway.yaml", folder / "gateway.log"
    urls = [f"http://127.0.0.1:{expert}/v1" for expert in ports]
    config.write_text(json.dumps({"models": [model("small", *urls)], **sections}))
    with process([BIN, "serve", "--config", str(config), "--port", str(port)], log) as started:
        wait_until_ready(f"http://127.0.0.1:{port}/readyz", started, log)
        yield port


def measure(seconds: float) -> dict[str, Any]:
    """The capacity, and for each mode the figures at each load."""
    gc.collect()
    gc.disable()  # a collection in the generator would be taken for a slow gateway
    found: dict[str, Any] = {}
    try:
        with tempfile.TemporaryDirectory() as name, fakes(Path(name)) as ports:
            found["capacity"] = able = uvloop.run(capacity(ports, 5.0))
            for mode, sections in MODES.items():
                found[mode] = {}
                for load in LOADS:
                    with gateway(Path(name), ports, sections) as port:
                        found[mode][load] = figures(uvloop.run(offer(port, load * able, seconds, seed=1)), seconds)
                    print(f"{mode} at {load:g} x capacity is done", file=sys.stderr, flush=True)
    finally:
        gc.enable()
    return found


def shortcomings(found: Mapping[str, Any]) -> list[str]:
    """What does not hold that should."""
    wrong = []
    for mode in MODES:
        if mode == "none":
            continue
        peak, last = max(row["goodput"] for row in found[mode].values()), found[mode][LOADS[-1]]
        if last["goodput"] < 0.9 * peak:
            wrong.append(f"{mode}: goodput at {LOADS[-1]:g} x is {last['goodput'] / peak:.0%} of its peak, not 90 %")
        if last["first_p99"] > FIRST:
            wrong.append(f"{mode}: the first token's p99 at {LOADS[-1]:g} x is {last['first_p99']:.2f} s, more than {FIRST:g} s")
    return wrong


def table(found: Mapping[str, Any]) -> None:
    print(f"capacity {found['capacity']:.1f} answers/s; good: first token within {FIRST:g} s, all within {TOTAL:g} s; rates per second")
    names = ("goodput", "late", "left", "rejected", "first_p50", "first_p99", "rejected_after", "retry_after")
    print(f"{'admission':10}{'load':>6}{'offered':>9}" + "".join(f"{name:>15}" for name in names))
    for mode in MODES:
        for load, row in found[mode].items():
            cells = [f"{row[name]:.{1 if name in names[:4] else 2}f}" for name in names]
            print(f"{mode:10}{load:>5g}x{row['offered']:>9.1f}" + "".join(f"{cell:>15}" for cell in cells))


def main() -> None:
    parser = argparse.ArgumentParser(description="Goodput under overload, with admission and without.")
    parser.add_argument("--seconds", type=float, default=15.0, help="that each load lasts, the warm-up included")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options.seconds)
    wrong = shortcomings(found)
    if options.json:
        print(json.dumps({**found, "wrong": wrong}))
    else:
        table(found)
        print("\n".join(wrong) or "holds: goodput at 4 x is at least 90 % of the peak, and what is admitted is in time")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()

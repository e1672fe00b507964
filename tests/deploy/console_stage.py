"""What the console has to show: a trained router, other routes, keys with budgets, two gateways over one Redis, experts that differ."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq

from tests.processes import free_port, process, wait_until_ready
from tests.redis_servers import redis_server

ADMIN, USER = "pm_console-admin", "pm_console-user"
EXPERTS = (  # name, prices, skill, latency
    ("small", (0.05, 0.10), 0.3, "ttft=15,tpot=2,seqs=16"),
    ("medium", (0.20, 0.60), 0.6, "ttft=30,tpot=4,seqs=12"),
    ("large", (1.00, 3.00), 1.0, "ttft=60,tpot=6,seqs=8"),
)
KINDS: Mapping[str, tuple[Sequence[str], Mapping[str, float]]] = {
    "facts": (
        ("What is the capital of {a}?", "Name a river in {a}.", "Which language do people speak in {a}?"),
        {"small": 0.80, "medium": 0.86, "large": 0.93},
    ),
    "sums": (
        ("What is {n} + {m}?", "What is {n} * {m}? Give just the number.", "Divide {n} by {m}."),
        {"small": 0.25, "medium": 0.85, "large": 0.92},
    ),
    "code": (
        (
            "Write a python function that sorts {n} items by {a}.",
            "Mend this code: for i in range({n}): print(i",
            "Write SQL that counts {a}.",
        ),
        {"small": 0.15, "medium": 0.45, "large": 0.90},
    ),
}
PLACES = ("France", "Bhutan", "Chile", "Norway", "Kenya", "Japan", "Peru", "Latvia", "Oman", "Fiji", "Ghana", "Malta")
COST = {"small": 0.00002, "medium": 0.00011, "large": 0.00055}


def prompts(count: int, seed: int) -> list[tuple[str, str]]:
    """Kinds and prompts, always the same for a seed."""
    rng = random.Random(seed)
    found = []
    for _ in range(count):
        kind = rng.choice(list(KINDS))
        text = rng.choice(KINDS[kind][0]).format(a=rng.choice(PLACES), n=rng.randint(2, 999), m=rng.randint(2, 99))
        found.append((kind, text))
    return found


def write_outcomes(path: Path, count: int = 420) -> None:
    """A table of made-up outcomes: three models, three kinds of prompts."""
    rng = random.Random(7)
    rows = []
    for number, (kind, text) in enumerate(prompts(count, 11)):
        split = "train" if number % 2 else "validation" if number % 4 else "test"
        for model, chance in KINDS[kind][1].items():
            rows.append(
                {
                    "query_id": f"q{number}",
                    "dataset": kind,
                    "split": split,
                    "prompt": f"{text} ({number})",
                    "model": model,
                    "score": float(rng.random() < chance),
                    "cost_usd": COST[model] * rng.uniform(0.6, 1.4),
                    "tokens_in": 20,
                    "tokens_out": 120,
                    "latency_s": 0.5,
                }
            )
    pq.write_table(pa.Table.from_pylist(rows), path)


@dataclass
class Stage:
    """What runs. `gateways`: their addresses."""

    gateways: list[str]
    folder: Path
    stack: ExitStack
    processes: list[Popen[bytes]]

    def talk(self, number: int, count: int, key: str = USER, seed: int = 3) -> None:
        """Sends requests of all kinds to a gateway."""
        with httpx.Client(base_url=self.gateways[number], headers={"authorization": f"Bearer {key}"}, timeout=60) as client:
            for place, (_, text) in enumerate(prompts(count, seed)):
                route = ("auto", "auto", "auto", "plain", "careful")[place % 5]
                body: dict[str, Any] = {"model": route, "messages": [{"role": "user", "content": text}], "max_tokens": 60}
                if route != "careful":
                    body["stream"] = place % 3 == 0
                client.post("/v1/chat/completions", json=body)

    def stop(self, number: int) -> None:
        """Ends a gateway at once."""
        self.processes[number].kill()
        self.processes[number].wait(10)

    def start(self, number: int) -> None:
        """On the port that it had."""
        self.processes[number] = _start(self.stack, self.folder, number, int(self.gateways[number].rpartition(":")[2]))


@contextmanager
def stage(folder: Path, gateways: int = 2) -> Iterator[Stage]:
    """Starts everything, and ends it. Skips the test without a Redis."""
    write_outcomes(folder / "outcomes.parquet")
    command = [
        sys.executable,
        "-m",
        "gateway",
        "train",
        "knn",
        "--outcomes",
        str(folder / "outcomes.parquet"),
        "--out",
        str(folder / "knn"),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    with ExitStack() as stack:
        redis = stack.enter_context(redis_server())
        ports = {name: free_port() for name, *_ in EXPERTS}
        for name, _, skill, latency in EXPERTS:
            command = [sys.executable, "-m", "gateway", "fake-vllm", "--model", name, "--port", str(ports[name])]
            stack.enter_context(process([*command, "--skill", str(skill), "--latency", latency], folder / f"{name}.log"))
        (folder / "keys.yaml").write_text(json.dumps({"keys": _keys()}))
        (folder / "gateway.yaml").write_text(json.dumps(_configuration(ports, redis.url, folder)))
        made = Stage([], folder, stack, [])
        for number in range(gateways):
            port = free_port()
            made.processes.append(_start(stack, folder, number, port))
            made.gateways.append(f"http://127.0.0.1:{port}")
        yield made


def _start(stack: ExitStack, folder: Path, number: int, port: int) -> Popen[bytes]:
    log = folder / f"gateway-{number}.log"
    command = [sys.executable, "-m", "gateway", "serve", "--config", str(folder / "gateway.yaml"), "--port", str(port)]
    started = stack.enter_context(process(command, log))
    wait_until_ready(f"http://127.0.0.1:{port}/readyz", started, log, seconds=90)
    return started


def _keys() -> list[dict[str, Any]]:
    def entry(key: str, name: str, **more: Any) -> dict[str, Any]:
        return {"id": key.removeprefix("pm_"), "name": name, "sha256": hashlib.sha256(key.encode()).hexdigest(), **more}

    return [
        entry(ADMIN, "The operator", role="admin"),
        entry(USER, "Search team", budget_usd=0.02, rpm=6000),
        entry("pm_batch", "Nightly summaries", budget_usd=50.0, budget_window="day", priority="batch", models=["small", "medium"]),
        entry("pm_old", "A trial of last spring", expires="2026-05-01"),
    ]


def _configuration(ports: Mapping[str, int], redis: str, folder: Path) -> dict[str, Any]:
    names = [name for name, *_ in EXPERTS]
    rules = [
        {"when": {"code": True}, "prefer": {"small": 0.2, "medium": 0.6, "large": 1.0}},
        {"when": {"maths": True}, "prefer": {"small": 0.3, "medium": 0.9, "large": 0.9}},
        {"prefer": {"small": 0.8, "medium": 0.8, "large": 0.9}},
    ]
    learned = [{"type": "knn", "artifact": str(folder / "knn"), "weight": 1.0}, {"type": "cost", "weight": 0.3}]
    ruled = [{"type": "rules", "rules": rules}, {"type": "cost", "weight": 0.4}]
    cascade = {"type": "cascade", "judge": {"type": "agreement"}, "max_calls": 3}
    policies: Mapping[str, dict[str, Any]] = {
        "auto": {"scorers": learned},
        "plain": {"scorers": ruled},
        "careful": {"scorers": ruled, "planner": cascade},
    }
    return {
        "models": [
            {
                "name": name,
                "backends": [f"http://127.0.0.1:{ports[name]}/v1", *(["http://127.0.0.1:1/v1"] if name == "large" else [])],
                "price": {"input": price[0], "output": price[1]},
                "context_window": 32768,
                "capabilities": ["chat", "completions", "tools", "json_schema"],
            }
            for name, price, *_ in EXPERTS
        ],
        "routes": [
            {"name": name, "models": names, "policy": policy, "default": "medium", "decision_deadline_ms": 2000}
            for name, policy in policies.items()
        ],
        "redis": {"url": redis},
        "auth": {"keys": str(folder / "keys.yaml")},
        "ledger": {"path": str(folder / "ledger.jsonl")},
        "admission": {"max_inflight": 12},
        "health": {"interval_seconds": 1},
        "server": {"drain_seconds": 1},
    }

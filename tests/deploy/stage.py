"""A running demo with everything that dashboards show: experts, gateways, Redis, keys, plans of several calls, and a real Prometheus."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from typing import Any

import httpx
import pytest
import yaml

from tests.deploy.expressions import PROMETHEUS
from tests.processes import free_port, process, wait_until_ready
from tests.redis_servers import RedisServer, redis_server

KEYS: Mapping[str, Mapping[str, Any]] = {
    "pm_rich": {},
    "pm_bounded": {"budget_usd": 100.0},
    "pm_poor": {"budget_usd": 0.000_001},
    "pm_hasty": {"rpm": 2},
    "pm_admin": {"role": "admin"},
}
EXPERTS = (  # name, prices, skill, latency
    ("small-0", (0.05, 0.10), 0.3, "ttft=15,tpot=2,seqs=16"),
    ("small-1", (0.05, 0.10), 0.3, "ttft=15,tpot=2,seqs=16"),
    ("medium-0", (0.20, 0.60), 0.6, "ttft=30,tpot=4,seqs=12"),
    ("large-0", (1.00, 3.00), 1.0, "ttft=60,tpot=6,seqs=8"),
    ("large-1", (1.00, 3.00), 1.0, "ttft=60,tpot=6,seqs=8"),
)


class Server:
    """Prometheus, as who asks it sees it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._client = httpx.Client(base_url=f"{url}/api/v1", timeout=30)

    def close(self) -> None:
        self._client.close()

    def ask(self, path: str, **parameters: Any) -> Any:
        """The data of an answer."""
        answer = self._client.get(path, params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def series(self, expr: str, seconds: float, step: float = 1) -> list[dict[str, Any]]:
        """What an expression was in the last so many seconds; numbers alone."""
        now = time.time()
        found = self.ask("/query_range", query=expr, start=now - seconds, end=now, step=step)["result"]
        return [one for one in found if any(value != "NaN" for _, value in one["values"])]

    def value(self, expr: str) -> float:
        """What an expression is now, all series of it added up."""
        return sum(float(one["value"][1]) for one in self.ask("/query", query=expr)["result"])


@dataclass
class Stage:
    """What runs. `experts`: name -> its process and how it is started."""

    gateways: Sequence[str]
    prometheus: Server
    redis: RedisServer
    experts: dict[str, tuple[Popen[bytes], Sequence[str]]]
    stack: ExitStack
    folder: Path

    def kill(self, expert: str) -> None:
        self.experts[expert][0].kill()

    def start(self, expert: str, *options: str) -> None:
        """On the same port as before. `options`: further ones of `pointsman fake-vllm`, for this time."""
        command = self.experts[expert][1]
        again = self.stack.enter_context(process([*command, *options], self.folder / f"{expert}.log"))
        self.experts[expert] = (again, command)


@contextmanager
def stage(folder: Path, gateways: int = 1, workers: int = 2, scrape_seconds: int = 1) -> Iterator[Stage]:
    """Starts everything, and ends it. Skips the test without Debian's `prometheus` or a Redis."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not installed (apt-get install prometheus)")
    with ExitStack() as stack:
        redis = stack.enter_context(redis_server())
        ports = {name: free_port() for name, *_ in EXPERTS}
        experts: dict[str, tuple[Popen[bytes], Sequence[str]]] = {}
        for name, _, skill, latency in EXPERTS:
            model = name.partition("-")[0]
            command = [sys.executable, "-m", "gateway", "fake-vllm", "--model", model, "--port", str(ports[name])]
            command += ["--skill", str(skill), "--latency", latency]
            experts[name] = (stack.enter_context(process(command, folder / f"{name}.log")), command)
        (folder / "keys.yaml").write_text(json.dumps({"keys": [_entry(key, more) for key, more in KEYS.items()]}))
        (folder / "gateway.yaml").write_text(json.dumps(_configuration(ports, redis.url, folder)))
        urls = [_start_gateway(stack, folder, number, workers) for number in range(gateways)]
        server = Server(_start_prometheus(stack, folder, program, urls, scrape_seconds))
        stack.callback(server.close)
        yield Stage(urls, server, redis, experts, stack, folder)


def _start_gateway(stack: ExitStack, folder: Path, number: int, workers: int) -> str:
    port, log = free_port(), folder / f"gateway-{number}.log"
    command = [sys.executable, "-m", "gateway", "serve", "--config", str(folder / "gateway.yaml"), "--port", str(port)]
    started = stack.enter_context(process([*command, "--workers", str(workers)], log))
    wait_until_ready(f"http://127.0.0.1:{port}/readyz", started, log, seconds=90)
    return f"http://127.0.0.1:{port}"


def _start_prometheus(stack: ExitStack, folder: Path, program: str, gateways: Sequence[str], scrape_seconds: int) -> str:
    """With the configuration and the rules that are shipped, but for where the gateways are and how often it looks."""
    config = yaml.safe_load((PROMETHEUS / "prometheus.yaml").read_text(encoding="utf-8"))
    every = f"{scrape_seconds}s"
    config["global"] = {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every}
    config["scrape_configs"] = [
        {"job_name": config["scrape_configs"][0]["job_name"], "static_configs": [{"targets": [url.partition("//")[2] for url in gateways]}]}
    ]
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    for name in config["rule_files"]:
        rules = yaml.safe_load((PROMETHEUS / name).read_text(encoding="utf-8"))
        for group in rules["groups"]:
            group.pop("interval", None)
        (folder / name).write_text(yaml.safe_dump(rules))
    port, log = free_port(), folder / "prometheus.log"
    command = [
        program,
        f"--config.file={folder}/prometheus.yaml",
        f"--storage.tsdb.path={folder}/tsdb",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    started = stack.enter_context(process(command, log))
    wait_until_ready(f"http://127.0.0.1:{port}/-/ready", started, log, seconds=60)
    return f"http://127.0.0.1:{port}"


def _entry(key: str, more: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": key.removeprefix("pm_"), "name": key, "sha256": hashlib.sha256(key.encode()).hexdigest(), **more}


def _configuration(ports: Mapping[str, int], redis: str, folder: Path) -> dict[str, Any]:
    capabilities = ["chat", "completions", "embeddings", "tools", "json_schema"]
    models: dict[str, dict[str, Any]] = {}
    for name, (price_in, price_out), *_ in EXPERTS:
        section = {"name": name.partition("-")[0], "backends": [], "price": {"input": price_in, "output": price_out}}
        one = models.setdefault(name.partition("-")[0], {**section, "context_window": 32768, "capabilities": capabilities})
        one["backends"].append(f"http://127.0.0.1:{ports[name]}/v1")
    rules = [
        {"when": {"code": True}, "prefer": {"small": 0.2, "medium": 0.6, "large": 1.0}},
        {"when": {"maths": True}, "prefer": {"small": 0.3, "medium": 0.9, "large": 0.9}},
        {"prefer": {"small": 0.8, "medium": 0.8, "large": 0.9}},
    ]
    scorers = [{"type": "rules", "rules": rules}, {"type": "cost", "weight": 0.4}]
    plans = {
        "auto": {"type": "single"},
        "careful": {"type": "cascade", "judge": {"type": "agreement"}, "max_calls": 3},
        "vote": {"type": "ensemble", "k": 3},
    }
    return {
        "models": list(models.values()),
        "routes": [
            {"name": name, "models": list(models), "policy": {"scorers": scorers, "planner": plan}, "default": "medium"}
            for name, plan in plans.items()
        ],
        "redis": {"url": redis},
        "auth": {"keys": str(folder / "keys.yaml")},
        "ledger": {"path": str(folder / "ledger.jsonl")},
        "admission": {
            "max_inflight": "adaptive",
            "adaptive": {"initial": 8, "min": 4, "max": 32},
            "queue": {"interactive": {"size": 8, "max_wait_seconds": 2}},
        },
        "health": {"interval_seconds": 1},
        "server": {"drain_seconds": 1},
    }

"""Gateways and their experts as processes of their own, for clients that are processes too."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.processes import free_port, process, wait_until_ready

BIN = Path(sys.executable).parent
ALL = ["chat", "completions", "embeddings", "tools", "json_schema"]
SUITE = ["gpt-6-astra", "gpt-3.5-turbo-instruct", "text-embedding-3-small", "model"]
"""The models that OpenAI's suite names."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.clients)
            item.add_marker(pytest.mark.timeout(600))  # the first of a kind makes its environment


@pytest.fixture(scope="session")
def experts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """Three experts: name to address, with /v1. Each serves the suite's models too. Ready as soon as a gateway before them is."""
    folder = tmp_path_factory.mktemp("experts")
    ports = {name: free_port() for name in ("small", "medium", "large")}
    with ExitStack() as stack:
        for name, port in ports.items():
            served = [f"--model={one}" for one in [name, *SUITE]]
            command = [str(BIN / "pointsman"), "fake-vllm", "--port", str(port), "--skill", "1", *served]
            stack.enter_context(process(command, folder / f"{name}.log"))
        yield {name: f"http://127.0.0.1:{port}/v1" for name, port in ports.items()}


def over(experts: Mapping[str, str]) -> list[dict[str, Any]]:
    """The models of a configuration."""
    return [
        {"name": name, "backends": [url], "capabilities": ALL, "price": {"input": 0.1 * n, "output": 0.2 * n}}
        for n, (name, url) in enumerate(experts.items(), 1)
    ]


@contextmanager
def gateway(folder: Path, models: Sequence[Mapping[str, Any]], routes: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A gateway's address, with /v1."""
    config, log, port = folder / "gateway.yaml", folder / "gateway.log", free_port()
    config.write_text(json.dumps({"models": models, "routes": routes}), encoding="utf-8")
    with process([str(BIN / "pointsman"), "serve", "--config", str(config), "--port", str(port)], log) as started:
        wait_until_ready(f"http://127.0.0.1:{port}/readyz", started, log)
        yield f"http://127.0.0.1:{port}/v1"


@pytest.fixture(scope="session")
def base_url(experts: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One call makes an answer: a route `auto` over three experts, and the suite's models."""
    named = [{"name": name, "backends": [experts["small"]], "capabilities": ALL} for name in SUITE]
    auto = {"name": "auto", "models": list(experts), "policy": {"scorers": [{"type": "cost"}]}}
    with gateway(tmp_path_factory.mktemp("gateway"), [*over(experts), *named], [auto]) as url:
        yield url


@pytest.fixture(scope="session")
def cascade_url(experts: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Several calls make one: the planner of the suite's models, which are routes, composes an answer; that of `auto` relays the last."""
    scorers = [{"type": "cost"}]
    composes = {"type": "cascade", "judge": {"type": "agreement"}}
    relays = {"type": "cascade", "judge": {"type": "logprob"}, "threshold": 1}
    routes = [{"name": name, "models": list(experts), "policy": {"scorers": scorers, "planner": composes}} for name in SUITE]
    routes.append({"name": "auto", "models": list(experts), "policy": {"scorers": scorers, "planner": relays}})
    with gateway(tmp_path_factory.mktemp("cascade"), over(experts), routes) as url:
        yield url

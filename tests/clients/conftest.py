"""A gateway and its experts as processes of their own, for clients that are processes too."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.processes import free_port, process, wait_until_ready

BIN = Path(sys.executable).parent
ALL = ["chat", "completions", "embeddings", "tools", "json_schema"]
SUITE = ["gpt-6-astra", "gpt-3.5-turbo-instruct", "text-embedding-3-small", "model"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.clients)
            item.add_marker(pytest.mark.timeout(600))  # the first of a kind makes its environment


@pytest.fixture(scope="session")
def base_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a gateway: a route `auto` over three experts, and the models that OpenAI's suite names."""
    folder = tmp_path_factory.mktemp("gateway")
    experts = {name: free_port() for name in ("small", "medium", "large")}
    port = free_port()
    models = [
        {"name": name, "backends": [f"http://127.0.0.1:{at}/v1"], "capabilities": ALL, "price": {"input": 0.1 * n, "output": 0.2 * n}}
        for n, (name, at) in enumerate(experts.items(), 1)
    ]
    models += [{"name": name, "backends": [f"http://127.0.0.1:{experts['small']}/v1"], "capabilities": ALL} for name in SUITE]
    routes = [{"name": "auto", "models": list(experts), "policy": {"scorers": [{"type": "cost"}]}}]
    config = folder / "gateway.yaml"
    config.write_text(json.dumps({"models": models, "routes": routes}), encoding="utf-8")
    commands = [
        [str(BIN / "pointsman"), "fake-vllm", "--port", str(at), "--skill", "1", *(f"--model={m}" for m in [name, *SUITE])]
        for name, at in experts.items()
    ]
    commands.append([str(BIN / "pointsman"), "serve", "--config", str(config), "--port", str(port)])
    with ExitStack() as stack:
        for number, command in enumerate(commands):
            log = folder / f"{number}.log"
            started = stack.enter_context(process(command, log))
        wait_until_ready(f"http://127.0.0.1:{port}/readyz", started, log)
        yield f"http://127.0.0.1:{port}/v1"

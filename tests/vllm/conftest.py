"""Two real LLMs on two real vLLM servers, and the gateway before them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.processes import free_port, process, wait_until_ready
from tests.vllm import servers


@dataclass(frozen=True)
class Stand:
    """`gateway` and `experts`: base URLs that end in /v1."""

    gateway: str
    experts: dict[str, str]

    def root(self, name: str) -> str:
        return self.experts[name].removesuffix("/v1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.vllm)


@pytest.fixture(scope="session")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    why = servers.missing()
    if why is not None:
        pytest.skip(why)
    folder = tmp_path_factory.mktemp("vllm")
    with ExitStack() as stack:
        started = {name: stack.enter_context(servers.vllm(name, folder / f"{name}.log")) for name in servers.FOLDERS}
        for name, (url, running) in started.items():
            wait_until_ready(f"{url.removesuffix('/v1')}/health", running, folder / f"{name}.log", servers.BOOT_SECONDS)
        urls = {name: url for name, (url, _) in started.items()}
        config = folder / "gateway.yaml"
        config.write_text(servers.gateway_config(urls), encoding="utf-8")
        port = free_port()
        command = [str(Path(sys.executable).parent / "pointsman"), "serve", "--config", str(config), "--port", str(port)]
        gateway = stack.enter_context(process(command, folder / "gateway.log"))
        wait_until_ready(f"http://127.0.0.1:{port}/readyz", gateway, folder / "gateway.log")
        yield Stand(f"http://127.0.0.1:{port}/v1", urls)

"""Two real vLLM servers of one model: one is frozen and thawed, the other killed, under load. No whole answer may be lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.processes import free_port, process, wait_until_ready
from tests.vllm import servers

FIRST_BYTE = 15.0
"""Seconds that a backend may take to answer; two servers share a CPU here."""
CLIENTS = 4


@dataclass
class Twins:
    """`gateway`: its root. `servers`: backend name (host and port) to its process."""

    gateway: str
    servers: dict[str, subprocess.Popen[bytes]]

    def states(self) -> dict[str, dict[str, Any]]:
        """What `GET /admin/backends` says of each, by name."""
        found = httpx.get(f"{self.gateway}/admin/backends", timeout=10).json()
        return {one["backend"]: one for one in found["backends"]}


@dataclass
class Load:
    """Clients that ask again and again. `answers`: backend-independent results, an error's text or None, with their time."""

    url: str
    results: list[tuple[float, str | None]] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self, number: int) -> None:
        turn = 0
        with httpx.Client(timeout=120) as client:
            while not self.stop.is_set():
                turn += 1
                body = {"model": "small", "messages": [{"role": "user", "content": f"Count from {number} to {turn}."}], "max_tokens": 8}
                try:
                    answer = client.post(f"{self.url}/v1/chat/completions", json=body)
                    error = None if answer.status_code == 200 and answer.json()["choices"] else f"{answer.status_code} {answer.text}"
                except (httpx.HTTPError, ValueError) as failure:
                    error = repr(failure)
                self.results.append((time.monotonic(), error))

    def since(self, moment: float) -> int:
        return sum(1 for when, error in self.results if when > moment and error is None)


@pytest.fixture
def twins(tmp_path: Path) -> Iterator[Twins]:
    why = servers.missing()
    if why is not None:
        pytest.skip(why)
    with ExitStack() as stack:
        started = [(stack.enter_context(servers.vllm("small", tmp_path / f"{n}.log")), tmp_path / f"{n}.log") for n in range(2)]
        for (url, running), log in started:
            wait_until_ready(f"{url.removesuffix('/v1')}/health", running, log, servers.BOOT_SECONDS)
        model = {"name": "small", "backends": [url for (url, _), _ in started], "capabilities": ["chat", "completions"]}
        config = tmp_path / "gateway.yaml"
        health = {"interval_seconds": 1, "timeout_seconds": 1}
        config.write_text(json.dumps({"models": [model], "health": health, "timeouts": {"first_byte": FIRST_BYTE}}))
        port = free_port()
        command = [str(Path(sys.executable).parent / "pointsman"), "serve", "--config", str(config), "--port", str(port)]
        gateway = stack.enter_context(process(command, tmp_path / "gateway.log"))
        wait_until_ready(f"http://127.0.0.1:{port}/readyz", gateway, tmp_path / "gateway.log")
        yield Twins(f"http://127.0.0.1:{port}", {urlsplit(url).netloc: running for (url, running), _ in started})


def wait_for(condition: Callable[[], bool], seconds: float) -> float | None:
    """Seconds until it came true; None if it did not."""
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        if condition():
            return time.monotonic() - began
        time.sleep(0.1)
    return None


def test_frozen_thawed_and_killed_under_load(twins: Twins) -> None:
    load = Load(twins.gateway)
    threads = [threading.Thread(target=load.run, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    first, second = twins.servers
    try:
        assert wait_for(lambda: len(load.results) > 2 * CLIENTS, 120) is not None
        os.killpg(twins.servers[first].pid, signal.SIGSTOP)
        ejected = wait_for(lambda: twins.states()[first]["state"] != "up", FIRST_BYTE + 3)
        assert ejected is not None
        assert ejected <= FIRST_BYTE + 1
        frozen = time.monotonic()
        assert wait_for(lambda: load.since(frozen) >= CLIENTS, 120) is not None
        os.killpg(twins.servers[first].pid, signal.SIGCONT)
        back = wait_for(lambda: twins.states()[first]["state"] == "up", 60)
        assert back is not None
        assert wait_for(lambda: twins.states()[first]["inflight"] > 0, 60) is not None
        os.killpg(twins.servers[second].pid, signal.SIGKILL)
        killed = time.monotonic()
        gone = wait_for(lambda: twins.states()[second]["state"] != "up", 30)
        assert gone is not None
        assert wait_for(lambda: load.since(killed) >= 2 * CLIENTS, 120) is not None
    finally:
        os.killpg(twins.servers[first].pid, signal.SIGCONT)
        load.stop.set()
        for thread in threads:
            thread.join(180)
    errors = [error for _, error in load.results if error is not None]
    print(f"\n{len(load.results)} requests, {len(errors)} failed; out {ejected:.1f} s after SIGSTOP, back {back:.1f} s after SIGCONT")
    print(f"the killed one out after {gone:.1f} s")
    assert not errors

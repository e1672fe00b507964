"""Several workers on one port: one may die, and all reload and end together."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from backends.fake.engine import Latency
from gateway.supervisor import Deaths, Supervisor, Worker
from gateway.workers import READY as READY_WORD
from gateway.workers import RELOADED, Leash
from tests.faults.test_lifecycle import command, loaded, value
from tests.gateways import fake, model, route, until
from tests.processes import free_port, process, wait_until_ready


def test_workers_start_again_later_and_later_and_at_last_not_at_all() -> None:
    deaths = Deaths(most=5, within=30)
    assert [deaths.add(now) for now in (0, 1, 2, 3, 4)] == [0, 0.5, 1, 2, None]
    assert deaths.add(33.5) == 0.5  # only that at 4 counts still
    assert deaths.add(100) == 0


class Stubs:
    """Workers that do what a line of Python says. `buried`: process ids of those that died."""

    def __init__(self, *lines: str) -> None:
        self._lines = list(lines)
        self.started = 0
        self.buried: list[int] = []

    def start(self) -> Worker:
        ours, theirs = socket.socketpair()
        line = self._lines[min(self.started, len(self._lines) - 1)]
        self.started += 1
        with theirs:
            code = f"import os, sys, time, socket; leash = socket.socket(fileno={theirs.fileno()}); {line}"
            return Worker(subprocess.Popen([sys.executable, "-c", code], pass_fds=[theirs.fileno()], process_group=0), ours)


READY = "leash.send(b'r'); "
WAIT = READY + "leash.recv(1)"
"""A worker in good health, which SIGTERM ends without ceremony."""


def test_a_loop_of_deaths_ends_everything(capfd: pytest.CaptureFixture[str]) -> None:
    stubs = Stubs(WAIT, "sys.exit(3)")
    supervisor = Supervisor(stubs.start, 2, stubs.buried.append, deaths=Deaths(most=3, within=1000))
    assert supervisor.run() == 1
    assert stubs.started == 4  # two at the start, and the second one twice more
    assert len(stubs.buried) == 4
    said = capfd.readouterr().err
    assert "ended with exit code 3; another one starts now" in said
    assert "3 workers died within 1000 s, the last one with exit code 3: giving up" in said


def test_a_file_that_cannot_be_used_now_does_not_end_those_that_run(capfd: pytest.CaptureFixture[str]) -> None:
    parent = os.getpid()
    stubs = Stubs(WAIT, "sys.exit(2)", f"os.kill({parent}, {signal.SIGTERM.value}); " + WAIT)
    clock = iter(range(0, 10**9, 10))  # whatever is due is due at the next look
    supervisor = Supervisor(stubs.start, 2, stubs.buried.append, deaths=Deaths(most=1), clock=lambda: float(next(clock)))
    supervisor.run()
    assert stubs.started == 3
    assert "ended with exit code 2; another one starts in 8 s" in capfd.readouterr().err


def workers_of(parent: int) -> set[int]:
    return {int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()}


def gauges_of(pid: int, beside: int) -> list[Path]:
    """What the worker `pid` has written of its state, found where the worker `beside` writes."""
    environment = Path(f"/proc/{beside}/environ").read_bytes().split(b"\0")
    folder = next(entry.partition(b"=")[2] for entry in environment if entry.startswith(b"PROMETHEUS_MULTIPROC_DIR="))
    return list(Path(os.fsdecode(folder)).glob(f"gauge_live*_{pid}.db"))


async def hashes(url: str) -> set[str]:
    """Of the configurations that are in force in some worker."""
    async with httpx.AsyncClient(timeout=30) as client:
        text = (await client.get(f"{url}/metrics")).text
    return set(re.findall(r'^pointsman_config_info{hash="(\w+)"', text, re.MULTILINE))


class Pair:
    """Two workers under a supervisor."""

    def __init__(self, url: str, started: subprocess.Popen[bytes], log: Path) -> None:
        self.url = url
        self.started = started
        self._log = log

    def ready(self, count: int) -> Callable[[], bool]:
        """Whether so many workers have found their backend since the start."""
        return lambda: self._log.read_text().count("is up") >= count

    def reloads(self, count: int) -> Callable[[], Awaitable[bool]]:
        async def found() -> bool:
            return await value(self.url, 'pointsman_reloads_total{result="ok"}') == count

        return found

    async def lose_one(self) -> int:
        """Kills a worker, and waits for another one. Returns its process id."""
        workers = workers_of(self.started.pid)
        assert len(workers) == 2
        victim, other = sorted(workers)
        assert gauges_of(victim, other)
        os.kill(victim, signal.SIGKILL)
        assert await until(self.ready(3), 60)
        left = workers_of(self.started.pid)
        assert (len(left), victim in left, other in left) == (2, False, True)
        assert gauges_of(victim, other) == []
        return victim


async def test_a_worker_is_killed_all_reload_and_all_end(tmp_path: Path) -> None:
    log, config, port = tmp_path / "log", tmp_path / "gateway.yaml", free_port()
    url = f"http://127.0.0.1:{port}"
    async with fake("small", latency=Latency(tpot=2), words=20) as small:
        settings = {"pre_stop_seconds": 0.5, "drain_seconds": 20}
        whole: dict[str, Any] = {"models": [model("small", small.url)], "routes": [route("small")], "server": settings}
        config.write_text(json.dumps(whole))
        with process(command(config, port, "--workers", "2"), log) as started:
            both = Pair(url, started, log)
            wait_until_ready(f"{url}/readyz", started, log)
            assert await until(both.ready(2), 60)
            async with loaded(url, streams=4, wholes=2) as load:
                assert await until(lambda: len(load.outcomes) > 10, 30)
                counted = await value(url, "pointsman_requests_total")
                victim = await both.lose_one()
                await asyncio.sleep(1)  # clients on a busy machine notice a reset late
                lost = list(load.failed)
                assert len(lost) <= 6  # those that it had
                assert await value(url, "pointsman_requests_total") >= counted
                async with httpx.AsyncClient(timeout=30) as client:
                    answer = await client.post(f"{url}/admin/reload")
                assert answer.status_code == 200
                assert await until(both.reloads(2), 30)
                config.write_text(json.dumps({**whole, "retries": {"budget_minimum": 5}}))
                assert await until(both.reloads(4), 30)
                found = await hashes(url)
                assert len(found) == 1
                assert found != {answer.json()["hash"]}
                started.send_signal(signal.SIGHUP)
                assert await until(both.reloads(6), 30)
                started.send_signal(signal.SIGTERM)
                assert await asyncio.to_thread(started.wait, 60) == 0
            assert load.failed == lost
    said = log.read_text()
    assert f"worker {victim} ended with SIGKILL; another one starts now" in said
    assert "Traceback" not in said


async def test_a_worker_notices_that_nobody_looks_after_it_any_more() -> None:
    ours, theirs = socket.socketpair()
    lost = asyncio.Event()
    leash = Leash(theirs, lost.set)
    listening = asyncio.create_task(leash.run())
    leash.tell()
    ours.setblocking(False)
    words = b""
    while len(words) < 2:
        words += await asyncio.get_running_loop().sock_recv(ours, 64)
    assert sorted(words) == sorted(READY_WORD + RELOADED)
    assert not lost.is_set()
    ours.close()
    await listening
    assert lost.is_set()
    await leash.aclose()

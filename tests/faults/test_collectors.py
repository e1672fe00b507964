"""Whoever takes traces and log lines may be away, or stand still: no request waits for them, and what is lost is counted."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import signal
import socket
import threading
import time
from pathlib import Path

import httpx
import pytest

from gateway.account.journal import Journal
from gateway.account.visit import Visit
from tests.collectors import collector
from tests.faults.test_books_of_plans import counted
from tests.faults.test_lifecycle import command
from tests.gateways import chat, fake, model, pair, route, until
from tests.processes import free_port, process, wait_until_ready


def nobody() -> str:
    """The address of a port at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


async def test_without_a_collector_requests_go_on_and_spans_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with pair(tracing={"endpoint": nobody(), "timeout_seconds": 0.5}) as running:
        for _ in range(20):
            assert (await running.post(**chat())).status_code == 200
        assert await until(lambda: running.gateway.tracing.dropped >= 80, 10)
        assert counted(running, "pointsman_dropped", queue="spans") == running.gateway.tracing.dropped
        assert counted(running, "pointsman_size", store="spans") == 0
        for _ in range(20):
            assert (await running.post(**chat())).status_code == 200
        assert await until(lambda: running.gateway.tracing.dropped >= 160, 10)
    assert [record.getMessage() for record in caplog.records if "traces" in record.getMessage()] == [
        "traces: the collector does not take spans; they are dropped and counted until it does"
    ]


async def test_a_collector_that_stands_still_holds_up_nobody() -> None:
    async with collector("hangs") as found:
        async with pair(tracing={"endpoint": found.url, "timeout_seconds": 30, "queue": 512}) as running:
            for _ in range(300):  # 1,200 spans: 512 are being sent, 512 wait
                assert (await running.post(**chat())).status_code == 200
            assert len(running.gateway.tracing) <= 512
            assert running.gateway.tracing.dropped > 0
            stopped = time.monotonic()
        assert time.monotonic() - stopped < 20  # and not the 30 s for which the exporter would wait


async def test_a_collector_that_comes_back_gets_what_comes_then(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with collector("refuses") as found, pair(tracing={"endpoint": found.url, "timeout_seconds": 1}) as running:
        await running.post(**chat())
        assert await until(lambda: running.gateway.tracing.dropped == 4, 10)
        found.mood = "takes"
        await running.post(**chat())
        assert await until(lambda: len(found.spans) == 4, 10)
        assert running.gateway.tracing.dropped == 4
    assert any("takes spans again; 4 were dropped" in record.getMessage() for record in caplog.records)


async def test_what_waits_is_sent_at_the_end() -> None:
    async with collector() as found:
        async with pair(tracing={"endpoint": found.url}) as running:
            for _ in range(10):
                await running.post(**chat())
        assert len(found.spans) == 40
        assert running.gateway.tracing.dropped == 0


async def test_workers_send_spans_and_show_no_exemplars(tmp_path: Path) -> None:
    log, config, port = tmp_path / "log", tmp_path / "gateway.yaml", free_port()
    url = f"http://127.0.0.1:{port}"
    async with collector() as found, fake("small") as small:
        config.write_text(
            json.dumps({"models": [model("small", small.url)], "routes": [route("small")], "tracing": {"endpoint": found.url}})
        )
        with process(command(config, port, "--workers", "2"), log) as started:
            await asyncio.to_thread(wait_until_ready, f"{url}/readyz", started, log)
            for _ in range(8):
                async with httpx.AsyncClient(timeout=30) as client:
                    assert (await client.post(f"{url}/v1/chat/completions", json=chat())).status_code == 200
            assert await until(lambda: len(found.roots()) == 8, 20)
            async with httpx.AsyncClient(timeout=30) as client:
                shown = (await client.get(f"{url}/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})).text
            started.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(started.wait, 60) == 0
    assert shown.endswith("# EOF\n")
    assert "pointsman_request_duration_seconds_bucket" in shown
    assert "trace_id" not in shown
    assert log.read_text().count(found.roots()[0].trace) == 1


class Stuck(io.StringIO):
    """A reader of lines that takes nothing until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()

    def write(self, text: str) -> int:
        self.go_on.wait(30)
        return super().write(text)


async def test_whoever_reads_the_log_may_stand_still() -> None:
    out = Stuck()
    journal = Journal(out, False, lambda: 1.0)

    def say() -> None:
        journal.refused(Visit(0.0, {}, lambda: "a"), "chat", 401, "invalid_api_key", 0.001)

    say()
    await asyncio.sleep(0.3)
    began = time.monotonic()
    for _ in range(10_050):
        say()
    assert time.monotonic() - began < 10
    await asyncio.sleep(0.3)
    assert (len(journal), journal.dropped) == (10_000, 51)
    out.go_on.set()
    assert await until(lambda: out.getvalue().count("\n") == 10_000 and not len(journal), 5)
    assert journal.dropped == 51


async def test_a_log_that_nobody_reads_any_more_is_counted() -> None:
    out = io.StringIO()
    journal = Journal(out, False, lambda: 1.0)
    out.close()
    journal.refused(Visit(0.0, {}, lambda: "a"), "chat", 401, "invalid_api_key", 0.001)
    assert await until(lambda: journal.dropped == 1)

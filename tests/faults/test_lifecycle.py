"""The end of a process: nobody who came in time is cut off, and who stays too long is told so. (Fault 30, field lesson 15.)"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from backends.fake.engine import Latency
from tests.gateways import Running, chat, events, fake, model, pair, route, until
from tests.processes import free_port, process, wait_until_ready
from tests.state.callers import Keys

STORY = "Tell me a story"
SLOW = Latency(tpot=25)
"""Forty words take a second."""


def stop(running: Running) -> None:
    """As SIGTERM does."""
    assert running.stage is not None
    running.stage.server.stop()


def life(running: Running) -> Any:
    return running.gateway.life


async def closed(running: Running) -> bool:
    """Whether nobody listens any more."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", running.port)
    except OSError:
        return True
    writer.close()
    return False


async def test_requests_are_taken_until_the_balancer_has_noticed_and_then_end_in_peace() -> None:
    settings = {"pre_stop_seconds": 0.8, "drain_seconds": 20}
    async with pair(latency=SLOW, words=40, server=settings) as running:
        early = asyncio.create_task(running.post(**chat("small", STORY, stream=True)))
        assert await until(lambda: running.gateway.fleet["small"].pool.backends[0].inflight == 1)
        stop(running)
        assert await until(lambda: life(running).leaving)
        ready = await running.client.get("/readyz")
        assert (ready.status_code, ready.json()["error"]["code"], ready.headers["connection"]) == (503, "draining", "close")
        assert (await running.client.get("/healthz")).status_code == 200
        late = asyncio.create_task(running.post(**chat("large", STORY, stream=True)))
        whole = asyncio.create_task(running.post(**chat("large", STORY)))
        assert await until(lambda: running.gateway.fleet["large"].pool.backends[0].inflight == 2)
        assert not life(running).refusing
        assert await until(lambda: life(running).refusing, 10)
        assert await until(lambda: closed(running))
        for answer in await asyncio.gather(early, late, whole):
            assert answer.status_code == 200
            assert answer.headers["content-type"] == "application/json" or events(answer.text)[-1] == "[DONE]"


async def test_an_open_connection_gets_an_error_rather_than_silence() -> None:
    async with pair(latency=SLOW, words=40, server={"drain_seconds": 20}) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await reader.readuntil(b'{"status":"ok"}')).startswith(b"HTTP/1.1 200")
        running_stream = asyncio.create_task(running.post(**chat("small", STORY, stream=True)))
        assert await until(lambda: running.gateway.fleet["small"].pool.backends[0].inflight == 1)
        stop(running)
        assert await until(lambda: life(running).refusing)
        body = json.dumps(chat()).encode()
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
        head, _, document = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        assert head.startswith(b"HTTP/1.1 503")
        assert b"connection: close" in head.lower()
        assert b"retry-after: 1" in head.lower()
        assert json.loads(document)["error"]["code"] == "draining"
        assert events((await running_stream).text)[-1] == "[DONE]"


async def test_what_takes_too_long_is_broken_off_and_settled(tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    user = keys.add(tpm=100_000)
    ledger = tmp_path / "ledger.jsonl"
    settings = {"server": {"drain_seconds": 0.3}, "auth": keys.auth, "ledger": {"path": str(ledger)}}
    async with pair(latency=SLOW, words=400, **settings) as running:
        running.client.headers.update(user)
        gateway = running.gateway
        stream = asyncio.create_task(running.post(**chat("small", STORY, stream=True, max_tokens=500)))
        whole = asyncio.create_task(running.post(**chat("large", STORY, max_tokens=500)))
        assert await until(lambda: all(served.pool.backends[0].inflight == 1 for served in gateway.fleet))
        await asyncio.sleep(0.2)
        stop(running)
        streamed, answered = await stream, await whole
        assert streamed.status_code == 200
        assert events(streamed.text)[-1]["error"]["code"] == "draining"
        assert "[DONE]" not in streamed.text
        assert (answered.status_code, answered.json()["error"]["code"]) == (503, "draining")
        assert answered.headers["retry-after"] == "1"
    records = [json.loads(line) for line in ledger.read_text().splitlines()]
    assert {record["error"] for record in records} == {"draining"}
    by_model = {record["chosen"]: record for record in records}
    assert by_model["small"]["estimated"]
    assert by_model["small"]["usage"]["completion_tokens"] > 0
    assert by_model["large"]["usage"] is None
    assert {line["error"] for line in running.lines()} == {"draining"}
    for served in gateway.fleet:
        assert served.pool.backends[0].inflight == 0
    assert not gateway.deadlines


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/route"])
async def test_whoever_is_still_asking_is_told_as_well(path: str) -> None:
    async with pair(server={"drain_seconds": 0.2}) as running:
        assert running.stage is not None
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(b"POST %s HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{" % path.encode())
        assert await until(lambda: bool(running.stage and running.stage.server.server_state.tasks))
        stop(running)
        head, _, document = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        assert head.startswith(b"HTTP/1.1 503")
        assert json.loads(document)["error"]["code"] == "draining"


async def test_a_client_that_reads_nothing_does_not_hold_the_process() -> None:
    async with pair(small=["endless"], server={"drain_seconds": 0.3, "write_seconds": 60}) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port, limit=1024)
        body = json.dumps(chat("small", STORY, stream=True)).encode()
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
        await reader.readuntil(b"data: ")
        await asyncio.sleep(0.5)
        stop(running)
        assert running.stage is not None
        server = running.stage.server
        assert await until(lambda: server.should_exit, 20)
        writer.transport.abort()


def command(config: Path, port: int, *more: str) -> list[str]:
    return [sys.executable, "-m", "gateway", "serve", "--config", str(config), "--port", str(port), *more]


@contextmanager
def serve(config: Path, log: Path, *more: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A gateway as a process of its own, and its address."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with process(command(config, port, *more), log) as started:
        wait_until_ready(f"{url}/readyz", started, log)
        yield started, url


class Load:
    """Asks one thing after another, each on a connection of its own, until nobody listens. `outcomes`: what became of each."""

    def __init__(self, url: str) -> None:
        self._port = int(url.rpartition(":")[2])
        self.outcomes: list[str] = []
        self.over = asyncio.Event()

    @property
    def failed(self) -> list[str]:
        return [outcome for outcome in self.outcomes if outcome != "ok"]

    async def ask(self, stream: bool) -> None:
        body = json.dumps(chat("small", STORY, stream=stream)).encode()
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
        while not self.over.is_set():
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            except ConnectionRefusedError:
                return
            writer.write(head + body)
            try:
                answer = await reader.read()
            except ConnectionError as error:
                self.outcomes.append(type(error).__name__)
                continue
            finally:
                writer.close()
            if b'"draining"' in answer and answer.startswith(b"HTTP/1.1 503"):
                return  # came as the door was closed, and was told so
            whole = answer.startswith(b"HTTP/1.1 200") and answer.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n" if stream else b"}")
            self.outcomes.append("ok" if whole else repr(answer[:20] + answer[-100:]))


@asynccontextmanager
async def loaded(url: str, streams: int = 6, wholes: int = 2) -> AsyncIterator[Load]:
    load = Load(url)
    asking = [asyncio.create_task(load.ask(number < streams)) for number in range(streams + wholes)]
    try:
        yield load
    finally:
        load.over.set()
        await asyncio.gather(*asking)


async def value(url: str, series: str) -> float:
    async with httpx.AsyncClient(timeout=30) as client:
        lines = (await client.get(f"{url}/metrics")).text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(series))


async def test_signals_under_load(tmp_path: Path) -> None:
    """SIGHUP with a broken file, a file that is mended in two steps, and SIGTERM: no request is lost."""
    log, config = tmp_path / "log", tmp_path / "gateway.yaml"
    async with fake("small", latency=Latency(tpot=5), words=40) as small:
        whole = {
            "models": [model("small", small.url)],
            "routes": [route("small")],
            "server": {"pre_stop_seconds": 0.5, "drain_seconds": 20},
        }
        config.write_text(json.dumps(whole))
        with serve(config, log) as (started, url):
            async with loaded(url) as load:
                assert await until(lambda: len(load.outcomes) > 4, 20)
                config.write_text("models: [")
                started.send_signal(signal.SIGHUP)

                async def failed() -> bool:
                    return await value(url, 'pointsman_reloads_total{result="failed"}') >= 1

                async def reloaded() -> bool:
                    return await value(url, 'pointsman_reloads_total{result="ok"}') == 1

                assert await until(failed, 20)
                text = json.dumps({**whole, "retries": {"budget_minimum": 5}})
                with config.open("w") as file:
                    file.write(text[:100])
                    file.flush()
                    await asyncio.sleep(0.1)
                    file.write(text[100:])
                assert await until(reloaded, 20)
                assert await value(url, "pointsman_config_info") == 1
                before = len(load.outcomes)
                assert await until(lambda: len(load.outcomes) > before + 4, 20)
                started.send_signal(signal.SIGTERM)
                code = await asyncio.to_thread(started.wait, 30)
            assert load.failed == []
            assert code == 0
    said = log.read_text()
    assert f"{config}:1: not valid YAML" in said
    assert "SIGTERM: ending" in said
    lines = [json.loads(line) for line in said.splitlines() if line.startswith('{"event"')]
    assert sum(line["status"] == 200 for line in lines) == len(load.outcomes)


async def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    log, config = tmp_path / "log", tmp_path / "gateway.yaml"
    async with fake("small", "hang_after:3") as small:
        config.write_text(json.dumps({"models": [model("small", small.url)], "server": {"drain_seconds": 600}}))
        with serve(config, log) as (started, url):
            asked = chat("small", STORY, stream=True)
            async with httpx.AsyncClient(base_url=url) as client, client.stream("POST", "/v1/chat/completions", json=asked) as response:
                answer = response.aiter_bytes()  # held, or the stream is closed
                await anext(answer)
                started.send_signal(signal.SIGTERM)
                with pytest.raises(subprocess.TimeoutExpired):
                    await asyncio.to_thread(started.wait, 1)
                os.kill(started.pid, signal.SIGTERM)
                began = time.monotonic()
                assert await asyncio.to_thread(started.wait, 30) == -signal.SIGTERM
                assert time.monotonic() - began < 20

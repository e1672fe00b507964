"""Backends that are found while the gateway runs: new ones serve, gone ones finish what they have. (Faults 1, 11, 30.)"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from backends.fake.engine import Latency
from backends.fake.server import FakeServer
from gateway.source import ConfigError
from tests.gateways import Running, chat, events, fake, model, route, serving, until
from tests.unit.backends.discovery.cluster_server import ClusterServer, cluster_server, endpoint, piece
from tests.unit.backends.discovery.dns_server import dns_server

SLOW = Latency(ttft=20, tpot=25)


def names(running: Running) -> set[str]:
    """The backends of the model, by port, that are members now."""
    return {backend.url for backend in running.gateway.fleet["small"].pool.backends}


def calls(server: FakeServer) -> int:
    """Completions that a server was asked for."""
    return sum(record.path.endswith("/chat/completions") for record in server.records)


def usable(running: Running, *urls: str) -> bool:
    return {backend.url for backend in running.gateway.fleet["small"].pool.backends if backend.health == "up"} == set(urls)


async def ask(running: Running, count: int = 8) -> None:
    answers = await asyncio.gather(*(running.post(**chat("small", f"question {number}", max_tokens=8)) for number in range(count)))
    assert [answer.status_code for answer in answers] == [200] * count, [answer.text for answer in answers]


@asynccontextmanager
async def experts(count: int, **more: Any) -> AsyncIterator[list[FakeServer]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(fake("small", **more)) for _ in range(count)]


@asynccontextmanager
async def watching(path: Path, *urls: str, **more: Any) -> AsyncIterator[Running]:
    """A gateway whose only model is found in a file."""
    replace(path, *urls)
    section = model("small", *more.pop("backends", ()), discovery={"type": "file", "path": str(path)})
    async with serving({"models": [section], "routes": [route("small")], "health": {"interval_seconds": 0.2}, **more}) as running:
        yield running


def replace(path: Path, *urls: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(json.dumps(urls))
    new.replace(path)


async def test_a_backend_that_joins_the_file_serves_and_one_that_leaves_finishes(tmp_path: Path) -> None:
    path = tmp_path / "backends.json"
    async with experts(2, latency=SLOW, words=60) as (first, second), watching(path, first.url) as running:
        assert await until(lambda: usable(running, first.url), 10)
        await ask(running)
        replace(path, first.url, second.url)
        assert await until(lambda: usable(running, first.url, second.url), 10)
        await ask(running, 20)
        assert calls(second) > 0
        async with running.client.stream("POST", "/v1/chat/completions", json=chat("small", stream=True)) as stream:
            serves = first if first.engine.running else second
            other = second if serves is first else first
            replace(path, other.url)
            assert await until(lambda: names(running) == {other.url}, 10)
            seen = calls(serves)
            await ask(running)
            assert calls(serves) == seen, "no new calls"
            text = "".join([part async for part in stream.aiter_text()])
        assert events(text)[-1] == "[DONE]", "and the old one goes on to its end"
        replace(path)
        assert await until(lambda: not names(running), 10)
        refused = await running.post(**chat("small"))
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "no_healthy_backend")
        assert (await running.client.get("/readyz")).status_code == 503
        replace(path, first.url)
        assert await until(lambda: usable(running, first.url), 10)
        await ask(running)


async def test_backends_of_the_configuration_stay_whatever_the_file_says(tmp_path: Path) -> None:
    path = tmp_path / "backends.json"
    async with experts(2) as (fixed, found), watching(path, found.url, fixed.url + "/", backends=[fixed.url]) as running:
        assert await until(lambda: usable(running, fixed.url, found.url), 10)
        for content in ("", "[", '["nonsense"]', '{"large": []}'):
            path.write_text(content)
            await asyncio.sleep(0.5)
            assert names(running) == {fixed.url, found.url}, content
            await ask(running, 4)
        replace(path)
        assert await until(lambda: names(running) == {fixed.url}, 10)
        await ask(running, 4)


async def test_a_reload_takes_what_was_found_over(tmp_path: Path) -> None:
    path = tmp_path / "backends.json"
    async with experts(2) as (first, second), watching(path, first.url) as running:
        assert await until(lambda: usable(running, first.url), 10)
        section = model("small", discovery={"type": "file", "path": str(path)})
        config = {"models": [section], "routes": [route("small")], "health": {"interval_seconds": 0.1}}
        for pause in (0.1, 0.1, 0.15):
            await running.reload({**config, "health": {"interval_seconds": pause}})
            assert names(running) == {first.url}, "from the first moment"
            await ask(running, 4)
        replace(path, second.url)
        assert await until(lambda: usable(running, second.url), 10)
        with pytest.raises(ConfigError, match=r"models\[0\].discovery.type: no discovery of type 'fiel', did you mean 'file'"):
            await running.reload({**config, "models": [model("small", discovery={"type": "fiel", "path": "x"})]})
        with pytest.raises(ConfigError, match=r"models\[0\]: needs `backends`"):
            await running.reload({**config, "models": [model("small")]})
        await ask(running, 4)


async def test_requests_go_on_while_the_file_changes_all_the_time(tmp_path: Path) -> None:
    path = tmp_path / "backends.json"
    async with experts(3) as servers, watching(path, *(one.url for one in servers)) as running:
        assert await until(lambda: usable(running, *(one.url for one in servers)), 10)

        async def change() -> None:
            for number in range(6):
                replace(path, *(one.url for index, one in enumerate(servers) if index != number % 3))
                await asyncio.sleep(0.3)

        changing = asyncio.create_task(change())
        while not changing.done():
            await ask(running, 6)
        await changing


async def test_backends_from_dns(tmp_path: Path) -> None:
    async with experts(2) as (first, second), dns_server() as server:
        name, ports = "_http._tcp.vllm.test.", [int(one.url.rpartition(":")[2].removesuffix("/v1")) for one in (first, second)]
        server.records[name, "SRV"] = (1, [f"0 0 {ports[0]} a.test."])
        server.records["a.test.", "A"] = (1, ["127.0.0.1"])
        discovery = {"type": "dns", "name": name, "record": "SRV", "servers": [f"127.0.0.1:{server.port}"], "min_seconds": 0.1}
        async with serving({"models": [model("small", discovery=discovery)], "routes": [route("small")]}) as running:
            assert await until(lambda: usable(running, first.url), 10)
            await ask(running)
            server.records[name, "SRV"] = (1, [f"0 0 {port} a.test." for port in ports])
            assert await until(lambda: usable(running, first.url, second.url), 10)
            server.broken[name] = None
            server.records[name, "SRV"] = (1, [])
            await ask(running)
            assert names(running) == {first.url, second.url}


@asynccontextmanager
async def in_a_cluster(tmp_path: Path, cluster: ClusterServer) -> AsyncIterator[Running]:
    (tmp_path / "token").write_text("t0")
    discovery = {"type": "kubernetes", "service": "vllm", "namespace": "models", "api": cluster.url, "token_file": str(tmp_path / "token")}
    async with serving({"models": [model("small", discovery=discovery)], "routes": [route("small")]}) as running:
        yield running


async def test_backends_from_kubernetes(tmp_path: Path) -> None:
    async with experts(2) as (first, second), cluster_server() as cluster:
        ports = [int(one.url.rpartition(":")[2].removesuffix("/v1")) for one in (first, second)]
        one, two = (piece(name, endpoint("127.0.0.1", name), ports=[{"port": port}]) for name, port in zip("ab", ports, strict=True))
        cluster.set(one)
        async with in_a_cluster(tmp_path, cluster) as running:
            assert await until(lambda: usable(running, first.url), 10)
            await ask(running)
            cluster.set(two)
            assert await until(lambda: usable(running, first.url, second.url), 10)
            cluster.drop()
            cluster.refusals = [500] * 3
            await ask(running)
            cluster.delete("a")
            assert await until(lambda: names(running) == {second.url}, 10), "heard of after the break"
            await ask(running)

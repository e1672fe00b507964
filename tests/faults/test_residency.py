"""Experts that take turns, on sockets: servers that sleep, wake, fail, die and come back awake. (faults.md, rows 1, 9 and 11)

The fakes die of a request that comes while they sleep, and of sleep while they answer: as vLLM did for long.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random
from typing import Any

import httpx
import pytest

from backends.breaker import Breaker
from backends.fake.endpoints import create
from backends.fake.engine import Latency
from backends.fake.faults import parse as parse_fault
from backends.fake.residency import Residency
from backends.fake.server import FakeServer
from backends.fake.shapes import Character
from backends.http1 import Http1Transport
from backends.pool import Backend
from backends.residency.driver import Driver, ExpertReport
from gateway.build_residency import build_driver
from gateway.sections.residency import ResidencySection
from tests.gateways import chat, model, serving, until

TIMES = Residency(sleep=0.02, wake=0.03, reload=0.05, adapter=0.02, while_asleep="crash")
QUICK = {"min_stay_seconds": 0.05, "max_wait_seconds": 1.0, "retry_seconds": 0.1, "max_retry_seconds": 0.3, "look_seconds": 0.2}


class Front:
    """What the gateway does with a residence: waits for it, calls, and says so."""

    def __init__(self, driver: Driver, backends: Mapping[str, list[Backend]], client: httpx.AsyncClient) -> None:
        self.driver = driver
        self.residences = driver.residences
        self._backends = backends
        self._client = client
        self.freed = asyncio.Event()
        for group in backends.values():
            for backend in group:
                backend.freed = self._ring

    def _ring(self) -> None:
        self.freed.set()
        self.freed = asyncio.Event()

    async def ask(self, name: str, number: int = 0) -> str:
        """The answer's text. Raises whatever goes wrong."""
        residence, backend = self.residences[name], self._backends[name][number]
        residence.arrived()
        try:
            while not residence.serves():
                await self.freed.wait()
            residence.started()
        finally:
            residence.left()
        try:
            response = await self._client.post(f"{backend.url}/chat/completions", json=chat(backend.served_as))
        finally:
            residence.finished()
        assert response.status_code == 200, response.text
        return str(response.json()["choices"][0]["message"]["content"])

    def report(self, name: str) -> ExpertReport:
        return next(report for report in self.driver.report() if report.expert == name)

    def states(self) -> dict[str, str]:
        return {report.expert: report.state for report in self.driver.report()}


@asynccontextmanager
async def fake(name: str, residency: Residency, port: int = 0, latency: Latency | None = None) -> AsyncIterator[FakeServer]:
    server = create([Character(name, 1.0)], latency=latency or Latency(ttft=5), residency=residency)
    await server.start(port=port)
    try:
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def front(fakes: Mapping[str, list[FakeServer]], served_as: Mapping[str, str] | None = None, **settings: Any) -> AsyncIterator[Front]:
    """A driver over fakes, as it runs in a gateway."""
    section = ResidencySection.model_validate({"models": list(fakes), **QUICK, **settings})
    transports = [Http1Transport(server.url) for servers in fakes.values() for server in servers]
    at = iter(transports)
    names = served_as or {}
    backends = {
        name: [Backend(name, server.url, names.get(name, name), next(at), Breaker()) for server in servers]
        for name, servers in fakes.items()
    }
    driver = build_driver(section, backends, time.monotonic, Random(1))
    async with httpx.AsyncClient(timeout=30) as client:
        made = Front(driver, backends, client)
        task = asyncio.create_task(driver.run())
        try:
            yield made
        finally:
            assert not task.done() or task.exception() is None
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            for transport in transports:
                await transport.aclose()


@asynccontextmanager
async def four(residency: Residency = TIMES, **settings: Any) -> AsyncIterator[tuple[Front, dict[str, FakeServer]]]:
    """Experts a, b, c, d with room for two, asleep at the start."""
    async with AsyncExitStack() as stack:
        fakes = {name: await stack.enter_async_context(fake(name, residency)) for name in "abcd"}
        made = await stack.enter_async_context(front({name: [server] for name, server in fakes.items()}, capacity=2, **settings))
        yield made, fakes


def asleep(level: int = 1) -> Residency:
    return Residency(TIMES.sleep, TIMES.wake, TIMES.reload, TIMES.adapter, 0, "crash", level)


def awake(fakes: Mapping[str, FakeServer]) -> set[str]:
    """Those whose weights are in GPU memory, or on the way there."""
    return {name for name, server in fakes.items() if "weights" not in server.sleeper.sleeping}


@pytest.mark.parametrize(("policy", "level"), [("cost_aware", 1), ("lru", 1), ("cost_aware", 2)])
async def test_all_are_answered_memory_holds_and_nobody_calls_a_sleeper(policy: str, level: int) -> None:
    async with four(asleep(level), policy={"type": policy}, level=level) as (made, fakes):
        most: list[int] = []

        async def watch() -> None:
            while True:
                most.append(len(awake(fakes)))
                await asyncio.sleep(0.002)

        watcher = asyncio.create_task(watch())
        rng = Random(5)

        async def request(number: int) -> str:
            await asyncio.sleep(number * 0.01)
            return await made.ask(rng.choices("abcd", (8, 4, 2, 1))[0])

        answers = await asyncio.gather(*(request(number) for number in range(120)))
        watcher.cancel()
        assert all("42" in answer for answer in answers), "an answer without its weights"
        assert max(most) <= 2
        assert made.driver.switches >= 4
        assert {report.waiting for report in made.driver.report()} == {report.busy for report in made.driver.report()} == {0}
        assert made.driver.held <= 2


async def test_at_the_start_it_asks_where_the_servers_stand_and_makes_room() -> None:
    """vLLM starts awake: three of four here."""
    async with AsyncExitStack() as stack:
        states = {"a": TIMES, "b": TIMES, "c": TIMES, "d": asleep(2)}
        fakes = {name: await stack.enter_async_context(fake(name, state)) for name, state in states.items()}
        made = await stack.enter_async_context(front({name: [server] for name, server in fakes.items()}, capacity=2))
        assert await until(lambda: len(awake(fakes)) == 2, 10)
        assert "42" in await made.ask("d"), "its level was read, and with that its weights"
        assert all(["42" in await made.ask(name) for name in "abc"])


async def test_a_failed_wake_is_shown_and_tried_again() -> None:
    async with four(asleep()) as (made, fakes):
        fakes["a"].schedule.faults = [parse_fault("wake_fails")]
        asked = asyncio.create_task(made.ask("a"))
        assert await until(lambda: made.report("a").failures >= 2, 10)
        assert "status 500" in made.report("a").why
        assert "42" in await made.ask("b"), "the others go on"
        fakes["a"].schedule.faults = []
        assert "42" in await asked
        assert (made.report("a").failures, made.report("a").why) == (0, "")
        tries = [record for record in fakes["a"].documents() if record["path"] == "/wake_up"]
        assert 3 <= len(tries) <= 20, "with pauses"


async def test_half_a_wake_from_level_2_serves_nobody() -> None:
    async with four(asleep(2), level=2) as (made, fakes):
        fakes["a"].schedule.faults = [parse_fault("reload_fails")]
        asked = asyncio.create_task(made.ask("a"))
        assert await until(lambda: made.report("a").failures >= 2, 10)
        assert not asked.done()
        fakes["a"].schedule.faults = []
        assert "42" in await asked
        paths = [record["path"] for record in fakes["a"].documents() if record["method"] == "POST"]
        assert paths[-5:] == ["/wake_up", "/collective_rpc", "/wake_up", "/reset_prefix_cache", "/v1/chat/completions"]


async def test_an_expert_that_will_not_sleep_keeps_its_memory_and_its_service() -> None:
    async with four(asleep()) as (made, fakes):
        for name in "ab":
            await made.ask(name)
            fakes[name].schedule.faults = [parse_fault("sleep_fails")]
        asked = asyncio.create_task(made.ask("c"))
        assert await until(lambda: made.report("a").failures + made.report("b").failures >= 2, 10)
        assert awake(fakes) == {"a", "b"}
        assert "42" in await made.ask("a")
        fakes["b"].schedule.faults = []
        assert "42" in await asked
        assert len(awake(fakes)) <= 2


async def test_a_dead_server_gives_its_memory_up_and_comes_back_awake() -> None:
    async with four(asleep()) as (made, fakes):
        await made.ask("a")
        await made.ask("b")
        await fakes["a"].stop()
        port = int(fakes["a"].url.rsplit(":", 1)[1].split("/")[0])
        assert await until(lambda: made.report("a").state == "gone", 10)
        assert "42" in await made.ask("c")
        assert made.report("b").state == "awake", "there was room without it"
        async with fake("a", TIMES, port) as reborn:
            fakes["a"] = reborn
            assert await until(lambda: len(awake(fakes)) == 2 and "gone" not in made.states().values(), 10)
            assert "42" in await made.ask("a")


async def test_whoever_gives_up_wakes_nobody() -> None:
    async with four(asleep(), policy={"type": "cost_aware", "thrift": 1000}, max_wait_seconds=60) as (made, fakes):
        for name in "abab":
            await made.ask(name)
        asked = asyncio.create_task(made.ask("c"))
        await asyncio.sleep(0.1)
        assert made.report("c").waiting == 1
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        assert made.report("c").waiting == 0
        await asyncio.sleep(0.1)
        assert awake(fakes) == {"a", "b"}
        assert not [record for record in fakes["c"].documents() if record["path"] == "/wake_up"]


async def test_what_runs_is_never_cut_off() -> None:
    """The fakes die when they are put to sleep amid an answer."""
    async with AsyncExitStack() as stack:
        slow = Latency(ttft=100, tpot=10)
        fakes = {name: await stack.enter_async_context(fake(name, asleep(), latency=slow)) for name in "abc"}
        made = await stack.enter_async_context(
            front({name: [server] for name, server in fakes.items()}, capacity=1, policy={"type": "lru"}, min_stay_seconds=0)
        )
        answers = await asyncio.gather(*(made.ask(name) for name in "abcabcabc"))
        assert all("42" in answer for answer in answers)
        assert all(server.connections for server in fakes.values())


async def test_servers_of_one_expert_go_together() -> None:
    async with AsyncExitStack() as stack:
        fakes = {name: [await stack.enter_async_context(fake(name, asleep())) for _ in range(2)] for name in "ab"}
        fakes["a"][1].sleeper.sleeping, fakes["a"][1].sleeper.level = set(), 0
        fakes["a"][1].sleeper.awake.set()
        made = await stack.enter_async_context(front(fakes, capacity=1))
        assert await until(lambda: made.states() == {"a": "asleep", "b": "asleep"}, 10)
        assert [server.sleeper.level for server in fakes["a"]] == [1, 1], "the odd one was put to sleep"
        assert "42" in await made.ask("a", 0)
        assert "42" in await made.ask("a", 1)
        await fakes["a"][0].stop()
        assert "42" in await made.ask("b")
        assert "42" in await made.ask("a", 1), "one of its servers is dead, the other one serves"


async def test_adapters_are_loaded_and_unloaded() -> None:
    async with AsyncExitStack() as stack:
        bases = [await stack.enter_async_context(fake("base", TIMES)) for _ in range(2)]
        names = {name: f"adapter-{name}" for name in "abc"}
        paths = {name: f"/adapters/{name}" for name in "abc"}
        bases[0].adapters["adapter-c"] = "base"
        async with front(dict.fromkeys("abc", bases), names, capacity=2, how="lora", paths=paths, policy={"type": "lru"}) as made:
            assert await until(lambda: made.states() == dict.fromkeys("abc", "unloaded"), 10)
            assert "adapter-c" not in bases[0].adapters, "it was on one server alone"
            for name in "abcabc":
                assert "42" in await made.ask(name, 0)
                assert "42" in await made.ask(name, 1)
                assert all(len(base.adapters) <= 2 and names[name] in base.adapters for base in bases)
            assert bases[0].adapter_paths["adapter-c"] == "/adapters/c"
            bases[0].adapters.clear()
            bases[1].adapters.clear()
            assert await until(lambda: made.states() == dict.fromkeys("abc", "unloaded"), 10), "the servers were restarted"
            assert "42" in await made.ask("c")


async def test_an_adapter_that_is_not_there_is_shown() -> None:
    async with AsyncExitStack() as stack:
        base = await stack.enter_async_context(fake("base", TIMES))
        fakes = {"a": [base], "b": [base]}
        async with front(fakes, capacity=1, how="lora", paths={"a": "/adapters/a", "b": "/adapters/missing"}) as made:
            asked = asyncio.create_task(made.ask("b"))
            assert await until(lambda: made.report("b").failures >= 1, 10)
            assert "status 404" in made.report("b").why
            assert "42" in await made.ask("a")
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)


async def test_a_server_without_sleep_mode_stays_awake_and_says_why() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")

    plain = await asyncio.start_server(refuse, "127.0.0.1", 0)
    port = plain.sockets[0].getsockname()[1]
    async with AsyncExitStack() as stack:
        b = await stack.enter_async_context(fake("b", asleep()))
        odd = create([Character("a")])
        odd.url = f"http://127.0.0.1:{port}/v1"
        made = await stack.enter_async_context(front({"a": [odd], "b": [b]}, capacity=1))
        assert await until(lambda: made.states() == {"a": "awake", "b": "asleep"}, 10)
        assert "VLLM_SERVER_DEV_MODE=1" in made.report("a").why
        asked = asyncio.create_task(made.ask("b"))
        assert await until(lambda: made.report("a").failures >= 2, 10)
        assert b.sleeper.level == 1, "there is no room for it"
        assert "--enable-sleep-mode" in made.report("a").why
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
    plain.close()


async def test_adapters_behind_the_gateway_serve_as_soon_as_they_are_loaded() -> None:
    """A health check that did not find the adapter holds nobody up once it is loaded."""
    async with AsyncExitStack() as stack:
        base = await stack.enter_async_context(fake("base", TIMES))
        models = [model(name, base.url, served_as=f"adapter-{name}") for name in "abc"]
        group = {"models": list("abc"), "capacity": 2, "how": "lora", "paths": {name: f"/adapters/{name}" for name in "abc"}, **QUICK}
        running = await stack.enter_async_context(serving({"models": models, "health": {"interval_seconds": 60}, "residency": [group]}))
        assert await until(lambda: all(served.pool.backends[0].health == "loading" for served in running.gateway.fleet), 10)
        started = time.monotonic()
        answers = await asyncio.gather(*(running.post(**chat(name, f"question {n}")) for n, name in enumerate("abcabcabc")))
        assert [answer.status_code for answer in answers] == [200] * 9
        assert time.monotonic() - started < 20
        assert len(base.adapters) == 2

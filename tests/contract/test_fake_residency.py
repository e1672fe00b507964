"""The stand-in sleeps, wakes and loads adapters as vLLM does: what its documents say, and what its issues tell."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from backends.fake.endpoints import create
from backends.fake.engine import Latency
from backends.fake.faults import parse as parse_fault
from backends.fake.residency import PRESETS, Residency, of_size, parse
from backends.fake.server import FakeServer
from backends.fake.shapes import Character
from tests.gateways import chat, events, until


@asynccontextmanager
async def server(
    residency: Residency | None = None, *faults: str, latency: Latency | None = None
) -> AsyncIterator[tuple[FakeServer, httpx.AsyncClient]]:
    made = create(
        [Character("small", 1.0)], latency=latency, faults=[parse_fault(text) for text in faults], residency=residency or Residency()
    )
    await made.start()
    async with httpx.AsyncClient(base_url=made.url.removesuffix("/v1"), timeout=20) as client:
        yield made, client
    await made.stop()


async def content(client: httpx.AsyncClient) -> str:
    response = await client.post("/v1/chat/completions", json=chat("small"))
    assert response.status_code == 200
    return str(response.json()["choices"][0]["message"]["content"])


async def is_sleeping(client: httpx.AsyncClient) -> bool:
    return bool((await client.get("/is_sleeping")).json()["is_sleeping"])


async def test_a_request_to_a_sleeping_server_waits_until_it_wakes() -> None:
    async with server() as (fake, client):
        assert (await client.post("/sleep?level=1")).status_code == 200
        assert await is_sleeping(client)
        assert (await client.get("/health")).status_code == 200, "its process lives"
        assert [m["id"] for m in (await client.get("/v1/models")).json()["data"]] == ["small"]
        asked = asyncio.create_task(content(client))
        await asyncio.sleep(0.1)
        assert not asked.done()
        await client.post("/wake_up")
        assert "42" in await asked
        assert not await is_sleeping(client)
        assert fake.engine.running == 0


async def test_whoever_leaves_a_sleeping_server_is_forgotten() -> None:
    async with server() as (fake, client):
        await client.post("/sleep")
        with pytest.raises(httpx.ReadTimeout):
            await client.post("/v1/chat/completions", json=chat("small"), timeout=0.1)
        assert await until(lambda: fake.records[-1].peer_closed_at_chunk is not None)
        await client.post("/wake_up")
        assert "42" in await content(client)


async def test_level_2_loses_the_weights_until_they_are_read_again() -> None:
    async with server() as (_, client):
        before = await content(client)
        await client.post("/sleep?level=2")
        assert 'sleep_state="discard_all"} 1.0' in (await client.get("/metrics")).text
        await client.post("/wake_up")
        assert "!!!" in await content(client)
        assert (await client.post("/collective_rpc", json={"method": "reload_weights"})).status_code == 200
        assert (await client.post("/reset_prefix_cache")).status_code == 200
        assert await content(client) == before
        await client.post("/sleep?level=1")
        assert 'sleep_state="weights_offloaded"} 1.0' in (await client.get("/metrics")).text
        await client.post("/wake_up")
        assert await content(client) == before


async def test_it_wakes_part_by_part() -> None:
    async with server() as (_, client):
        await client.post("/sleep?level=2")
        assert (await client.post("/collective_rpc", json={"method": "reload_weights"})).status_code == 500, "no memory to read them into"
        await client.post("/wake_up?tags=weights")
        assert await is_sleeping(client)
        await client.post("/collective_rpc", json={"method": "reload_weights"})
        await client.post("/wake_up?tags=kv_cache")
        assert not await is_sleeping(client)
        assert "42" in await content(client)


async def test_sleep_empties_the_prefix_cache() -> None:
    async with server() as (fake, client):
        long = chat("small", "word " * 200)
        for _ in range(2):
            await client.post("/v1/chat/completions", json=long)
        assert (hits := fake.engine.prefix_hits) > 0
        await client.post("/sleep")
        await client.post("/wake_up")
        await client.post("/v1/chat/completions", json=long)
        assert fake.engine.prefix_hits == hits


@pytest.mark.parametrize("stream", [True, False])
async def test_sleep_aborts_what_runs(stream: bool) -> None:
    async with server(latency=Latency(tpot=20)) as (fake, client):
        asked = asyncio.create_task(client.post("/v1/chat/completions", json=chat("small", "Tell me a story", stream=stream)))
        assert await until(lambda: fake.engine.running == 1)
        await client.post("/sleep?level=1")
        answer = await asked
        if stream:
            assert events(answer.text)[-1] == "[DONE]"
            assert events(answer.text)[-2]["choices"][0]["finish_reason"] == "abort"
        else:
            assert answer.json()["choices"][0]["finish_reason"] == "abort"


async def test_asked_to_wait_it_sleeps_when_what_runs_is_done() -> None:
    async with server(latency=Latency(tpot=5)) as (fake, client):
        asked = asyncio.create_task(client.post("/v1/chat/completions", json=chat("small", "Tell me a story")))
        assert await until(lambda: fake.engine.running == 1)
        slept = asyncio.create_task(client.post("/sleep?level=1&mode=wait"))
        assert (await asked).json()["choices"][0]["finish_reason"] == "stop"
        await slept
        assert fake.sleeper.level == 1


async def test_older_versions_die() -> None:
    async with server(Residency(while_asleep="crash")) as (fake, client):
        await client.post("/sleep")
        with pytest.raises(httpx.HTTPError):
            await client.post("/v1/chat/completions", json=chat("small"))
        with pytest.raises(httpx.ConnectError):
            await client.get("/health")
        assert not fake.connections


async def test_adapters() -> None:
    async with server(latency=Latency(tpot=10, seqs=1)) as (fake, client):
        assert "lora_requests_info" not in (await client.get("/metrics")).text
        for name in ("poet", "lawyer"):
            assert (
                await client.post("/v1/load_lora_adapter", json={"lora_name": name, "lora_path": f"/adapters/{name}"})
            ).status_code == 200
        again = await client.post("/v1/load_lora_adapter", json={"lora_name": "poet", "lora_path": "/adapters/poet"})
        assert (again.status_code, again.json()["error"]["type"]) == (400, "InvalidUserInput")
        inplace = {"lora_name": "poet", "lora_path": "/adapters/poet-2", "load_inplace": True}
        assert (await client.post("/v1/load_lora_adapter", json=inplace)).status_code == 200
        assert (await client.post("/v1/load_lora_adapter", json={"lora_name": "x", "lora_path": "/missing"})).status_code == 404
        assert (await client.post("/v1/load_lora_adapter", json={"lora_name": "x"})).status_code == 400
        listed = {m["id"]: (m["parent"], m["root"]) for m in (await client.get("/v1/models")).json()["data"]}
        assert listed["poet"] == ("small", "/adapters/poet-2")
        asked = [asyncio.create_task(client.post("/v1/chat/completions", json=chat(name, "Tell me"))) for name in ("poet", "lawyer")]
        assert await until(lambda: fake.engine.waiting == 1)
        text = (await client.get("/metrics")).text
        assert 'vllm:lora_requests_info{max_lora="4",waiting_lora_adapters="lawyer",running_lora_adapters="poet"} ' in text
        assert [(await task).status_code for task in asked] == [200, 200]
        assert 'waiting_lora_adapters="",running_lora_adapters=""' in (await client.get("/metrics")).text
        assert (await client.post("/v1/unload_lora_adapter", json={"lora_name": "poet"})).status_code == 200
        assert (await client.post("/v1/unload_lora_adapter", json={"lora_name": "poet"})).status_code == 404


async def test_it_takes_its_time_and_faults_are_refused_with_500() -> None:
    async with server(Residency(sleep=0.1, wake=0.15, adapter=0.1)) as (fake, client):
        for path in ("/sleep", "/wake_up", "/v1/load_lora_adapter"):
            started = time.monotonic()
            await client.post(path, json={"lora_name": "a", "lora_path": "/a"})
            assert time.monotonic() - started >= 0.1, path
        fake.schedule.faults = [parse_fault(text) for text in ("sleep_fails", "wake_fails", "load_fails")]
        for path in ("/sleep", "/wake_up", "/v1/load_lora_adapter"):
            assert (await client.post(path, json={"lora_name": "b", "lora_path": "/b"})).status_code == 500
        assert not await is_sleeping(client)


async def test_it_may_start_asleep_or_loading() -> None:
    async with server(parse("small,level=2,scale=0.01")) as (_, client):
        assert await is_sleeping(client)
    async with server(parse("loading=30")) as (_, client):
        assert (await client.get("/v1/models")).json()["data"] == []


def test_the_presets_are_what_the_blog_measured() -> None:
    measured = {"small": (0.09, 0.26, 0.85), "medium": (0.41, 0.82, 2.58), "large": (2.78, 2.87, None)}
    for name, (sleep, wake, from_level_2) in measured.items():
        preset = PRESETS[name]
        assert preset.sleep == pytest.approx(sleep, rel=0.1)
        assert preset.wake == pytest.approx(wake, rel=0.35)
        assert from_level_2 is None or preset.wake + preset.reload == pytest.approx(from_level_2, rel=0.1)
    assert parse("medium,scale=0.5").wake == pytest.approx(PRESETS["medium"].wake / 2)
    assert parse("size=16,while_asleep=crash,wake=9") == Residency(of_size(16).sleep, 9, of_size(16).reload, 0.3, 0, "crash")
    for bad in ("huge", "while_asleep=dream", "pace=3"):
        with pytest.raises(ValueError, match="neither a preset"):
            parse(bad)


def test_the_command_knows_it() -> None:
    from typer.testing import CliRunner

    from gateway.cli import app

    refused = CliRunner().invoke(app, ["fake-vllm", "--model", "a", "--residency", "huge"])
    assert refused.exit_code == 2
    assert "neither a preset" in refused.output

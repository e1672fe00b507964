"""The stand-in is honest: vLLM's shapes, its strictness, its latency under load, and records of what happened."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI, BadRequestError, NotFoundError

from backends.fake.engine import Engine, Latency, parse
from backends.fake.faults import REQUEST_FAULTS, STATE_FAULTS
from backends.fake.faults import parse as parse_fault
from backends.fake.skills import recognise
from tests.gateways import chat, events, fake

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "minLength": 6}, "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 2}},
    "required": ["name", "tags"],
}


async def test_the_sdks_typed_models_take_its_answers() -> None:
    async with fake("small") as server:
        client = AsyncOpenAI(base_url=server.url, api_key="none", _strict_response_validation=True, max_retries=0)
        ask: Any = [{"role": "user", "content": "What is 6 * 7?"}]
        whole = await client.chat.completions.create(model="small", messages=ask, n=2, logprobs=True)
        assert "42" in (whole.choices[0].message.content or "")
        assert whole.usage is not None
        assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
        stream = await client.chat.completions.create(model="small", messages=ask, stream=True, stream_options={"include_usage": True})
        chunks = [chunk async for chunk in stream]
        assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole.choices[0].message.content
        assert chunks[-1].choices == []
        assert chunks[-1].usage is not None
        short = await client.chat.completions.create(model="small", messages=[{"role": "user", "content": "Tell me"}], max_tokens=3)
        assert (short.choices[0].finish_reason, short.usage.completion_tokens if short.usage else 0) == ("length", 3)
        form: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
        made = json.loads(
            (await client.chat.completions.create(model="small", messages=ask, response_format=form)).choices[0].message.content or ""
        )
        assert len(made["name"]) >= 6
        assert made["tags"] == ["a", "a"]
        with pytest.raises(NotFoundError):
            await client.chat.completions.create(model="other", messages=ask)
        with pytest.raises(BadRequestError):
            await client.chat.completions.create(model="small", messages=ask, temperature=-1)
        assert [m.id async for m in client.models.list()] == ["small"]
        await client.close()


@pytest.mark.parametrize(
    "body",
    [
        {"model": "small"},
        {"model": "small", "messages": []},
        {"model": "small", "messages": [{"content": "x"}]},
        {**chat("small"), "n": 0},
        {**chat("small"), "max_tokens": -1},
        {**chat("small"), "top_p": 2},
        {**chat("small"), "stream": "yes"},
        {**chat("small"), "fake_fault": "no_such_fault"},
        {**chat("small", "word " * 40_000)},
    ],
)
async def test_what_vllm_refuses_it_refuses(body: dict[str, Any]) -> None:
    async with fake("small") as server, httpx.AsyncClient() as client:
        response = await client.post(f"{server.url}/chat/completions", json=body)
        assert response.status_code == 400
        assert set(response.json()["error"]) == {"message", "type", "param", "code"}


async def test_it_says_what_it_is() -> None:
    async with fake("small") as server, httpx.AsyncClient(base_url=server.url.removesuffix("/v1")) as client:
        version = await client.get("/version")
        assert version.json()["fake"] is True
        assert version.headers["server"] == "pointsman-fake-vllm"
        assert (await client.get("/health")).status_code == 200
        assert (await client.get("/nowhere")).status_code == 404
        assert (await client.get("/v1/chat/completions")).status_code == 405


async def test_sleep_adapters_and_tokens() -> None:
    async with fake("small") as server, httpx.AsyncClient(base_url=server.url.removesuffix("/v1")) as client:
        await client.post("/sleep?level=1")
        assert (await client.get("/is_sleeping")).json() == {"is_sleeping": True}
        assert (await client.post("/v1/chat/completions", json=chat("small"))).status_code == 503
        await client.post("/wake_up")
        assert (await client.post("/v1/chat/completions", json=chat("small"))).status_code == 200
        adapter = {"lora_name": "poet", "lora_path": "/adapters/poet"}
        assert (await client.post("/v1/load_lora_adapter", json=adapter)).status_code == 200
        assert (await client.post("/v1/load_lora_adapter", json=adapter)).status_code == 400
        listed = {m["id"]: m["parent"] for m in (await client.get("/v1/models")).json()["data"]}
        assert listed == {"small": None, "poet": "small"}
        assert (await client.post("/v1/chat/completions", json=chat("poet"))).json()["model"] == "poet"
        assert (await client.post("/v1/unload_lora_adapter", json=adapter)).status_code == 200
        assert (await client.post("/v1/chat/completions", json=chat("poet"))).status_code == 404
        assert (await client.post("/tokenize", json={"model": "small", "prompt": "one two three"})).json()["count"] == 3


async def test_skill_makes_the_difference() -> None:
    async with fake("good", skill=1.0) as good, fake("bad", skill=0.1) as bad, httpx.AsyncClient() as client:

        async def ask(url: str, model: str) -> str:
            response = await client.post(f"{url}/chat/completions", json=chat(model, "What is 123 * 456? Give just the number."))
            return str(response.json()["choices"][0]["message"]["content"])

        assert await ask(good.url, "good") == "56088"
        assert await ask(bad.url, "bad") != "56088"
        assert await ask(bad.url, "bad") == await ask(bad.url, "bad")
    easy, hard = recognise("What is 2 + 2?"), recognise("What is 9123 * 8456 - 12?")
    assert easy is not None
    assert hard is not None
    assert easy.difficulty < hard.difficulty
    assert recognise("Say hello") is None


async def test_beyond_its_places_requests_wait_and_metrics_show_it() -> None:
    async with fake("small", latency=Latency(ttft=150, seqs=2)) as server, httpx.AsyncClient() as client:
        started = time.monotonic()
        tasks = [asyncio.create_task(client.post(f"{server.url}/chat/completions", json=chat("small"))) for _ in range(4)]
        await asyncio.sleep(0.08)
        text = (await client.get(f"{server.url.removesuffix('/v1')}/metrics")).text
        assert 'vllm:num_requests_running{model_name="small",engine="0"} 2.0' in text
        assert 'vllm:num_requests_waiting{model_name="small",engine="0"} 2.0' in text
        assert [(await task).status_code for task in tasks] == [200] * 4
        assert time.monotonic() - started >= 0.3
        assert (server.engine.running, server.engine.waiting) == (0, 0)


async def test_a_known_prefix_costs_nothing() -> None:
    engine = Engine(Latency(prefill=1000), time.monotonic)
    prompt = "".join(f"word {n} " for n in range(200))
    started = time.monotonic()
    assert await engine.prefill(prompt) == 0
    cold = time.monotonic() - started
    started = time.monotonic()
    assert await engine.prefill(prompt + "and a little more") > len(prompt) // 5
    assert time.monotonic() - started < cold / 2
    assert parse("ttft=5,seqs=3") == Latency(ttft=5, seqs=3)
    with pytest.raises(ValueError, match="neither a preset"):
        parse("fast")


async def test_records_say_who_left_and_when() -> None:
    async with fake("small", latency=Latency(tpot=30), words=100) as server:
        port = int(server.url.rsplit(":", 1)[1].split("/")[0])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        data = json.dumps(chat("small", "Tell me a story", stream=True)).encode()
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(data) + data)
        await reader.readexactly(1000)
        writer.close()
        await asyncio.sleep(0.1)
        record = server.documents()[-1]
        assert record["peer_closed_at_chunk"] >= 3
        assert record["finished"] is False
        assert server.engine.running == 0


async def test_faults_by_schedule_by_request_and_at_run_time() -> None:
    async with fake("small", "status:503@every=2") as server, httpx.AsyncClient() as client:
        url = f"{server.url}/chat/completions"
        assert [(await client.post(url, json=chat("small"))).status_code for _ in range(4)] == [200, 503, 200, 503]
        control = f"{server.url.removesuffix('/v1')}/fake"
        assert (await client.post(f"{control}/faults", json=["status:500:7@first=100"])).status_code == 204
        answer = await client.post(url, json=chat("small"))
        assert (answer.status_code, answer.headers["retry-after"]) == (500, "7")
        assert (await client.post(f"{control}/faults", json=[])).status_code == 204
        asked = await client.post(url, json=chat("small", stream=True, fake_fault="no_done"))
        assert "[DONE]" not in asked.text
        assert "error" not in events(asked.text)[-1]
        assert (await client.post(url, json=chat("small"), headers={"x-fake-fault": "status:418"})).status_code == 418
        records = (await client.get(f"{control}/records")).json()
        assert [r["fault"] for r in records][-3:] == [None, "no_done", "status:418"] or records[-1]["fault"] == "status:418"
        assert (await client.post(f"{control}/faults", json=["nope"])).status_code == 400


def test_every_fault_is_in_the_table_of_faults() -> None:
    from backends.fake import faults

    assert [name for name in REQUEST_FAULTS | STATE_FAULTS if f"`{name}" not in (faults.__doc__ or "")] == []
    assert parse_fault("cut_after:3@p=0.5").chance == 0.5
    with pytest.raises(ValueError, match="unknown condition"):
        parse_fault("drip:3@often=1")

"""The three proxy endpoints, on real sockets, against fakes."""

from __future__ import annotations

import json
import re

import httpx
import pytest

from tests.gateways import chat, events, fake, model, pair, route, serving


def plain(text: str) -> str:
    """A stream without what differs from one call to the next."""
    return re.sub(r'"created":\d+', '"created":0', re.sub(r'"id":"[^"]+"', '"id":"x"', text))


async def test_a_whole_answer_with_the_reason_in_its_headers() -> None:
    async with pair() as running:
        response = await running.post(**chat())
        assert response.status_code == 200
        assert response.json()["choices"][0]["message"]["content"] == "The answer is 42."
        assert response.json()["model"] == "small"
        headers = response.headers
        assert headers["x-router-route"] == "auto"
        assert headers["x-router-model"] == "small"
        assert headers["x-router-policy"] == "cost/best/single"
        assert headers["x-router-reason"] == "best_score"
        assert headers["x-router-cache"] == "miss"
        assert headers["x-router-attempts"] == "1"
        assert float(headers["x-router-overhead-ms"]) > 0
        usage = response.json()["usage"]
        expected = (usage["prompt_tokens"] * 0.05 + usage["completion_tokens"] * 0.10) / 1e6
        assert float(headers["x-router-cost-usd"]) == pytest.approx(expected, abs=1e-9)
        again = await running.post(**chat())
        assert again.headers["x-router-cache"] == "hit"
        assert again.headers["x-router-decision-id"] != headers["x-router-decision-id"]


async def test_a_stream_is_the_backends_own_but_for_ids_and_times() -> None:
    async with pair() as running, httpx.AsyncClient() as direct:
        own = await direct.post(f"{running.fakes['small'].url}/chat/completions", json=chat("small", stream=True))
        through = await running.post(**chat(stream=True))
        assert through.headers["content-type"].startswith("text/event-stream")
        assert plain(through.text) == plain(own.text)
        assert through.text.endswith("data: [DONE]\n\n")
        asked = chat("small", stream=True, stream_options={"include_usage": True})
        own = await direct.post(f"{running.fakes['small'].url}/chat/completions", json=asked)
        through = await running.post(**{**asked, "model": "auto"})
        assert plain(through.text) == plain(own.text)
        assert events(through.text)[-2]["usage"]["completion_tokens"] > 0


async def test_usage_is_always_asked_for_and_counted_but_shown_only_to_who_asked() -> None:
    async with pair() as running:
        response = await running.post(**chat(stream=True))
        assert '"usage"' not in response.text
        forwarded = json.loads(running.fakes["small"].records[-1].body)
        assert forwarded["stream_options"] == {"include_usage": True}
        decision = (await running.client.get(f"/v1/decisions/{response.headers['x-router-decision-id']}")).json()
        assert decision["usage"]["completion_tokens"] > 0
        assert decision["cost_usd"] > 0


async def test_the_body_goes_on_as_it_came_but_for_three_fields() -> None:
    async with pair() as running:
        body = chat(temperature=0.25, metadata={"model": "nested", "x": [1, {"ü": "é\n"}]}, unknown_field=[None, True])
        await running.post(**body, router={"session": "s-1"})
        assert json.loads(running.fakes["small"].records[-1].body) == {**body, "model": "small"}


async def test_the_model_has_the_name_that_clients_know() -> None:
    async with fake("Org/Served-Name-7B") as expert:
        config = {"models": [model("small", expert.url, served_as="Org/Served-Name-7B")], "routes": [route("small")]}
        async with serving(config) as running:
            assert (await running.post(**chat("small"))).json()["model"] == "small"
            streamed = await running.post(**chat(stream=True))
            assert {event["model"] for event in events(streamed.text)[:-1]} == {"small"}
            assert json.loads(expert.records[-1].body)["model"] == "Org/Served-Name-7B"


async def test_a_named_model_is_not_routed() -> None:
    async with pair() as running:
        response = await running.post(**chat("large"))
        assert response.headers["x-router-reason"] == "named"
        assert response.headers["x-router-cache"] == "bypass"
        assert "x-router-route" not in response.headers
        assert response.json()["model"] == "large"


@pytest.mark.parametrize("stream", [False, True])
async def test_the_decision_explained_in_the_body(stream: bool) -> None:
    async with pair() as running:
        response = await running.post(**chat(stream=stream, router={"explain": True}))
        first = events(response.text)[0] if stream else response.json()
        decision = first["router"]
        assert decision["id"] == response.headers["x-router-decision-id"]
        assert [candidate["model"] for candidate in decision["candidates"]] == ["small", "large"]
        assert decision["candidates"][0]["opinions"] == {"cost": 1.0}
        assert first["choices"][0]["index"] == 0
        by_header = await running.client.post("/v1/chat/completions", json=chat(), headers={"x-router-explain": "true"})
        assert by_header.json()["router"]["model"] == "small"


async def test_text_completions_whole_and_streamed() -> None:
    async with pair() as running:
        whole = await running.post("/v1/completions", model="auto", prompt="What is 2 + 2?")
        assert whole.json()["object"] == "text_completion"
        assert "4" in whole.json()["choices"][0]["text"]
        streamed = await running.post("/v1/completions", model="auto", prompt="What is 2 + 2?", stream=True)
        assert "".join(event["choices"][0]["text"] for event in events(streamed.text)[:-1]) == whole.json()["choices"][0]["text"]


async def test_embeddings() -> None:
    async with pair() as running:
        response = await running.post("/v1/embeddings", model="auto", input=["one", "two"])
        assert response.status_code == 200
        assert len(response.json()["data"]) == 2
        assert response.headers["x-router-model"] == "small"
        short = await running.post("/v1/embeddings", model="small", input="one", dimensions=8)
        assert len(short.json()["data"][0]["embedding"]) == 8


@pytest.mark.parametrize("stream", [False, True])
async def test_a_tool_call_comes_back(stream: bool) -> None:
    tools = [
        {
            "type": "function",
            "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
        }
    ]
    async with pair() as running:
        response = await running.post(**chat(content="What is the weather in Oslo?", tools=tools, stream=stream))
        if not stream:
            call = response.json()["choices"][0]["message"]["tool_calls"][0]["function"]
            assert call["name"] == "get_weather"
            assert json.loads(call["arguments"]) == {"city": "Oslo"}
            return
        deltas = [event["choices"][0]["delta"] for event in events(response.text)[:-1]]
        arguments = "".join(d["tool_calls"][0]["function"].get("arguments", "") for d in deltas if d.get("tool_calls"))
        assert json.loads(arguments) == {"city": "Oslo"}


async def test_what_a_backend_gets_of_the_clients_headers() -> None:
    async with pair() as running:
        sent = {
            "authorization": "Bearer sk-client-secret",
            "x-router-session": "s-1",
            "x-forwarded-for": "1.2.3.4",
            "cookie": "a=b",
            "x-request-id": "my-request.1",
            "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        }
        response = await running.client.post("/v1/chat/completions", json=chat(), headers=sent)
        assert response.headers["x-request-id"] == "my-request.1"
        seen = running.fakes["small"].records[-1].headers
        assert set(seen) == {"host", "content-type", "accept-encoding", "x-request-id", "traceparent", "content-length"}
        assert seen["x-request-id"] == "my-request.1"


async def test_a_backends_key_is_its_own() -> None:
    async with fake("small") as expert:
        expert.api_key = "sk-backend"
        async with serving({"models": [model("small", expert.url, api_key="sk-backend")]}) as running:
            assert (await running.post(**chat("small"))).status_code == 200


async def test_a_client_error_of_the_backend_comes_through_as_it_came() -> None:
    async with pair() as running:
        response = await running.post(**chat(temperature=-1))
        assert response.status_code == 400
        assert response.json()["error"]["type"] == "BadRequestError"
        assert response.headers["x-router-attempts"] == "1"


async def test_through_httpx_as_well() -> None:
    async with fake("small") as expert, serving({"models": [model("small", expert.url, transport="httpx")]}) as running:
        assert (await running.post(**chat("small"))).json()["model"] == "small"
        assert (await running.post(**chat("small", stream=True))).text.endswith("data: [DONE]\n\n")

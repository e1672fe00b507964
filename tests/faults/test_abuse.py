"""Requests that want something else than an answer. (Faults 18, 20, 21, 22, 26, 27.)"""

from __future__ import annotations

import json
import random
import string

import pytest

from tests.gateways import chat, fake, model, pair, serving, until

BODY = json.dumps(chat()).encode()
LENGTH = b"content-length: %d\r\n" % len(BODY)
POST = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"


@pytest.mark.parametrize(
    "request_bytes",
    [
        POST + LENGTH + b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n" + BODY,
        POST + b"transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n" + BODY,
        POST + b"transfer-encoding: xchunked\r\n\r\n" + BODY,
        POST + b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n",
        POST + b"content-length: 5\r\ncontent-length: 6\r\n\r\n" + BODY,
        POST + b"content-length: -1\r\n\r\n" + BODY,
        POST + b"content-length: 0x10\r\n\r\n" + BODY,
        POST.replace(b"\r\n", b"\n") + LENGTH.replace(b"\r\n", b"\n") + b"\n" + b"GARBAGE",
        b"POST  /v1/chat/completions HTTP/1.1\r\nhost x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        POST + b"transfer-encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_what_could_smuggle_a_request_is_refused_or_closed(request_bytes: bytes) -> None:
    async with pair() as running:
        smuggled = b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n"
        answer = await running.raw(request_bytes + smuggled, seconds=1.0)
        assert b"pointsman_requests_total" not in answer
        assert not answer or b" 400 " in answer.split(b"\r\n")[0]
        assert not [record for record in running.fakes["small"].records if record.method == "POST"]
        assert (await running.post(**chat())).status_code == 200


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with pair() as running:
        one = POST + LENGTH + b"x-request-id: first\r\n\r\n" + BODY
        two = POST + LENGTH + b"x-request-id: second\r\nconnection: close\r\n\r\n" + BODY
        reader_end = await _read_all(running.port, one + two)
        assert reader_end.count(b"HTTP/1.1 200 OK") == 2
        assert reader_end.index(b"x-request-id: first") < reader_end.index(b"x-request-id: second")


async def _read_all(port: int, data: bytes) -> bytes:
    import asyncio

    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    async with asyncio.timeout(5):
        found = await reader.read(-1)
    writer.close()
    return found


@pytest.mark.parametrize("value", ["a\tb", "ü", "a b", "x" * 129, "", "<script>"])
async def test_a_request_id_that_could_break_something_is_replaced(value: str) -> None:
    async with pair() as running:
        head = POST + LENGTH + b"x-request-id: " + value.encode() + b"\r\n\r\n"
        answer = await running.raw(head + BODY)
        assert answer.startswith(b"HTTP/1.1 200")
        line = next(line for line in answer.split(b"\r\n") if line.startswith(b"x-request-id: "))
        assert line.startswith(b"x-request-id: req-")
        assert running.fakes["small"].records[-1].headers["x-request-id"].startswith("req-")


async def test_answer_headers_from_a_client_are_ignored() -> None:
    async with pair() as running:
        headers = {"x-router-model": "large", "x-router-decision-id": "forged", "x-router-cache": "hit", "x-forwarded-host": "evil"}
        response = await running.client.post("/v1/chat/completions", json=chat(), headers=headers)
        assert response.headers["x-router-model"] == "small"
        assert response.headers["x-router-decision-id"].startswith("dec-")


async def test_nothing_in_a_body_changes_where_it_goes() -> None:
    async with pair() as running, fake("evil") as evil:
        body = chat(api_base=evil.url, base_url=evil.url, backend=evil.url, url=evil.url)
        body["messages"] = [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]
        assert (await running.post(**body)).status_code == 200
        assert (await running.post(**chat(evil.url))).status_code == 404
        assert not evil.records


async def test_pictures_are_passed_on_and_never_fetched() -> None:
    async with fake("small") as expert, fake("evil") as evil:
        capable = ["chat", "vision"]
        config = {"models": [model("small", expert.url, capabilities=capable)], "routes": [{"name": "auto", "models": ["small"]}]}
        async with serving(config) as running:
            picture = {"type": "image_url", "image_url": {"url": evil.url}}
            body = {"model": "auto", "messages": [{"role": "user", "content": [{"type": "text", "text": "what?"}, picture]}]}
            assert (await running.post(**body)).status_code == 200
            assert json.loads(expert.records[-1].body)["messages"] == body["messages"]
            assert not evil.records


async def test_label_values_come_from_closed_sets() -> None:
    async with pair() as running:
        await running.post(**chat())
        await running.post(**chat("nope"))
        await running.client.get("/nowhere")

        async def series() -> int:
            return len((await running.client.get("/metrics")).text.splitlines())

        async def loads() -> bool:
            return (await running.client.get("/metrics")).text.count("pointsman_backend_waiting{") == 2

        assert await until(loads, 10)
        before = await series()
        rng = random.Random(1)
        for _ in range(500):
            junk = "".join(rng.choices(string.ascii_letters, k=12))
            await running.post(**chat(junk))
            await running.client.request(rng.choice(["GET", "PUT", "PATCH"]), f"/{junk}", headers={"user-agent": junk})
        assert await series() == before
        assert junk not in (await running.client.get("/metrics")).text


async def test_a_canary_is_found_nowhere_but_upstream() -> None:
    canary = "CANARY-7f3a"
    async with fake("small", "status:500@every=3") as expert:
        config = {"models": [model("small", expert.url, api_key=f"sk-{canary}")], "retries": {"max_attempts": 1}}
        async with serving(config) as running:
            seen = []
            for number in range(6):
                body = chat("small", f"{canary} {number}", user=canary, stream=bool(number % 2))
                response = await running.client.post("/v1/chat/completions", json=body, headers={"authorization": f"Bearer {canary}"})
                seen.append(str(response.headers))
                seen.append(response.text if response.status_code != 200 else "")
                decision = response.headers["x-router-decision-id"]
                seen.append((await running.client.get(f"/v1/decisions/{decision}")).text)
            for path in ("/metrics", "/v1/models", "/readyz", "/openapi.json"):
                seen.append((await running.client.get(path)).text)
            seen.append(json.dumps(running.lines()))
            assert canary in expert.records[-1].body
            assert canary not in "".join(seen)

"""Once a byte is out nothing is tried again: an error event, no `[DONE]`, a clean end. (Faults 3, 4, 6, 7.)"""

from __future__ import annotations

import json

import pytest

from tests.faults.test_before_the_first_byte import QUICK
from tests.gateways import chat, events, pair


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("cut_after:4", "upstream_aborted"),
        ("reset_after:4", "upstream_aborted"),
        ("hang_after:4", "upstream_timeout"),
        ("no_done", "upstream_aborted"),
    ],
)
async def test_a_stream_that_breaks_off(fault: str, code: str) -> None:
    async with pair(small=[fault], timeouts=QUICK) as running:
        response = await running.post(**chat(content="Tell me a story", stream=True))
        assert response.status_code == 200
        assert "[DONE]" not in response.text
        found = events(response.text)
        assert found[-1]["error"]["code"] == code
        assert found[-1]["error"]["type"] == "server_error"
        assert all("choices" in event for event in found[:-1])
        assert len(running.fakes["large"].records) == sum(r.method == "GET" for r in running.fakes["large"].records)
        decision = (await running.client.get(f"/v1/decisions/{response.headers['x-router-decision-id']}")).json()
        assert decision["error"] == code
        assert (await running.post(**chat("large"))).status_code == 200


async def test_an_endless_stream_ends_at_the_total_timeout() -> None:
    async with pair(small=["endless"], timeouts={**QUICK, "total": 0.6}) as running:
        response = await running.post(**chat(stream=True))
        assert events(response.text)[-1]["error"]["code"] == "upstream_timeout"


async def test_a_dripping_stream_ends_at_the_total_timeout() -> None:
    async with pair(small=["drip:2000"], timeouts={**QUICK, "idle": 0.8, "first_byte": 0.8, "total": 0.8}) as running:
        response = await running.post(**chat(content="Tell me a story", stream=True))
        assert events(response.text)[-1]["error"]["code"] == "upstream_timeout"


async def test_a_giant_line_is_not_collected() -> None:
    async with pair(small=["giant_line:50"], server={"max_answer_bytes": 1_000_000}) as running:
        response = await running.post(**chat(stream=True))
        assert (response.status_code, response.headers["x-router-model"]) == (200, "large")


@pytest.mark.parametrize("fault", ["crlf", "comments", "event_field", "bom", "split_utf8", "halved"])
async def test_odd_but_lawful_streams_come_through_unchanged(fault: str) -> None:
    async with pair(small=[fault]) as running:
        straight = await running.client.post(
            f"{running.fakes['small'].url}/chat/completions", json=chat("small", "Grüße 東京", stream=True)
        )
        through = await running.post(**chat(content="Grüße 東京", stream=True))
        assert through.headers["x-router-model"] == "small"
        assert through.content.replace(b"\r", b"").endswith(b"data: [DONE]\n\n")
        assert _texts(through.text) == _texts(straight.text)
        held_back = 1 if fault == "comments" else 0  # the comment before the usage chunk
        assert through.text.count(": keep-alive") == straight.text.count(": keep-alive") + held_back


def _texts(text: str) -> list[object]:
    lines = [line.lstrip("\ufeff") for line in text.splitlines()]
    data = [line[6:] for line in lines if line.startswith("data: {")]
    return [json.loads(one)["choices"][0]["delta"].get("content") for one in data]


async def test_a_chunk_that_is_no_json_is_the_clients_to_judge() -> None:
    async with pair(small=["malformed_json"]) as running:
        response = await running.post(**chat(stream=True))
        assert 'data: {"choices": [\n\n' in response.text
        assert response.text.endswith("data: [DONE]\n\n")


async def test_a_stream_without_blank_lines_arrives_whole() -> None:
    async with pair(small=["missing_blank_line"]) as running:
        response = await running.post(**chat(stream=True))
        assert response.status_code == 200
        assert response.headers["x-router-attempts"] in ("1", "2")
        assert response.text.rstrip().endswith("data: [DONE]")

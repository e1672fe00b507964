"""What a client gets for what it should not send: always OpenAI-shaped, with the field named, and the connection stays usable."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.gateways import chat, pair

PICTURE = {"type": "image_url", "image_url": {"url": "http://127.0.0.1:9/picture.png"}}
GOOD = '"messages":[{"role":"user","content":"hi"}]'
CASES: list[tuple[bytes, str, str | None]] = [
    (b"", "invalid_json", None),
    (b"{", "invalid_json", None),
    (b"[]", "invalid_json", None),
    (b"null", "invalid_json", None),
    (b'"text"', "invalid_json", None),
    (b"\xef\xbb\xbf{}", "invalid_json", None),
    (b"{}", "missing_field", "model"),
    (b'{"model":"auto"}', "missing_field", "messages"),
    (b'{"model":1,"messages":[{}]}', "invalid_value", "model"),
    (b'{"model":"auto","messages":[]}', "invalid_value", "messages"),
    (b'{"model":"auto","messages":"hi"}', "invalid_value", "messages"),
    (b'{"model":"auto","messages":["hi"]}', "invalid_value", "messages[0]"),
    (f'{{"model":"auto","model":"small",{GOOD}}}'.encode(), "duplicate_field", "model"),
    (f'{{"model":"auto","mod\\u0065l":"small",{GOOD}}}'.encode(), "duplicate_field", "model"),
    (f'{{"model":"auto",{GOOD},"stream":"yes"}}'.encode(), "invalid_value", "stream"),
    (f'{{"model":"auto",{GOOD},"stream_options":1}}'.encode(), "invalid_value", "stream_options"),
    (f'{{"model":"auto",{GOOD},"n":0}}'.encode(), "invalid_value", "n"),
    (f'{{"model":"auto",{GOOD},"n":1.5}}'.encode(), "invalid_value", "n"),
    (f'{{"model":"auto",{GOOD},"max_tokens":-1}}'.encode(), "invalid_value", "max_tokens"),
    (f'{{"model":"auto",{GOOD},"max_completion_tokens":"a"}}'.encode(), "invalid_value", "max_completion_tokens"),
    (f'{{"model":"auto",{GOOD},"max_tokens":99999999999999999999999}}'.encode(), "invalid_value", "max_tokens"),
    (f'{{"model":"auto",{GOOD},"tools":{{}}}}'.encode(), "invalid_value", "tools"),
    (f'{{"model":"auto",{GOOD},"response_format":"json"}}'.encode(), "invalid_value", "response_format"),
    (f'{{"model":"auto",{GOOD},"temperature":1e400}}'.encode(), "invalid_value", "temperature"),
    (f'{{"model":"auto",{GOOD},"temperature":NaN}}'.encode(), "invalid_json", "temperature"),
    (f'{{"model":"auto",{GOOD},"temperature":-Infinity}}'.encode(), "invalid_json", "temperature"),
    (b'{"model":"auto","messages":[{"role":"user","content":"\\ud800"}]}', "invalid_json", "messages"),
    (b'{"model":"auto","messages":[{"role":"user","content":"\xff\xfe"}]}', "invalid_json", "messages"),
    (f'{{"model":"auto",{GOOD},"x":{"[" * 100_000}{"]" * 100_000}}}'.encode(), "invalid_json", None),
    (f'{{"model":"auto",{GOOD},"x":{"[" * 200}{"]" * 200}}}'.encode(), "invalid_json", "x"),
    (f'{{"model":"auto",{GOOD},"router":[]}}'.encode(), "invalid_value", "router"),
    (f'{{"model":"auto",{GOOD},"router":{{"modles":["a"]}}}}'.encode(), "invalid_value", "router.modles"),
    (f'{{"model":"auto",{GOOD},"router":{{"min_quality":1.5}}}}'.encode(), "invalid_value", "router.min_quality"),
    (f'{{"model":"auto",{GOOD},"router":{{"session":"a b"}}}}'.encode(), "invalid_value", "router.session"),
    (f'{{"model":"auto",{GOOD},"router":{{"max_latency_ms":0}}}}'.encode(), "invalid_value", "router.max_latency_ms"),
]


def check_shape(document: dict[str, Any]) -> dict[str, Any]:
    error: dict[str, Any] = document["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    return error


async def test_bad_bodies_over_one_connection() -> None:
    async with pair() as running:
        for body, code, param in CASES:
            response = await running.client.post("/v1/chat/completions", content=body)
            error = check_shape(response.json())
            assert (response.status_code, error["code"], error["param"]) == (400, code, param), body[:80]
            assert error["type"] == "invalid_request_error"
            assert response.headers["x-request-id"].startswith("req-")
        assert (await running.post(**chat())).status_code == 200
        assert len(running.fakes["small"].records) - sum(r.path != "/v1/chat/completions" for r in running.fakes["small"].records) == 1


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/completions", {"model": "auto"}, "prompt"),
        ("/v1/completions", {"model": "auto", "prompt": 5}, "prompt"),
        ("/v1/completions", {"model": "auto", "prompt": []}, "prompt"),
        ("/v1/embeddings", {"model": "auto"}, "input"),
        ("/v1/embeddings", {"model": "auto", "input": None}, "input"),
        ("/v1/embeddings", {"model": "auto", "input": {}}, "input"),
    ],
)
async def test_prompt_and_input_are_checked(path: str, body: dict[str, Any], param: str) -> None:
    async with pair() as running:
        response = await running.client.post(path, json=body)
        assert response.status_code == 400
        assert check_shape(response.json())["param"] == param


async def test_unknown_names_and_paths() -> None:
    async with pair() as running:
        for model in ("nope", "http://169.254.169.254/latest", "x" * 100_000, "../etc", ""):
            response = await running.post(**chat(model))
            assert (response.status_code, check_shape(response.json())["code"]) == (404, "model_not_found")
        assert (await running.client.get("/v1/models/nope")).json()["error"]["code"] == "model_not_found"
        assert (await running.client.get("/v1/decisions/nope")).json()["error"]["code"] == "decision_not_found"
        assert (await running.client.get("/v1/nope")).json()["error"]["code"] == "not_found"
        wrong = await running.client.get("/v1/chat/completions")
        assert (wrong.status_code, check_shape(wrong.json())["code"]) == (405, "method_not_allowed")
        stored = await running.client.get("/v1/chat/completions/some-id")
        assert (stored.status_code, check_shape(stored.json())["code"]) == (404, "not_found")


async def test_too_large_is_refused_before_it_is_read() -> None:
    async with pair(server={"max_body_bytes": 2000}) as running:
        announced = await running.raw(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 100000000\r\n\r\n")
        assert announced.startswith(b"HTTP/1.1 413 ")
        assert b"body_too_large" in announced
        big = await running.post(**chat(content="x" * 3000))
        assert big.status_code == 413

        async def endless() -> Any:
            for _ in range(1000):
                yield b" " * 1000

        chunked = await running.client.post("/v1/chat/completions", content=endless())
        assert chunked.status_code == 413
        assert (await running.post(**chat())).status_code == 200


async def test_compressed_bodies_are_refused() -> None:
    async with pair() as running:
        response = await running.client.post("/v1/chat/completions", content=b"x", headers={"content-encoding": "gzip"})
        assert response.status_code == 400
        assert check_shape(response.json())["param"] == "content-encoding"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (chat(router={"max_cost_usd": 0.000000001}), 402, "max_cost_too_low"),
        (chat(content="word " * 40_000), 400, "context_length_exceeded"),
        (chat(max_tokens=40_000), 400, "context_length_exceeded"),
        (chat(router={"models": ["nope"]}), 400, "no_capable_model"),
        (chat(router={"exclude": ["small", "large"]}), 400, "no_capable_model"),
        (
            {**chat(), "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}]},
            400,
            "no_capable_model",
        ),
    ],
)
async def test_no_candidate_by_cause(body: dict[str, Any], status: int, code: str) -> None:
    async with pair() as running:
        response = await running.post(**body)
        error = check_shape(response.json())
        assert (response.status_code, error["code"]) == (status, code)
        assert "small (" in error["message"]


async def test_no_backend_at_all() -> None:
    async with pair(small=["unhealthy"], large=["model_absent"], health={"interval_seconds": 0.05}) as running:
        assert await _turns_unready(running)
        response = await running.post(**chat())
        assert (response.status_code, response.json()["error"]["code"]) == (503, "no_healthy_backend")
        assert int(response.headers["retry-after"]) >= 1


async def _turns_unready(running: Any) -> bool:
    from tests.gateways import until

    async def unready() -> bool:
        return (await running.client.get("/readyz")).status_code == 503

    return await until(unready)


async def test_errors_are_counted_and_logged_without_the_body() -> None:
    async with pair() as running:
        await running.client.post("/v1/chat/completions", content=b'{"secret-canary"')
        metrics = (await running.client.get("/metrics")).text
        assert 'pointsman_rejections_total{reason="invalid_json"} 1.0' in metrics
        assert running.lines()[-1]["error"] == "invalid_json"
        assert "canary" not in json.dumps(running.lines())

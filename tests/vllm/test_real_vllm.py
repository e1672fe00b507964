"""The relay against the real server: its text, its framing, its errors, and what becomes of a request whose client leaves."""

from __future__ import annotations

import json
import re
import socket
import time
from typing import Any

import httpx
import pytest

from tests.vllm.conftest import Stand

GREEDY = {"temperature": 0, "seed": 1, "max_tokens": 24}


def chat(content: str, **more: Any) -> dict[str, Any]:
    return {"model": "auto", "messages": [{"role": "user", "content": content}], **GREEDY, **more}


def plain(text: str) -> str:
    """A stream without ids, times and the model's name."""
    text = re.sub(r'"created":\d+', '"created":0', re.sub(r'"id":"[^"]+"', '"id":"x"', text))
    return re.sub(r'"model":"[^"]+"', '"model":"m"', text)


def gauge(stand: Stand, name: str, metric: str) -> float:
    text = httpx.get(f"{stand.root(name)}/metrics", timeout=10).text
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(f"{metric}{{"))


def busy(stand: Stand, name: str) -> float:
    return gauge(stand, name, "vllm:num_requests_running") + gauge(stand, name, "vllm:num_requests_waiting")


def wait_for(stand: Stand, name: str, wanted: bool, seconds: float) -> float | None:
    """Seconds until the server is busy (or idle); None if that did not come."""
    started = time.monotonic()
    while time.monotonic() - started < seconds:
        if (busy(stand, name) > 0) == wanted:
            return time.monotonic() - started
        time.sleep(0.05)
    return None


@pytest.mark.parametrize(("question", "expected"), [("Say hello.", "small"), ("What is 12 * 11?", "large")])
def test_real_text_through_the_route(stand: Stand, question: str, expected: str) -> None:
    whole = httpx.post(f"{stand.gateway}/chat/completions", json=chat(question), timeout=120)
    assert whole.status_code == 200, whole.text
    text = whole.json()["choices"][0]["message"]["content"]
    assert text.strip()
    assert whole.headers["x-router-model"] == whole.json()["model"] == expected
    assert float(whole.headers["x-router-cost-usd"]) > 0
    streamed = httpx.post(f"{stand.gateway}/chat/completions", json=chat(question, stream=True), timeout=120).text
    data = [json.loads(line[6:]) for line in streamed.splitlines() if line.startswith("data: {")]
    assert "".join(d["choices"][0]["delta"].get("content") or "" for d in data) == text
    print(f"\n{question!r} -> {expected}: {text!r}")


@pytest.mark.parametrize("options", [{}, {"stream_options": {"include_usage": True}}], ids=["plain", "usage"])
@pytest.mark.parametrize("path", ["chat/completions", "completions"])
def test_streamed_bytes_are_those_of_a_direct_call(stand: Stand, path: str, options: dict[str, Any]) -> None:
    body: dict[str, Any] = chat("Tell me about trains.", stream=True, **options)
    if path == "completions":
        del body["messages"]
        body["prompt"] = "The train"
    direct = httpx.post(f"{stand.experts['small']}/{path}", json={**body, "model": "small"}, timeout=120)
    through = httpx.post(f"{stand.gateway}/{path}", json={**body, "model": "auto"}, timeout=120)
    assert through.headers["x-router-model"] == "small"
    assert plain(through.text) == plain(direct.text)
    assert through.text.endswith("data: [DONE]\n\n")
    assert ('"usage"' in through.text) == bool(options)


@pytest.mark.parametrize("window", ["before the first token", "amid the stream", "whole answer"])
def test_a_client_that_leaves_frees_the_engine(stand: Stand, window: str) -> None:
    body = chat("Tell me a very long story about a railway.", max_tokens=1500, stream=window != "whole answer", ignore_eos=True)
    if window == "before the first token":
        body["messages"][0]["content"] = "word " * 1200 + "go on"
        body["max_tokens"] = 500
    data = json.dumps(body).encode()
    port = int(stand.gateway.rsplit(":", 1)[1].split("/")[0])
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(data) + data)
        if window == "amid the stream":
            seen = b""
            while seen.count(b"data: ") < 5:
                seen += client.recv(65536)
        elif window == "whole answer":
            assert wait_for(stand, "small", True, 20) is not None
        else:
            time.sleep(0.1)  # vLLM's gauges move only when a step is over, and the first step is the first token
            client.setblocking(False)
            with pytest.raises(BlockingIOError):
                client.recv(1)
    if window == "before the first token":
        time.sleep(0.7)  # now that step is over, and an engine that goes on would show it
    freed = wait_for(stand, "small", False, 2.0)
    assert freed is not None, "the engine still runs 2 s after the client left"
    print(f"\n{window}: idle again after {freed:.2f} s")


@pytest.mark.parametrize("wrong", [{"temperature": -1}, {"max_tokens": 100_000}, {"top_p": 7}])
def test_errors_of_vllm_come_through_as_they_came(stand: Stand, wrong: dict[str, Any]) -> None:
    body = {**chat("hi"), "model": "small", **wrong}
    direct = httpx.post(f"{stand.experts['small']}/chat/completions", json=body, timeout=30)
    through = httpx.post(f"{stand.gateway}/chat/completions", json=body, timeout=30)
    assert (through.status_code, through.json()) == (direct.status_code, direct.json())
    assert direct.status_code == 400


def test_health_and_models_as_the_checker_reads_them(stand: Stand) -> None:
    ready = httpx.get(f"{stand.gateway.removesuffix('/v1')}/readyz", timeout=10).json()
    assert ready["models"] == {"small": True, "large": True}

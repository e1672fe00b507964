"""The gateway against its own OpenAPI document: no input gets a 5xx, or an answer of another shape."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from tests.gateways import Running, pair

CHECKS = [not_a_server_error, status_code_conformance, response_schema_conformance]
FIELDS = ["model", "messages", "prompt", "input", "stream", "n", "max_tokens", "router", "stream_options", "tools", "response_format"]
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["auto", "small"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*FIELDS, "role", "content"]), inner, max_size=3),
    max_leaves=6,
)
ENDLESS = "/admin/decisions/stream"
"""Ends when its client goes; tests/contract/test_console.py listens to it."""
BODIES = st.dictionaries(st.sampled_from(FIELDS), ANYTHING, max_size=5)


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    """A gateway in a loop of its own: schemathesis calls from outside it."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    stack = AsyncExitStack()
    found = asyncio.run_coroutine_threadsafe(stack.enter_async_context(pair()), loop).result(20)
    yield found
    asyncio.run_coroutine_threadsafe(stack.aclose(), loop).result(20)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


def test_every_operation_answers_as_documented(running: Running) -> None:
    schema = schemathesis.openapi.from_url(f"{running.url}/openapi.json")
    seen: Counter[int] = Counter()
    operations = [found.ok() for found in schema.get_all_operations() if found.ok().path != ENDLESS]
    for operation in operations:

        @given(case=operation.as_strategy())
        @settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        def call(case: schemathesis.Case) -> None:
            response = case.call(timeout=10)
            seen[response.status_code] += 1
            case.validate_response(response, checks=CHECKS)

        call()
    assert len(operations) == 20
    assert set(seen) >= {200, 400, 404}
    assert not [status for status in seen if status >= 500]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/route"])
@settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(body=st.binary(max_size=200) | BODIES.map(lambda document: json.dumps(document).encode()))
def test_any_body_at_all_gets_an_answer_of_the_closed_table(running: Running, path: str, body: bytes) -> None:
    response = httpx.post(f"{running.url}{path}", content=body, timeout=10)
    assert response.status_code in (200, 400, 402, 404)
    if response.status_code != 200:
        assert set(response.json()["error"]) == {"message", "type", "param", "code"}


def test_the_document_names_every_endpoint(running: Running) -> None:
    document = httpx.get(f"{running.url}/openapi.json").json()
    assert set(document["paths"]) == {
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/models",
        "/v1/models/{model_id}",
        "/v1/route",
        "/v1/decisions/{decision_id}",
        "/v1/feedback",
        "/admin/config",
        "/admin/reload",
        "/admin/backends",
        "/admin/decisions/stream",
        "/admin/decisions/{decision_id}",
        "/admin/frontier",
        "/admin/keys",
        "/admin/replay",
        "/console",
        "/console/{name}",
        "/healthz",
        "/readyz",
        "/metrics",
    }

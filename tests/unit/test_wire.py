"""Reading a body and splicing it: what reaches the backend is the same document but for three members."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import GatewayError
from gateway.flow.wire import read

SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=12)
OWN = {"model", "router", "stream_options", "messages", "stream", "n", "max_tokens", "max_completion_tokens", "tools", "response_format"}
UNKNOWN = st.dictionaries(st.text().filter(lambda key: key not in OWN), VALUES | st.just({"model": "nested"}), max_size=5)
MESSAGES = st.lists(st.fixed_dictionaries({"role": st.sampled_from(["user", "system"]), "content": st.text()}), min_size=1, max_size=4)


@given(
    unknown=UNKNOWN,
    messages=MESSAGES,
    stream=st.booleans(),
    options=st.none() | st.dictionaries(st.text(), VALUES, max_size=3),
    ascii_only=st.booleans(),
    indent=st.sampled_from([None, 0, 2]),
    repeated=st.booleans(),
    model=st.text(max_size=30),
)
def test_splice_changes_three_members_and_nothing_else(
    unknown: dict[str, Any],
    messages: list[Any],
    stream: bool,
    options: dict[str, Any] | None,
    ascii_only: bool,
    indent: int | None,
    repeated: bool,
    model: str,
) -> None:
    document: dict[str, Any] = {"model": model, **unknown, "messages": messages, "stream": stream, "router": {"explain": True}}
    if options is not None:
        document["stream_options"] = options
    text = json.dumps(document, ensure_ascii=ascii_only, indent=indent)
    if repeated:  # duplicates beyond the members that we read: the last one counts, as everywhere
        text = text[:-1].rstrip() + ', "zzz": 1, "zzz": {"a": [2]}}'
        document["zzz"] = {"a": [2]}
    wire = read("chat", {}, text.encode("utf-8", "surrogatepass") if ascii_only else text.encode())
    spliced = json.loads(wire.body(json.dumps('served/as "x"').encode()))
    expected = {**document, "model": 'served/as "x"'}
    del expected["router"]
    if stream:
        expected["stream_options"] = {**(options or {}), "include_usage": True}
    assert spliced == expected
    assert wire.model == model
    assert wire.stream is stream
    assert wire.wants_usage == bool(stream and options and options.get("include_usage") is True) or not stream


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda t: t.encode("utf-8", "surrogatepass")))
def test_no_bytes_raise_anything_but_a_400(body: bytes) -> None:
    for endpoint in ("chat", "completions", "embeddings"):
        try:
            read(endpoint, {}, body)  # type: ignore[arg-type]
        except GatewayError as error:
            assert error.status == 400
            json.loads(error.body())


@given(document=st.dictionaries(st.sampled_from(sorted(OWN | {"prompt", "input"})), VALUES, max_size=6))
def test_no_document_raises_anything_but_a_400(document: dict[str, Any]) -> None:
    for endpoint in ("chat", "completions", "embeddings"):
        try:
            read(endpoint, {}, json.dumps(document).encode())  # type: ignore[arg-type]
        except GatewayError as error:
            assert error.status == 400
            assert error.code in ("missing_field", "invalid_value", "invalid_json")


@given(
    name=st.sampled_from([f"x-router-{n}" for n in ("models", "min-quality", "cost-weight", "session", "explain", "max-latency-ms")]),
    value=st.binary(max_size=60),
)
def test_no_router_header_raises_anything_but_a_400(name: str, value: bytes) -> None:
    try:
        read("chat", {name.encode(): value}, b'{"model":"a","messages":[{}]}')
    except GatewayError as error:
        assert error.status == 400
        assert (error.param or "").startswith("router")


def test_headers_say_what_the_body_may_say_and_the_body_wins() -> None:
    headers = {b"x-router-models": b"a, b", b"x-router-max-cost-usd": b"0.5", b"x-router-explain": b"true", b"x-router-exclude": b"c"}
    body = b'{"model":"auto","messages":[{}],"router":{"max_cost_usd":0.25,"session":"s-1"}}'
    wishes = read("chat", headers, body).preferences
    assert wishes.models == {"a", "b"}
    assert wishes.exclude == {"c"}
    assert wishes.max_cost_usd == 0.25
    assert wishes.explain is True
    assert wishes.session == "s-1"


def test_what_a_request_needs() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 10_000}}
    body = {
        "model": "auto",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "what is it?"}, picture]}],
        "tools": [{"type": "function"}],
        "response_format": {"type": "json_schema", "json_schema": {}},
    }
    wire = read("chat", {}, json.dumps(body).encode())
    assert wire.needs == {"tools", "json_schema", "vision"}
    assert wire.prompt.size < 200, "a picture is no text"
    assert wire.prompt.text(100) == "what is it?"


def test_the_text_is_the_newest_human_turn_shortened_to_head_and_tail() -> None:
    messages = [{"role": "user", "content": "old"}, {"role": "assistant", "content": "x"}, {"role": "user", "content": "a" * 50 + "b" * 50}]
    prompt = read("chat", {}, json.dumps({"model": "m", "messages": [*messages, {"role": "tool", "content": "t"}]}).encode()).prompt
    assert prompt.text(1000) == "a" * 50 + "b" * 50
    assert prompt.text(10) == "aaaaabbbbb"


@pytest.mark.parametrize("text", ["é" * 1000, "日本" * 500])
def test_escapes_make_a_prompt_no_longer(text: str) -> None:
    bodies = [json.dumps({"model": "m", "messages": [{"content": text}]}, ensure_ascii=flag).encode() for flag in (True, False)]
    sizes = [read("chat", {}, body).prompt.size for body in bodies]
    assert max(sizes) - min(sizes) <= len(text)


@pytest.mark.parametrize(
    ("tier", "header", "found"),
    [
        (None, None, None),
        ("auto", None, None),
        ("flex", None, "batch"),
        (None, b"batch", "batch"),
        (None, b" Interactive ", "interactive"),
        ("flex", b"interactive", "batch"),
    ],
)
def test_the_class_that_a_client_asks_for(tier: str | None, header: bytes | None, found: str | None) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], **({} if tier is None else {"service_tier": tier})}
    headers = {} if header is None else {b"x-router-priority": header}
    assert read("chat", headers, json.dumps(body).encode()).priority == found


def test_an_unknown_class_is_refused() -> None:
    with pytest.raises(GatewayError) as error:
        read("chat", {b"x-router-priority": b"urgent"}, b'{"model": "m", "messages": [{"role": "user", "content": "x"}]}')
    assert (error.value.status, error.value.param) == (400, "x-router-priority")

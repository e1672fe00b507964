"""Traces, as a collector gets them: one span a request, and below it the decision, every call to a backend, and the relay."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from backends.fake.engine import Latency
from gateway.account.spans import read_parent
from gateway.config import validate
from gateway.source import ConfigError, Source
from tests.collectors import Collector, Seen, collector
from tests.faults.test_disconnect import leave
from tests.faults.test_rounds import asks_both, asks_then_relays, planned
from tests.gateways import Running, chat, events, model, pair, until

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CHAT = "/v1/chat/completions"


def traced(found: Collector, **more: Any) -> dict[str, Any]:
    return {"tracing": {"endpoint": found.url, **more}}


async def arrived(found: Collector, requests: int = 1) -> list[Seen]:
    """The requests' own spans, once so many of them are here; each comes after what is below it."""
    assert await until(lambda: len(found.roots()) >= requests, 10)
    return found.roots()


def is_whole(found: Collector, root: Seen) -> None:
    """Everything of a request is one tree, and nothing reaches beyond what it is part of."""
    for span in [span for span in found.spans if span.trace == root.trace and span.id != root.id]:
        assert span.parent == root.id, span.name
        assert root.start <= span.start <= span.end <= root.end, span.name


def posts(running: Running, name: str) -> list[Mapping[str, str]]:
    """The headers of the calls that an expert got."""
    return [record.headers for record in running.fakes[name].records if record.method == "POST"]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_an_answer_is_a_decision_a_call_and_a_relay(stream: bool) -> None:
    async with collector() as found, pair(**traced(found, service_name="ours")) as running:
        response = await running.post(**chat(stream=stream, max_tokens=50))
        (root,) = await arrived(found)
        decide, ask, relay = found.below(root)
    is_whole(found, root)
    assert (root.name, root.kind, root.parent, root.error) == ("POST /v1/chat/completions", "server", "", False)
    assert root.says["http.response.status_code"] == 200
    assert root.says["pointsman.decision_id"] == response.headers["x-router-decision-id"]
    assert root.says["pointsman.request_id"] == response.headers["x-request-id"]
    assert (root.says["pointsman.route"], root.says["pointsman.model"], root.says["pointsman.caller"]) == ("auto", "small", "anyone")
    assert root.says["pointsman.cost_usd"] > 0
    assert (decide.name, decide.kind) == ("decide", "internal")
    assert (decide.says["pointsman.reason"], decide.says["pointsman.candidates"]) == ("best_score", ["small", "large"])
    assert len(decide.says["pointsman.scores"]) == 2
    assert (ask.name, ask.kind, ask.says["pointsman.step"]) == ("chat small", "client", "ask")
    assert ask.says["gen_ai.operation.name"] == "chat"
    assert ask.says["gen_ai.provider.name"] == "vllm"
    assert (ask.says["gen_ai.request.model"], ask.says["gen_ai.response.model"]) == ("small", "small")
    assert (ask.says["gen_ai.request.stream"], ask.says["gen_ai.request.max_tokens"]) == (stream, 50)
    assert (ask.says["server.address"], ask.says["http.response.status_code"]) == ("127.0.0.1", 200)
    assert f"127.0.0.1:{ask.says['server.port']}" == ask.says["pointsman.backend"]
    assert ask.says["gen_ai.usage.input_tokens"] > 0
    assert ask.says["gen_ai.usage.output_tokens"] > 0
    assert ("gen_ai.response.time_to_first_chunk" in ask.says) == stream
    assert (relay.name, relay.kind) == ("relay", "internal")
    assert not any("gen_ai.usage" in name for span in (root, decide, relay) for name in span.says)
    assert (found.resource["service.name"], found.headers["content-type"]) == ("ours", "application/x-protobuf")
    assert "17 + 25" not in b"".join(found.raw).decode("latin-1")


async def test_every_attempt_has_a_span() -> None:
    async with collector() as found, pair(small=["status:500"], **traced(found)) as running:
        assert (await running.post(**chat())).status_code == 200
        (root,) = await arrived(found)
    is_whole(found, root)
    _, first, second, _ = found.below(root)
    assert (first.name, first.error, first.says["error.type"], first.says["http.response.status_code"]) == ("chat small", True, "500", 500)
    assert (second.name, second.error) == ("chat large", False)
    assert (root.says["pointsman.attempts"], root.says["pointsman.model"], root.error) == (2, "large", False)


async def test_every_call_of_a_plan_has_a_span() -> None:
    for says, purposes in ((asks_both, ["large", "small"]), (asks_then_relays, None)):
        async with collector() as found, planned(says, **traced(found)) as running:
            assert (await running.post(**chat(stream=True))).status_code == 200
            (root,) = await arrived(found)
            calls = posts(running, "small") + posts(running, "large")
        is_whole(found, root)
        asks = [span for span in found.below(root) if span.says.get("pointsman.step") == "ask"]
        assert [span.name for span in found.below(root) if span not in asks] == ["decide", "relay"]
        assert root.says["pointsman.calls"] == len(asks) == 2
        assert sorted(headers["traceparent"].split("-")[2] for headers in calls) == sorted(span.id for span in asks)
        assert all(span.says["gen_ai.usage.output_tokens"] > 0 for span in asks)
        if purposes is not None:
            assert sorted(span.says["pointsman.purpose"] for span in asks) == purposes


async def test_a_request_that_fails_says_why() -> None:
    async with collector() as found, pair(small=["status:500"], large=["status:500"], **traced(found)) as running:
        assert (await running.post(**chat())).status_code == 502
        assert (await running.post(**chat(model="nobody"))).status_code == 404
        failed, unknown = await arrived(found, 2)
    assert (failed.error, failed.says["error.type"], failed.says["http.response.status_code"]) == (True, "upstream_error", 502)
    assert found.below(failed)[0].name == "decide"
    assert (unknown.error, unknown.says["error.type"], unknown.says["http.response.status_code"]) == (False, "model_not_found", 404)
    (decide,) = found.below(unknown)
    assert (decide.name, decide.error) == ("decide", True)
    assert "nobody" not in b"".join(found.raw).decode("latin-1")


async def test_a_stream_that_breaks_off_is_an_error() -> None:
    async with collector() as found, pair(small=["cut_after:5"], **traced(found)) as running:
        assert "upstream_aborted" in (await running.post(**chat(stream=True))).text
        (root,) = await arrived(found)
    is_whole(found, root)
    ask, relay = found.below(root)[1:]
    assert (ask.error, ask.says["error.type"]) == (True, "lost")
    assert (root.error, root.says["error.type"], relay.says["error.type"]) == (True, "upstream_aborted", "upstream_aborted")


@pytest.mark.parametrize(("stream", "after"), [(True, 1500), (False, 0)], ids=["amid the stream", "before an answer"])
async def test_a_client_that_leaves_ends_its_spans(stream: bool, after: int) -> None:
    slow = Latency(tpot=50) if stream else Latency(ttft=5_000, seqs=1)
    async with collector() as found, pair(latency=slow, words=200, **traced(found)) as running:
        await leave(running, chat(content="Tell me a long story", stream=stream), after)
        (root,) = await arrived(found)
    is_whole(found, root)
    assert (root.error, root.says["error.type"], root.says["http.response.status_code"]) == (False, "client_closed", 499)
    ask = found.below(root)[1]
    assert ask.error is False
    assert "gen_ai.usage.output_tokens" not in ask.says
    assert stream or ask.says["pointsman.cancelled"] is True


@pytest.mark.parametrize("flags", ["01", "00"])
async def test_a_clients_trace_goes_on_through_the_gateway(flags: str) -> None:
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-{flags}", "tracestate": "them=1,us=2"}
    async with collector() as found, pair(**traced(found, sample_ratio=0.0)) as running:
        assert (await running.client.post(CHAT, json=chat(), headers=headers)).status_code == 200
        (call,) = posts(running, "small")
        version, trace, parent, sampled = call["traceparent"].split("-")
        if flags == "01":
            (root,) = await arrived(found)
            assert (root.trace, root.parent, root.state) == (TRACE, PARENT, "them=1,us=2")
            assert parent == found.named("chat small")[0].id
            assert running.lines()[-1]["trace_id"] == TRACE
    assert (version, trace, sampled, call["tracestate"]) == ("00", TRACE, flags, "them=1,us=2")
    assert parent != PARENT
    assert len(found.spans) == (4 if flags == "01" else 0)


async def test_without_a_collector_a_clients_trace_is_handed_on_as_it_is() -> None:
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "them=1"}
    async with pair() as running:
        await running.client.post(CHAT, json=chat(), headers=headers)
        await running.client.post(CHAT, json=chat(), headers={**headers, "traceparent": "00-strange-01"})
        named, strange = posts(running, "small")
        assert (named["traceparent"], named["tracestate"]) == (headers["traceparent"], "them=1")
        assert "traceparent" not in strange
        assert "tracestate" not in strange
        assert [line["trace_id"] for line in running.lines()] == [TRACE, None]


@pytest.mark.parametrize(
    ("header", "good"),
    [
        (f"00-{TRACE}-{PARENT}-01", True),
        (f"cc-{TRACE}-{PARENT}-01", True),
        (f"ff-{TRACE}-{PARENT}-01", False),
        (f"00-{'0' * 32}-{PARENT}-01", False),
        (f"00-{TRACE}-{'0' * 16}-01", False),
        (f"00-{TRACE.upper()}-{PARENT}-01", False),
        (f"00-{TRACE}-{PARENT}-01-more", False),
    ],
)
def test_only_a_well_formed_parent_is_taken(header: str, good: bool) -> None:
    assert (read_parent({b"traceparent": header.encode()}) is not None) == good


async def test_prompts_are_in_spans_only_if_that_is_asked_for() -> None:
    async with collector() as found, pair(**traced(found, prompts=True)) as running:
        await running.post(messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hallo"}], model="auto")
        await running.post("/v1/completions", model="auto", prompt="Once upon")
        await running.post("/v1/embeddings", model="auto", input=["one", "two"])
        await arrived(found, 3)
    said = [json.loads(span.says["gen_ai.input.messages"]) for span in sorted(found.spans, key=lambda s: s.start) if span.kind == "client"]
    assert said[0] == [
        {"role": "system", "parts": [{"type": "text", "content": "Be brief."}]},
        {"role": "user", "parts": [{"type": "text", "content": "Hallo"}]},
    ]
    assert [one[0]["parts"][0]["content"] for one in said[1:]] == ["Once upon", '["one","two"]']
    names = [span.name for span in sorted(found.spans, key=lambda s: s.start) if span.kind == "client"]
    assert names == ["chat small", "text_completion small", "embeddings small"]


async def test_times_have_the_trace_as_their_exemplar() -> None:
    wanted = {"accept": "application/openmetrics-text; version=1.0.0"}
    async with collector() as found, pair(**traced(found)) as running:
        await running.post(**chat(stream=True))
        (root,) = await arrived(found)
        shown = await running.client.get("/metrics", headers=wanted)
        plain = await running.client.get("/metrics")
    assert shown.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert shown.text.endswith("# EOF\n")
    for name in ("request_duration_seconds", "time_to_first_token_seconds", "overhead_seconds"):
        pattern = rf'^pointsman_{name}_bucket{{[^}}]*}} [0-9.]+ # {{trace_id="{root.trace}"}}'
        assert re.search(pattern, shown.text, re.MULTILINE), name
    assert plain.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "trace_id" not in plain.text
    async with pair() as untraced:
        await untraced.post(**chat(stream=True))
        assert "trace_id" not in (await untraced.client.get("/metrics", headers=wanted)).text


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("application/openmetrics-text", "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        ("application/openmetrics-text; version=x", "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        (
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.4,*/*;q=0.2",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        ),
        ("text/plain; version=x", "text/plain; version=0.0.4; charset=utf-8"),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
    ],
)
async def test_metrics_come_as_they_are_asked_for(accept: str, expected: str) -> None:
    async with pair() as running:
        shown = await running.client.get("/metrics", headers={"accept": accept})
    assert (shown.status_code, shown.headers["content-type"], shown.headers["vary"]) == (200, expected, "accept")


async def test_a_reload_turns_traces_on_and_off() -> None:
    async with collector() as found, pair() as running:
        assert running.stage is not None
        off = running.stage.written
        await running.post(**chat())
        await running.reload({**off, **traced(found)})
        await running.post(**chat())
        await running.reload(off)
        await running.post(**chat())
        await arrived(found)
        await asyncio.sleep(0.2)
    assert len(found.roots()) == 1


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({"endpoint": "collector:4318"}, "tracing.endpoint: is not a URL like http://collector:4318"),
        ({"endpoint": "http://me:canary@collector:4318"}, "keys go to `headers`"),
        ({"endpoint": "http://c:4318", "headers": {"a b": "canary"}}, "'a b' is not the name of a header"),
        ({"endpoint": "http://c:4318", "headers": {"a": "canary\r\nb: c"}}, "visible ASCII characters"),
        ({"endpoint": "http://c:4318", "sample_ratio": 2}, "tracing.sample_ratio"),
        ({"endpint": "http://c:4318"}, "did you mean 'endpoint'"),
    ],
)
def test_a_wrong_section_is_refused(section: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(Source("test.yaml", {"models": [model("small", "http://127.0.0.1:1/v1")], "tracing": section}))
    assert expected in str(caught.value)
    assert "canary" not in str(caught.value)


def test_without_the_extra_check_names_it(tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text(
        "models: [{name: small, backends: ['http://127.0.0.1:1/v1']}]\ntracing:\n  endpoint: http://127.0.0.1:4318\n", encoding="utf-8"
    )
    blind = (
        "import sys; sys.modules['opentelemetry.sdk'] = sys.modules['opentelemetry.exporter'] = None; "
        "from gateway.__main__ import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", blind, "check", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"{path}:3: tracing.endpoint: needs OpenTelemetry: pip install pointsman[otel]" in done.stdout + done.stderr
    path.write_text("models: [{name: small, backends: ['http://127.0.0.1:1/v1']}]\n", encoding="utf-8")
    assert subprocess.run([sys.executable, "-c", blind, "check", str(path)], capture_output=True, check=False).returncode == 0


async def test_what_sends_spans_is_not_loaded_where_nothing_is_traced() -> None:
    code = (
        "import sys\nfrom gateway.app import build, build_proxies\nfrom gateway.blueprint import draw\nfrom gateway.source import Source\n"
        "from routers.registry import Registry\nfrom pathlib import Path\n"
        "drawn = draw(Source('a', {'models': [{'name': 'a', 'backends': ['http://127.0.0.1:1/v1']}]}), Path(), {}, Registry())\n"
        "build_proxies(build(drawn.config, drawn.routes))\n"
        "print(*(name for name in sys.modules if name.startswith(('opentelemetry.exporter', 'gateway.account.span'))))"
    )
    done = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


async def test_events_are_whole_while_traces_are_on() -> None:
    async with collector() as found, pair(**traced(found)) as running, pair() as plain:
        here = events((await running.post(**chat(stream=True))).text)
        there = events((await plain.post(**chat(stream=True))).text)
    assert len(here) == len(there)
    assert here[-1] == there[-1] == "[DONE]"

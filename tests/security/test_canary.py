"""A secret that is put everywhere is found nowhere but where it must go. (Fault 27.)"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest

from gateway.config import validate
from gateway.source import ConfigError, Source
from routers.api import Ask, Budget, Candidate, Need, Outcome, RouteRequest, Scored, Turn
from routers.registry import KINDS, Registry
from tests.collectors import collector
from tests.gateways import Running, chat, fake, model, route, serving, until
from tests.redis_servers import RedisServer, redis_server

CANARY = "canary-7f3a9c"
KEY = f"pm_{CANARY}_0123456789"
RIGHT, WRONG = {"authorization": f"Bearer {KEY}"}, {"authorization": f"Bearer {KEY}x"}
ELSEWHERE = {
    "x-request-id": f"{CANARY} {{}}",
    "traceparent": f"00-{CANARY}-01",
    "tracestate": f"{CANARY}=1",
    "cookie": CANARY,
    "user-agent": CANARY,
    "x-router-session": CANARY,
}
CLIENT = ("httpx", "httpcore", "test")
"""Loggers of the test's own client."""


class Leaky:
    """A plugin of every kind whose errors quote a secret. `way`: the method that raises."""

    needs: frozenset[Need] = frozenset({"text"})
    instant = True
    deterministic = True
    predicts: Literal["preference"] = "preference"

    def __init__(self, way: str = "") -> None:
        self._way = way

    def _leak(self, way: str) -> None:
        if way == self._way:
            try:
                raise KeyError(CANARY)
            except KeyError as error:
                raise RuntimeError(f"cannot work on {CANARY}") from error

    def reject(self, request: RouteRequest, candidate: Candidate) -> str | None:
        self._leak("reject")
        return None

    def score(self, request: RouteRequest, candidates: Sequence[Candidate]) -> Mapping[str, float]:
        self._leak("score")
        return {}

    def pick(self, request: RouteRequest, ranked: Sequence[Scored], rng: object) -> Sequence[Scored]:
        self._leak("pick")
        return ranked

    def next(self, request: RouteRequest, ranking: Sequence[Scored], turns: Sequence[Turn], left: Budget) -> Sequence[Ask]:
        self._leak("next")
        return (Ask(tuple(scored.name for scored in ranking)),)

    def observe(self, outcome: Outcome) -> None:
        self._leak("observe")


class Seen:
    """All that anyone but a backend gets to see."""

    def __init__(self, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
        self._caplog = caplog
        self._capfd = capfd
        self._parts: list[str] = []
        caplog.set_level(logging.DEBUG)

    def add(self, *parts: object) -> None:
        self._parts += [str(part) for part in parts]

    def answer(self, response: httpx.Response, whole: bool = False) -> None:
        """An answer's headers, and its body if that is the gateway's own."""
        self.add(response.status_code, response.headers.multi_items())
        if whole or response.status_code in (401, 409, 429) or response.status_code >= 500:
            self.add(response.text)

    async def gateway(self, running: Running) -> None:
        """What the gateway shows to operators and writes to its log."""
        for path in ("/metrics", "/readyz", "/openapi.json", "/v1/models", "/admin/config", "/admin/backends"):
            self.answer(await running.client.get(path, headers=RIGHT), whole=True)
        self.add(json.dumps(running.lines()))

    def text(self) -> str:
        formatter = logging.Formatter("%(name)s %(levelname)s %(message)s")
        logged = [formatter.format(record) for record in self._caplog.records if not record.name.startswith(CLIENT)]
        printed = self._capfd.readouterr()
        return "\n".join([*self._parts, *logged, printed.out, printed.err])


@pytest.fixture
def seen(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Seen:
    return Seen(caplog, capfd)


def guarded(folder: Path, **config: Any) -> dict[str, Any]:
    """Sections that let KEY in and keep a ledger."""
    path = folder / "keys.yaml"
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    path.write_text(json.dumps({"keys": [{"id": "ann", "name": "Ann", "sha256": digest, "role": "admin", "rpm": 1000, "budget_usd": 100}]}))
    return {"auth": {"keys": str(path)}, "ledger": {"path": str(folder / "ledger.jsonl")}, **config}


def ledger(folder: Path) -> str:
    """Every file of the ledger; the gateway must have closed it."""
    found = "".join(path.read_text() for path in folder.glob("ledger.jsonl*"))
    assert "decision_id" in found
    return found


def dump(server: RedisServer) -> str:
    """Every key and value of a Redis server."""
    read = {
        b"string": ("GET",),
        b"hash": ("HGETALL",),
        b"list": ("LRANGE", 0, -1),
        b"zset": ("ZRANGE", 0, -1),
        b"set": ("SMEMBERS",),
        b"stream": ("XRANGE", "-", "+"),
    }
    found = []
    for key in server.command("KEYS", "*", password=CANARY):
        kind = server.command("TYPE", key, password=CANARY)
        if kind == b"none":  # its time was over between the two commands
            found.append(repr(key))
            continue
        command, *rest = read[kind]
        found.append(f"{key!r} {server.command(str(command), key, *rest, password=CANARY)!r}")
    assert found
    return "\n".join(found)


async def visit(running: Running, seen: Seen) -> None:
    """Calls of many kinds with the secret wherever a caller can put it."""
    post, get = running.client.post, running.client.get
    for number in range(3):
        body = chat("auto", f"{CANARY} {number}", user=CANARY, metadata={"a": CANARY}, router={"explain": True})
        for headers in (RIGHT, {**RIGHT, **ELSEWHERE}, {**RIGHT, "idempotency-key": f"{CANARY}-{number}"}):
            for more in ({}, {"stream": True}):
                response = await post("/v1/chat/completions", json={**body, **more}, headers=headers)
                seen.answer(response)
                if decision := response.headers.get("x-router-decision-id"):
                    seen.answer(await get(f"/v1/decisions/{decision}", headers=RIGHT), whole=True)
                    given = {"decision_id": decision, "score": 0.5, "comment": f"{CANARY}-comment"}
                    seen.answer(await post("/v1/feedback", json=given, headers=RIGHT), whole=True)
        conflict = await post("/v1/chat/completions", json=chat("auto", CANARY), headers={**RIGHT, "idempotency-key": f"{CANARY}-{number}"})
        seen.answer(conflict)
        seen.answer(await post("/v1/route", json=body, headers=RIGHT), whole=True)
    for path in ("/v1/chat/completions", "/v1/route", "/v1/feedback"):
        seen.answer(await post(path, json=body, headers=WRONG), whole=True)
        for broken in (
            f'{{"{CANARY}',
            json.dumps({"model": "auto", "messages": CANARY}),
            json.dumps({"score": CANARY, "decision_id": "a"}),
        ):
            headers = {**RIGHT, "content-type": "application/json"}
            seen.answer(await post(path, content=broken, headers=headers), whole=True)
    for path in (f"/{CANARY}", f"/v1/models?key={CANARY}", f"/v1/decisions/{CANARY}"):
        seen.answer(await get(path, headers=WRONG), whole=True)


@pytest.mark.parametrize("prompts", [False, True], ids=["without prompts", "with prompts"])
async def test_nothing_keeps_what_callers_send(prompts: bool, tmp_path: Path, seen: Seen) -> None:
    with redis_server("redis", "--requirepass", CANARY) as server:
        async with fake("small", "status:500@every=4") as expert, collector() as traces:
            url = f"redis://:{CANARY}@127.0.0.1:{server.port}"
            config = guarded(tmp_path, redis={"url": url, "timeout_ms": 1000}, retries={"max_attempts": 1})
            config["ledger"] |= {"prompts": prompts, "redis": not prompts}
            config["tracing"] = {"endpoint": traces.url, "headers": {"authorization": f"Bearer {CANARY}-otlp"}, "prompts": prompts}
            whole = {"models": [model("small", expert.url, api_key=f"sk-{CANARY}")], "routes": [route("small")], **config}
            async with serving(whole) as running:
                await visit(running, seen)
                await seen.gateway(running)
                assert "pointsman_redis_up 1.0" in (await running.client.get("/metrics")).text
            assert traces.headers["authorization"] == f"bearer {CANARY}-otlp"
            told = [{**span.says, "gen_ai.input.messages": ""} for span in traces.spans] if prompts else traces.raw
            assert len(traces.roots()) > 20
            assert CANARY not in repr(told) + repr([span.name + span.state for span in traces.spans]) + repr(traces.resource)
            assert prompts == any(CANARY in span.says.get("gen_ai.input.messages", "") for span in traces.spans)
            asked = [record for record in expert.records if record.method == "POST"]
            assert all(record.headers["authorization"] == f"Bearer sk-{CANARY}" for record in asked)
            assert KEY not in str(expert.documents())
        kept = ledger(tmp_path).replace(f"{CANARY}-comment", "")
        stored = dump(server).replace(f"{CANARY}-comment", "")
    assert CANARY not in seen.text()
    assert CANARY not in stored
    if prompts:
        lines = [json.loads(line) for line in kept.splitlines()]
        assert [line["prompt"] for line in lines if CANARY in line.get("prompt", "")]
        assert CANARY not in json.dumps([{**line, "prompt": ""} for line in lines])
    else:
        assert CANARY not in kept


async def test_the_password_of_redis_is_in_no_error_of_it(tmp_path: Path, seen: Seen, caplog: pytest.LogCaptureFixture) -> None:
    with redis_server("redis", "--requirepass", f"{CANARY}-right") as server:
        async with fake("small") as expert:
            for place in (f"{CANARY}:{CANARY}@127.0.0.1:{server.port}", f":{CANARY}@127.0.0.1:1"):
                config = guarded(tmp_path, redis={"url": f"redis://{place}"})
                async with serving({"models": [model("small", expert.url)], "routes": [route("small")], **config}) as running:
                    response = await running.client.post("/v1/chat/completions", json=chat(), headers=RIGHT)
                    assert (response.status_code, response.headers["x-router-limits"]) == (200, "local")
                    assert await until(lambda: "is away" in caplog.text)
                    await seen.gateway(running)
                caplog.clear()
    assert CANARY not in seen.text()


WAYS: dict[str, dict[str, Any]] = {
    "reject": {"filters": [{"type": "leaky", "way": "reject"}]},
    "score": {"scorers": [{"type": "leaky", "way": "score"}]},
    "pick": {"scorers": [{"type": "cost"}], "picker": {"type": "leaky", "way": "pick"}},
    "next": {"planner": {"type": "leaky", "way": "next"}},
    "observe": {"scorers": [{"type": "leaky", "way": "observe"}]},
}


@pytest.mark.parametrize("way", WAYS)
async def test_what_a_plugin_raises_is_told_to_nobody(way: str, tmp_path: Path, seen: Seen, caplog: pytest.LogCaptureFixture) -> None:
    registry = Registry({(kind, "leaky"): Leaky for kind in KINDS})
    async with fake("small") as small, fake("large") as large:
        models = [model("small", small.url), model("large", large.url)]
        async with serving({"models": models, "routes": [route("small", "large", **WAYS[way])], **guarded(tmp_path)}, registry) as running:
            await visit(running, seen)
            if way == "observe":
                assert await until(lambda: "failed to learn" in caplog.text)
            else:
                assert "plugin_errors_total{plugin=" in (await running.client.get("/metrics")).text
            await seen.gateway(running)
    assert CANARY not in ledger(tmp_path).replace(f"{CANARY}-comment", "")
    assert CANARY not in seen.text()


def whole(status: str, body: str, media: str = "application/json", more: str = "") -> bytes:
    """A backend's answer."""
    head = f"HTTP/1.1 {status}\r\ncontent-type: {media}\r\nconnection: close\r\n{more}content-length: {len(body)}\r\n\r\n"
    return (head + body).encode()


ODD = {
    "500": whole("500 " + CANARY, json.dumps({"error": {"message": CANARY, "code": CANARY, "type": CANARY}})),
    "503 with a page": whole("503 No", f"<h1>{CANARY}</h1>", "text/html", f"retry-after: {CANARY}\r\nx-secret: {CANARY}\r\n"),
    "400 with a page": whole("400 No", f"<h1>{CANARY}</h1>", "text/html"),
    "429": whole("429 No", json.dumps({"error": CANARY})),
    "a page": whole("200 OK", f"<h1>{CANARY}</h1>", "text/html"),
    "a strange type": whole("200 OK", "{}", f"text/{CANARY}"),
    "a redirect": whole("302 Found", "", "text/html", f"location: http://127.0.0.1/{CANARY}\r\n"),
    "no HTTP": f"{CANARY} {CANARY}\r\n\r\n".encode(),
    "a bad header": f"HTTP/1.1 200 OK\r\n{CANARY}\r\n\r\n".encode(),
    "an error first": whole("200 OK", f'data: {{"error": {{"message": "{CANARY}"}}}}\n\n', "text/event-stream"),
    "garbage first": whole("200 OK", f"data: {{{CANARY}\n\n", "text/event-stream"),
    "cut off": whole("200 OK", json.dumps({"model": CANARY}))[:-3],
    "another model": whole("200 OK", json.dumps({"data": [{"id": CANARY}]}), f"application/{CANARY}"),
}


@asynccontextmanager
async def speaking(answer: bytes, healthy: bool) -> AsyncIterator[str]:
    """A backend that always says the same; if it is `healthy`, not to health checks. Yields its URL."""
    fine = whole("200 OK", json.dumps({"data": [{"id": "small"}]}))

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            writer.write(fine if healthy and head.startswith(b"GET") else answer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(reply, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        server.close()


@pytest.mark.parametrize("transport", ["http1", "httpx"])
@pytest.mark.parametrize("healthy", [True, False], ids=["to calls", "to checks"])
async def test_what_a_broken_backend_says_goes_nowhere(healthy: bool, transport: str, tmp_path: Path, seen: Seen) -> None:
    async with AsyncExitStack() as stack:
        urls = [await stack.enter_async_context(speaking(answer, healthy)) for answer in ODD.values()]
        more = {"api_key": CANARY, "transport": transport, "served_as": "small", "timeouts": {"first_byte": 2}}
        config = guarded(tmp_path, retries={"max_attempts": 2}, health={"interval_seconds": 0.1}, breaker={"failures": 1000})
        running = await stack.enter_async_context(
            serving({"models": [model(f"m{n}", url, **more) for n, url in enumerate(urls)], **config})
        )
        for number, name in enumerate(ODD):
            backend = running.gateway.fleet[f"m{number}"].pool.backends[0]
            assert await until(lambda backend=backend: backend.health != "unknown")
            for stream in (False, True):
                body = chat(f"m{number}", stream=stream)
                response = await running.client.post("/v1/chat/completions", json=body, headers=RIGHT)
                assert 429 <= response.status_code <= 504, name
                seen.answer(response, whole=True)
                if decision := response.headers.get("x-router-decision-id"):
                    seen.answer(await running.client.get(f"/v1/decisions/{decision}", headers=RIGHT), whole=True)
            assert CANARY not in seen.text(), name
        await seen.gateway(running)
    assert CANARY not in seen.text()
    assert CANARY not in ledger(tmp_path)


@pytest.mark.parametrize(
    "sections",
    [
        {"models": [model("small", f"http://user:{CANARY}@127.0.0.1:1/v1")]},
        {"models": [model("small", f"http://:{CANARY}@127.0.0.1:1/v1")]},
        {"models": [model("small", f"http://127.0.0.1:1/v1?key={CANARY}")]},
        {"models": [{**model("small", "http://127.0.0.1:1/v1"), "api_key": [CANARY]}]},
        {"redis": {"url": f"redis://:{CANARY}/@127.0.0.1:1"}},
        {"redis": {"url": f"http://:{CANARY}@127.0.0.1:1"}},
        {"auth": {"jwt": {"jwks_url": f"https://user:{CANARY}@issuer/jwks", "issuer": "a", "audience": "b"}}},
        {"auth": {"jwt": {"jwks_url": f"https://:{CANARY}@issuer/jwks", "issuer": "a", "audience": "b"}}},
    ],
    ids=["user", "password alone", "query", "a list", "an unescaped password", "scheme", "issuer", "issuer, password alone"],
)
def test_a_configuration_with_a_secret_in_the_wrong_place_is_refused_without_the_secret(sections: dict[str, Any]) -> None:
    config = {"models": [model("small", "http://127.0.0.1:1/v1")], **sections}
    with pytest.raises(ConfigError) as caught:
        validate(Source("test.yaml", config))
    assert CANARY not in str(caught.value)

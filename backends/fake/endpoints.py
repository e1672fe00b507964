"""What the fake server answers at each path."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from backends.fake import exposition, misbehave, shapes, switching
from backends.fake.engine import Latency
from backends.fake.faults import Fault, Scheduled, parse
from backends.fake.residency import Residency
from backends.fake.server import SERVER, Connection, FakeServer, Record, Request
from backends.fake.shapes import Character, Refused
from backends.fake.skills import pieces

GENERATING = {"/v1/chat/completions": True, "/v1/completions": False}
Handler = Callable[[FakeServer, Connection, Request], Awaitable[None]]


def create(
    characters: Sequence[Character],
    *,
    latency: Latency | None = None,
    faults: Sequence[Scheduled] = (),
    seed: int = 0,
    api_key: str | None = None,
    residency: Residency | None = None,
) -> FakeServer:
    """A fake server that is ready to start."""
    residency = residency or Residency(while_asleep="refuse")
    return FakeServer(characters, answer, latency=latency, faults=faults, seed=seed, api_key=api_key, residency=residency)


async def answer(server: FakeServer, connection: Connection, request: Request) -> None:
    """Answers one request."""
    if request.path.startswith("/fake/"):
        await _control(server, connection, request)
        return
    record = server.record(request)
    connection.record = record
    try:
        await _dispatch(server, connection, request, record)
    except Refused as refused:
        connection.respond_json(refused.document, refused.status)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):
        connection.respond_json(Refused("the body is not valid JSON").document, 400)
    record.finished = record.peer_closed_at_chunk is None
    connection.record = None


async def _dispatch(server: FakeServer, connection: Connection, request: Request, record: Record) -> None:
    handlers = _HANDLERS.get(request.path)
    if handlers is None:
        raise Refused("Not Found", status=404, kind="NotFoundError")
    handler = handlers.get(request.method)
    if handler is None:
        raise Refused("Method Not Allowed", status=405, kind="BadRequestError")
    expected = None if server.api_key is None else f"Bearer {server.api_key}"
    if expected is not None and request.path.startswith("/v1/") and request.headers.get("authorization") != expected:
        raise Refused("Unauthorized", status=401, kind="AuthenticationError")
    if request.path in GENERATING or request.path == "/v1/embeddings":
        fault = _fault_of(server, request)
        if fault is not None:
            record.fault = fault.text
            if await misbehave.instead_of_answer(connection, request, fault):
                return
    await handler(server, connection, request)


def _fault_of(server: FakeServer, request: Request) -> Fault | None:
    """The fault that the request asks for, or the one that the schedule has for it."""
    wanted = request.headers.get("x-fake-fault")
    fields = request.json()
    if isinstance(fields, dict) and isinstance(fields.get("fake_fault"), str):
        wanted = fields["fake_fault"]
    if wanted:
        try:
            return parse(wanted).fault
        except ValueError as error:
            raise Refused(str(error), param="fake_fault") from None
    return server.schedule.for_request()


async def _generate(server: FakeServer, connection: Connection, request: Request) -> None:
    chat = GENERATING[request.path]
    fields = _fields(request)
    character = _character(server, fields)
    identity = f"{'chatcmpl' if chat else 'cmpl'}-{hashlib.sha256(request.body).hexdigest()[:32]}"
    made = shapes.generation(fields, character, chat, identity, int(time.time()))
    record = connection.record
    assert record is not None
    record.stream = made.stream
    fault = parse(record.fault).fault if record.fault else None
    started = server.clock()
    async with switching.generating(server, made.model if made.model in server.adapters else None):
        naps = server.sleeper.naps
        if server.sleeper.lost_weights:
            made = replace(made, texts=(switching.LOST_WEIGHTS,) * len(made.texts), tool_call=None)
        await server.engine.prefill(made.prompt)
        server.engine.first_token_seconds.append(server.clock() - started)
        server.counters.prompt_tokens += made.prompt_tokens
        if made.stream:
            await _stream(server, connection, made, fault, naps)
        else:
            for _ in range(shapes.usage(made)["completion_tokens"] if server.engine.latency.tpot else 0):
                await server.engine.token()
            answer = shapes.whole(made, aborted=server.sleeper.naps != naps)
            await misbehave.respond_whole(connection, json.dumps(answer, ensure_ascii=False).encode(), fault)
    server.counters.generation_tokens += shapes.usage(made)["completion_tokens"]
    reason = made.pieces(0)[1]
    server.counters.requests[reason] = server.counters.requests.get(reason, 0) + 1


async def _stream(server: FakeServer, connection: Connection, made: shapes.Generation, fault: Fault | None, naps: int) -> None:
    connection.begin_stream()
    if await misbehave.instead_of_stream(connection, fault):
        return
    for place, data in enumerate(shapes.chunks(made)):
        if place:
            await server.engine.token()
        if server.sleeper.naps != naps:
            connection.chunk(b"data: " + shapes.abort_chunk(made) + b"\n\n")
            connection.chunk(b"data: [DONE]\n\n")
            break
        if await misbehave.amid_stream(connection, place, fault):
            return
        block = misbehave.event_bytes(data, place, fault)
        for part in misbehave.writes(block, fault):
            connection.chunk(part)
            await connection.drained()
        await misbehave.pause(len(block), fault)
        if place % 16 == 0:
            await asyncio.sleep(0)
    connection.end_stream()


async def _embed(server: FakeServer, connection: Connection, request: Request) -> None:
    """Floats, whatever `encoding_format` asks for: every client takes them, and OpenAI's own test suite takes nothing else."""
    fields = _fields(request)
    character = _character(server, fields)
    inputs = fields.get("input")
    if isinstance(inputs, str) or (isinstance(inputs, list) and inputs and all(isinstance(one, int) for one in inputs)):
        inputs = [inputs]
    if not isinstance(inputs, list) or not inputs:
        raise Refused("input: a string or a non-empty list is required", param="input")
    dimensions = fields.get("dimensions") or 32
    data = [{"index": index, "object": "embedding", "embedding": _vector(one, dimensions)} for index, one in enumerate(inputs)]
    async with switching.generating(server, None):
        await server.engine.prefill(str(inputs))
    tokens = max(1, len(str(inputs)) // 4)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0, "prompt_tokens_details": None}
    identity = f"embd-{hashlib.sha256(request.body).hexdigest()[:32]}"
    connection.respond_json(
        {"id": identity, "object": "list", "created": int(time.time()), "model": character.name, "data": data, "usage": usage}
    )


def _vector(text: Any, dimensions: int) -> list[float]:
    """A unit vector that depends on the text alone."""
    values: list[float] = []
    block = b""
    while len(values) < dimensions:
        block = hashlib.sha256(block + json.dumps(text).encode()).digest()
        values += [byte / 127.5 - 1 for byte in block]
    length = math.sqrt(sum(value * value for value in values[:dimensions])) or 1.0
    return [value / length for value in values[:dimensions]]


def _fields(request: Request) -> Mapping[str, Any]:
    fields = request.json()
    if not isinstance(fields, dict):
        raise Refused("the body must be an object")
    return fields


def _character(server: FakeServer, fields: Mapping[str, Any]) -> Character:
    name = fields.get("model")
    if not isinstance(name, str):
        raise Refused("model: a string is required", param="model")
    base = server.adapters.get(name)
    found = server.characters.get(base or name)
    if found is None:
        raise Refused(f"The model `{name}` does not exist.", status=404, kind="NotFoundError", param="model")
    return found if base is None else Character(name, found.skill, found.words, found.max_model_len)


async def _models(server: FakeServer, connection: Connection, request: Request) -> None:
    data: list[dict[str, Any]] = []
    if not _still_loading(server) and server.schedule.for_state("model_absent") is None:
        for character in server.characters.values():
            data.append(_model(character.name, None, character.max_model_len))
        data += [{**_model(name, base, None), "root": server.adapter_paths.get(name, name)} for name, base in server.adapters.items()]
    connection.respond_json({"object": "list", "data": data})


def _model(name: str, parent: str | None, max_model_len: int | None) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": 1_700_000_000,
        "owned_by": "vllm",
        "root": name,
        "parent": parent,
        "max_model_len": max_model_len,
        "permission": [],
    }


def _still_loading(server: FakeServer) -> bool:
    loading = server.schedule.for_state("loading")
    seconds = server.residency.loading if loading is None else loading.number
    return server.clock() - server.booted < seconds


async def _health(server: FakeServer, connection: Connection, request: Request) -> None:
    flap = server.schedule.for_state("flap")
    down = flap is not None and int((server.clock() - server.booted) / max(0.01, flap.number)) % 2 == 1
    down = down or server.schedule.for_state("unhealthy") is not None
    connection.respond(503 if down else 200, b"")


async def _metrics(server: FakeServer, connection: Connection, request: Request) -> None:
    connection.respond(200, exposition.text(server).encode(), "text/plain; version=0.0.4; charset=utf-8")


async def _version(server: FakeServer, connection: Connection, request: Request) -> None:
    connection.respond_json({"version": f"0.0.0+{SERVER}", "fake": True})


async def _tokenize(server: FakeServer, connection: Connection, request: Request) -> None:
    fields = _fields(request)
    character = _character(server, {"model": fields.get("model", server.name)})
    text = fields.get("prompt") if isinstance(fields.get("prompt"), str) else json.dumps(fields.get("messages"))
    tokens = [int.from_bytes(hashlib.sha256(piece.encode()).digest()[:2], "big") for piece in pieces(str(text))]
    connection.respond_json({"count": len(tokens), "max_model_len": character.max_model_len, "tokens": tokens, "token_strs": None})


async def _control(server: FakeServer, connection: Connection, request: Request) -> None:
    """What tests use: the records, and the schedule of faults."""
    where = (request.method, request.path)
    if where == ("GET", "/fake/records"):
        connection.respond_json(server.documents())
    elif where == ("DELETE", "/fake/records"):
        server.records.clear()
        connection.respond(204, b"")
    elif where == ("POST", "/fake/faults"):
        try:
            server.schedule.faults = [parse(text) for text in request.json()]
        except (ValueError, TypeError) as error:
            connection.respond_json(Refused(str(error)).document, 400)
            return
        connection.respond(204, b"")
    else:
        connection.respond_json(Refused("Not Found", status=404, kind="NotFoundError").document, 404)


_HANDLERS: Mapping[str, Mapping[str, Handler]] = {
    "/v1/chat/completions": {"POST": _generate},
    "/v1/completions": {"POST": _generate},
    "/v1/embeddings": {"POST": _embed},
    "/v1/models": {"GET": _models},
    "/health": {"GET": _health},
    "/ping": {"GET": _health, "POST": _health},
    "/metrics": {"GET": _metrics},
    "/version": {"GET": _version},
    "/tokenize": {"POST": _tokenize},
    "/sleep": {"POST": switching.sleep},
    "/wake_up": {"POST": switching.wake},
    "/is_sleeping": {"GET": switching.is_sleeping},
    "/collective_rpc": {"POST": switching.collective_rpc},
    "/reset_prefix_cache": {"POST": switching.reset_prefix_cache},
    "/v1/load_lora_adapter": {"POST": switching.load_adapter},
    "/v1/unload_lora_adapter": {"POST": switching.unload_adapter},
}

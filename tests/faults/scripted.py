"""A fake expert that says what a test tells it to: a policy's tags, an expert's letter, an attack."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from backends.fake import endpoints, misbehave, shapes
from backends.fake.engine import Latency
from backends.fake.faults import parse
from backends.fake.server import Connection, FakeServer, Request
from backends.fake.shapes import Character
from tests.gateways import Running

Says = Callable[[Mapping[str, Any]], str]
"""The text for a request's body."""


def in_turn(*texts: str) -> Says:
    """One text after the other, the last one for ever."""
    rest = list(texts)

    def says(body: Mapping[str, Any]) -> str:
        return rest.pop(0) if len(rest) > 1 else rest[0]

    return says


@asynccontextmanager
async def scripted(name: str, says: Says | str, *faults: str, latency: Latency | None = None) -> AsyncIterator[FakeServer]:
    """A fake that is like any other but for its words. It stops at stop strings as vLLM does. `faults`: as in tests.gateways.fake."""
    server = FakeServer(
        [Character(name)],
        _answerer(in_turn(says) if isinstance(says, str) else says),
        latency=latency,
        faults=[parse(one) for one in faults],
    )
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


def bodies(running: Running, name: str) -> list[dict[str, Any]]:
    """What an expert has been asked, in order."""
    return [json.loads(record.body) for record in running.fakes[name].records if record.method == "POST"]


def _answerer(says: Says) -> Callable[[FakeServer, Connection, Request], Any]:
    async def answer(server: FakeServer, connection: Connection, request: Request) -> None:
        if request.method != "POST" or request.path != "/v1/chat/completions":
            await endpoints.answer(server, connection, request)
            return
        record = server.record(request)
        connection.record = record
        scheduled = server.schedule.for_request()
        if scheduled is None or not await misbehave.instead_of_answer(connection, request, scheduled):
            await _say(server, connection, request, says)
        record.finished = record.peer_closed_at_chunk is None
        connection.record = None

    return answer


async def _say(server: FakeServer, connection: Connection, request: Request, says: Says) -> None:
    body = request.json()
    made = shapes.generation(body, next(iter(server.characters.values())), True, f"chatcmpl-{len(server.records)}", int(time.time()))
    stops: Sequence[str] = made.stop
    text = _up_to(says(body), stops, bool(body.get("include_stop_str_in_output")))
    made = replace(made, texts=(text,), tool_call=None, stop=())
    await server.engine.prefill(made.prompt)
    if not made.stream:
        for _ in range(shapes.usage(made)["completion_tokens"] if server.engine.latency.tpot else 0):
            await server.engine.token()
        await misbehave.respond_whole(connection, json.dumps(shapes.whole(made)).encode(), None)
        return
    connection.begin_stream()
    for data in shapes.chunks(made):
        await server.engine.token()
        connection.chunk(b"data: " + data + b"\n\n")
        await connection.drained()
    connection.end_stream()


def _up_to(text: str, stops: Sequence[str], inclusive: bool) -> str:
    found = [(place, stop) for stop in stops if (place := text.find(stop)) >= 0]
    if not found:
        return text
    place, stop = min(found)
    return text[: place + len(stop)] if inclusive else text[:place]

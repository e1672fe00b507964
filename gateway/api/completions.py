"""The three endpoints that are passed on to models, as one plain ASGI handler: read, decide, execute, relay, account."""

from __future__ import annotations

import asyncio
import logging
import re
import traceback
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any

import msgspec

from backends.api import Header
from backends.deadlines import Deadlines
from backends.retry import Outcome
from gateway.account.bookkeeper import Bookkeeper
from gateway.account.records import Decision, Record
from gateway.account.visit import Visit
from gateway.errors import CLIENT_CLOSED, ClientGone, GatewayError
from gateway.flow.client import Client, Receive, Send
from gateway.flow.decide import Decider
from gateway.flow.execute import Executor, Reply
from gateway.flow.relay import Relayed, explain, relay_stream, relay_whole, rename, usage_of
from gateway.flow.wire import Wire, read
from gateway.guard.limits import read_body
from routers.api import Endpoint

LARGE_BODY = 512 * 1024
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_PLAIN_CALL = ((b"content-type", b"application/json"), (b"accept-encoding", b"identity"))
_log = logging.getLogger("pointsman")


class Completions:
    """ASGI handler for one endpoint. `clock`: seconds, monotonic. `new_id`: a fresh id each call."""

    def __init__(
        self,
        endpoint: Endpoint,
        decider: Decider,
        executor: Executor,
        bookkeeper: Bookkeeper,
        deadlines: Deadlines,
        *,
        max_body_bytes: int,
        write_seconds: float,
        clock: Callable[[], float],
        new_id: Callable[[], str],
    ) -> None:
        self._endpoint: Endpoint = endpoint
        self._decider = decider
        self._executor = executor
        self._bookkeeper = bookkeeper
        self._deadlines = deadlines
        self._max_body_bytes = max_body_bytes
        self._write_seconds = write_seconds
        self._clock = clock
        self._new_id = new_id
        self._decided_headers: dict[tuple[str | None, ...], tuple[Header, ...]] = {}

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        visit = Visit(self._clock(), dict(scope["headers"]), self._new_id)
        client = Client(receive, send, self._deadlines, self._write_seconds)
        try:
            body = await read_body(receive, visit.headers, self._max_body_bytes)
            async with client:
                await self._serve(client, visit, body)
        except GatewayError as error:
            visit.fail(error.status, error.code)
            await send_error(client, error, visit)
        except ClientGone:
            visit.fail(CLIENT_CLOSED, "client_closed")
        except asyncio.CancelledError:
            visit.fail(503, "draining")
            raise
        except Exception as error:
            _log.error("request %s failed: %s at %s", visit.request_id, type(error).__name__, place_of(error))
            visit.fail(500, "internal_error")
            if not client.committed:
                await send_error(client, GatewayError("internal_error", "something went wrong in the gateway"), visit)
        finally:
            self._bookkeeper.close(visit, self._endpoint, self._clock())

    async def _serve(self, client: Client, visit: Visit, body: bytes) -> None:
        wire = await read_wire(self._endpoint, visit.headers, body)
        decision = await self._decider.decide(wire, not asks_for_fresh(visit.headers))
        visit.record = record = Record(decision, self._endpoint, visit.request_id, wire.stream)
        visit.prompt_size = wire.prompt.size
        wishes = wire.preferences
        deadline = None if wishes.max_latency_ms is None else visit.started + wishes.max_latency_ms / 1000
        ask = self._decider.ask(decision, wire)
        asked = self._clock()
        reply = await self._executor.open(ask.models, wire, self._call_headers(visit), deadline, record.attempts)
        answered = self._clock()
        record.model = reply.served.model.name
        record.overhead_seconds = asked - visit.started
        outcome = Outcome(status=reply.status)
        try:
            if reply.splitter is None:
                await self._relay_whole(client, visit, wire, reply, record)
            else:
                record.first_byte_seconds = answered - visit.started
                relayed = await self._relay_stream(client, visit, wire, reply, record)
                record.usage, record.error = relayed.usage, relayed.error
                if relayed.error is not None:
                    outcome = Outcome(kind="lost")
            record.status = reply.status
        finally:
            reply.close(outcome)

    async def _relay_whole(self, client: Client, visit: Visit, wire: Wire, reply: Reply, record: Record) -> None:
        body = reply.first
        if not reply.passed_on:
            record.usage = usage_of(body)
            self._bookkeeper.bill(record)
            body = rename(body, reply.served.renamed)
            if wire.preferences.explain:
                body = explain(body, msgspec.json.encode(record.decision.document()))
        await relay_whole(reply, client, self._answer_headers(visit, record, reply), body)

    async def _relay_stream(self, client: Client, visit: Visit, wire: Wire, reply: Reply, record: Record) -> Relayed:
        decision = msgspec.json.encode(record.decision.document()) if wire.preferences.explain else None
        headers = [*self._answer_headers(visit, record, reply), (b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]
        return await relay_stream(reply, client, headers, wire.wants_usage, decision)

    def _call_headers(self, visit: Visit) -> Sequence[Header]:
        """What a backend gets of the client's headers: nothing but the names of this request."""
        headers = (*_PLAIN_CALL, (b"x-request-id", visit.request_id.encode()))
        traceparent = visit.headers.get(b"traceparent")
        if traceparent is not None and _TRACEPARENT.fullmatch(traceparent):
            return (*headers, (b"traceparent", traceparent))
        return headers

    def _answer_headers(self, visit: Visit, record: Record, reply: Reply) -> list[Header]:
        media = next((value for name, value in reply.headers if name == b"content-type"), b"application/json")
        overhead = record.overhead_seconds or 0.0
        headers: list[Header] = [
            (b"content-type", media),
            (b"x-request-id", visit.request_id.encode()),
            (b"x-router-decision-id", record.decision.id.encode()),
            *self._decision_headers(record.decision, reply.served.model.name),
            (b"x-router-attempts", b"%d" % len(record.attempts)),
            (b"x-router-overhead-ms", b"%.3f" % (overhead * 1000)),
        ]
        if record.cost_usd is not None:
            headers.append((b"x-router-cost-usd", b"%.9f" % record.cost_usd))
        return headers

    def _decision_headers(self, decision: Decision, model: str) -> tuple[Header, ...]:
        """The same few headers again and again: encoded once. Bounded, as every part comes from the configuration or a closed set."""
        choice = decision.choice
        key = (decision.route, model, choice.policy, choice.reason, decision.cache)
        headers = self._decided_headers.get(key)
        if headers is None:
            named = ((b"route", decision.route), (b"model", model), (b"policy", choice.policy), (b"reason", choice.reason))
            parts = [(b"x-router-" + name, value.encode()) for name, value in named if value is not None]
            headers = self._decided_headers[key] = (*parts, (b"x-router-cache", decision.cache.encode()))
        return headers


async def read_wire(endpoint: Endpoint, headers: Mapping[bytes, bytes], body: bytes) -> Wire:
    """`wire.read`, beside the event loop if the body is large. Raises GatewayError."""
    if len(body) < LARGE_BODY:
        return read(endpoint, headers, body)
    return await asyncio.to_thread(read, endpoint, headers, body)


def asks_for_fresh(headers: Mapping[bytes, bytes]) -> bool:
    """Whether the client wants a decision that is taken anew."""
    return b"no-cache" in headers.get(b"cache-control", b"").lower()


def place_of(error: Exception) -> str:
    """Where an unexpected error arose. Its text is not logged: it could quote a prompt or a key."""
    frames = traceback.extract_tb(error.__traceback__)
    return " < ".join(f"{frame.filename}:{frame.lineno} {frame.name}" for frame in reversed(frames[-4:]))


async def send_error(client: Client, error: GatewayError, visit: Visit) -> None:
    """Answers with an error of the closed table."""
    body = error.body()
    headers: list[Header] = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"x-request-id", visit.request_id.encode()),
    ]
    if visit.record is not None:
        headers.append((b"x-router-decision-id", visit.record.decision.id.encode()))
        headers.append((b"x-router-attempts", b"%d" % len(visit.record.attempts)))
    if error.retry_after is not None:
        headers.append((b"retry-after", b"%d" % max(1, round(error.retry_after))))
    await client.head(error.status, headers)
    await client.write(body, more=False)

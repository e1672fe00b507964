"""The three endpoints that are passed on to models, as one handler: read, decide, execute, relay, account."""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec
from msgspec import structs

from backends.api import Header
from backends.deadlines import Deadlines
from backends.retry import Outcome
from backends.work import HEAD_BYTES, Work
from gateway.account.bookkeeper import Bookkeeper
from gateway.account.planned import Planned, Step
from gateway.account.records import Decision, Record
from gateway.account.tracing import Tracing
from gateway.account.visit import Visit
from gateway.api.endings import break_off, send_again, send_error
from gateway.errors import CLIENT_CLOSED, ClientGone, GatewayError
from gateway.flow.client import Client
from gateway.flow.composed import Origin, Told, Untold, chunks, ending, whole
from gateway.flow.decide import Decider, Route
from gateway.flow.execute import Errand, Executor, Reply
from gateway.flow.inner import size_of, wire_of, with_usage, work_of
from gateway.flow.planning import Plans, final_of
from gateway.flow.purse import Purse
from gateway.flow.relay import Relayed, explain, explain_first, relay_stream, rename
from gateway.flow.rounds import Listener, Rounds
from gateway.flow.sse import event
from gateway.flow.wire import Wire, read
from gateway.guard.admission import class_of
from gateway.guard.auth import Gate
from gateway.guard.bodies import read_body
from gateway.guard.funds import Funds
from gateway.guard.limits import Grant, Limits, OutOfBudget
from gateway.memory.idempotency import Claim, Repeats, key_of
from gateway.serving.inbound import Inbound
from routers.api import Answer, Endpoint, RouteRequest
from routers.planners.plain import why_single

LARGE_BODY = 512 * 1024
_PLAIN_CALL = ((b"content-type", b"application/json"), (b"accept-encoding", b"identity"))
_log = logging.getLogger("pointsman")


@dataclass(frozen=True, slots=True)
class Settings:
    """`max_body_bytes`: of a request. `write_seconds`: for a client to take some bytes. `log_prompts`: keep what was asked."""

    max_body_bytes: int
    write_seconds: float
    log_prompts: bool


class Completions:
    """Answers the requests to one endpoint. `clock`: seconds, monotonic. `new_id`: a fresh id each call."""

    def __init__(
        self,
        endpoint: Endpoint,
        gate: Gate,
        limits: Limits,
        repeats: Repeats,
        decider: Decider,
        executor: Executor,
        plans: Plans,
        rounds: Rounds,
        bookkeeper: Bookkeeper,
        deadlines: Deadlines,
        settings: Settings,
        tracing: Tracing,
        *,
        clock: Callable[[], float],
        new_id: Callable[[], str],
    ) -> None:
        self._endpoint: Endpoint = endpoint
        self._gate = gate
        self._limits = limits
        self._repeats = repeats
        self._decider = decider
        self._executor = executor
        self._plans = plans
        self._rounds = rounds
        self._bookkeeper = bookkeeper
        self._deadlines = deadlines
        self._settings = settings
        self._tracing = tracing
        self._clock = clock
        self._new_id = new_id
        self._decided_headers: dict[tuple[str | None, ...], tuple[Header, ...]] = {}

    async def __call__(self, inbound: Inbound) -> None:
        headers = inbound.headers
        visit = Visit(self._clock(), headers, self._new_id, self._tracing.begin(self._endpoint, headers))
        client = Client(inbound, self._deadlines, self._settings.write_seconds)
        try:
            visit.caller = await self._gate.identify(visit.headers)
            self._limits.check(visit.caller)
            body = await read_body(inbound, self._settings.max_body_bytes)
            with client:
                await self._serve(client, visit, body)
        except GatewayError as error:
            visit.worked = False
            visit.fail(error.status, error.code, error.reason)
            if client.committed:  # while the answer was worked on
                await client.write(event(error.body()), more=False)
            else:
                send_error(client, error, visit)
        except ClientGone:
            visit.fail(CLIENT_CLOSED, "client_closed")
        except asyncio.CancelledError:
            # A client that leaves is ClientGone: from outside a request is cancelled only when the process ends.
            await break_off(client, visit)
        except Exception as fault:
            _log.error("request %s failed: %s at %s", visit.request_id, type(fault).__name__, place_of(fault))
            visit.fail(500, "internal_error")
            if not client.committed:
                send_error(client, GatewayError("internal_error", "something went wrong in the gateway"), visit)
        finally:
            self._bookkeeper.close(visit, self._endpoint, self._clock())

    async def _serve(self, client: Client, visit: Visit, body: bytes) -> None:
        wire = await read_wire(self._endpoint, visit.headers, body)
        await in_step()
        key = None if wire.stream else key_of(visit.headers)
        if key is None:
            await self._answer(client, visit, wire, None)
            return
        claim = await self._repeats.claim(visit.caller.id, self._endpoint, key, body)
        if claim.answered is not None:
            visit.fail(claim.answered.status, "repeated")
            send_again(client, claim.answered)
            return
        async with claim:
            await self._answer(client, visit, wire, claim)

    async def _answer(self, client: Client, visit: Visit, wire: Wire, claim: Claim | None) -> None:
        request = self._decider.request(wire, visit.caller)
        record = await self._admit(visit, wire, request)
        await in_step()
        wishes = wire.preferences
        deadline = None if wishes.max_latency_ms is None else visit.started + wishes.max_latency_ms / 1000
        work = Work(wire.prompt.head(HEAD_BYTES), request.prompt_tokens, wire.max_tokens or 0, wishes.session)
        priority = class_of(visit.caller.priority, wire.priority)
        models = self._plans.models(record.decision, request)
        errand = Errand(models, wire, self._call_headers(visit), deadline, work, visit.caller.id, priority, visit.trace)
        trail, route = record.attempts, self._plans.planned(record.decision)
        if route is None:
            record.overhead_seconds = self._clock() - visit.started
        else:
            trail, end = [], await self._plan(client, visit, wire, errand, request, route)
            if isinstance(end, Answer):
                await self._compose(client, visit, wire, end, claim)
                return
            errand = end
        try:
            reply = await self._executor.open(errand, trail)
        finally:
            visit.worked = bool(trail)
            if trail is not record.attempts:
                record.attempts += trail
        await self._relay(client, visit, wire, reply, claim)

    async def _plan(self, client: Client, visit: Visit, wire: Wire, errand: Errand, request: RouteRequest, route: Route) -> Errand | Answer:
        """Carries out what the route's planner wants: the errand that is left to be relayed, or its answer."""
        record, rounds = _recorded(visit), self._rounds
        record.planned = planned = Planned(visit.started)
        purse = self._purse(visit, wire)
        left = rounds.left(purse, errand)
        planned.steps.append(Step(0, left))
        plan = await self._plans.begin(route, record.decision, request, wire, left)
        why = None if (first := final_of(plan.first)) is None else why_single(first)
        if why is not None:
            record.decision = structs.replace(record.decision, single=why)
        record.overhead_seconds = self._clock() - visit.started
        end = await rounds.run(plan, wire, errand, purse, record, planned, self._listener(client, visit, wire))
        if isinstance(end, Answer):
            return end
        planned.calls += 1
        visit.prompt_size = size_of(wire, end)
        work = work_of(errand.work, end, self._decider.tokens(visit.prompt_size))
        return structs.replace(errand, models=end.models, wire=wire_of(wire, end), work=work, purpose=end.purpose)

    def _purse(self, visit: Visit, wire: Wire) -> Purse:
        """What the asks of a plan may spend."""
        funds = None
        if visit.grant is not None and visit.caller.allowance.budget_usd is not None:
            more: list[Grant] = []
            visit.grants = more
            funds = Funds(self._limits, visit.grant, more)
        return Purse(wire.preferences.max_cost_usd, funds)

    async def _relay(self, client: Client, visit: Visit, wire: Wire, reply: Reply, claim: Claim | None) -> None:
        record = _recorded(visit)
        visit.trace.relaying()
        visit.worked = not reply.passed_on
        record.model = reply.served.model.name
        outcome = Outcome(status=reply.status)
        try:
            if reply.splitter is None:
                await self._relay_whole(client, visit, wire, reply, claim)
            else:
                record.first_byte_seconds = self._clock() - visit.started
                await self._relay_stream(client, visit, wire, reply)
                if record.error is not None:
                    outcome = Outcome(kind="lost")
            record.status = reply.status
        finally:
            reply.close(outcome)

    def _listener(self, client: Client, visit: Visit, wire: Wire) -> Listener:
        """Who hears of a plan's turns."""
        if not wire.stream:
            return Untold()
        return Told(client, self._stream_headers(visit, b"text/event-stream", None), self._origin(None), wire.preferences.explain)

    def _origin(self, model: str | None) -> Origin:
        return Origin(f"chatcmpl-{self._new_id()}", model or "pointsman", int(time.time()))

    async def _compose(self, client: Client, visit: Visit, wire: Wire, answer: Answer, claim: Claim | None) -> None:
        """Sends an answer that a planner has put together itself."""
        record = _recorded(visit)
        record.model, record.status = answer.model, 200
        visit.trace.relaying()
        end = ending(answer, () if record.planned is None else record.planned.turns)
        self._bookkeeper.bill(record)
        origin = self._origin(answer.model)
        if wire.stream:
            record.first_byte_seconds = self._clock() - visit.started
            if not client.committed:
                client.head(200, self._stream_headers(visit, b"text/event-stream", answer.model))
            data = b"".join(chunks(origin, answer, end, wire.wants_usage))
            if wire.preferences.explain:
                data = explain_first(data, msgspec.json.encode(record.decision.document()))
            await client.write(data, more=False)
            return
        body = whole(origin, answer, end)
        if wire.preferences.explain:
            body = explain(body, msgspec.json.encode(record.decision.document()))
        headers = self._answer_headers(visit, b"application/json", answer.model)
        if claim is not None:
            claim.keep(200, tuple(headers), body)
        client.whole(200, headers, body)

    async def _admit(self, visit: Visit, wire: Wire, request: RouteRequest) -> Record:
        """Decides, and reserves what the answer may take of the caller's allowance."""
        caller = visit.caller
        visit.trace.deciding()
        decision = await self._decider.decide(request, wire, caller, fresh=asks_for_fresh(visit.headers))
        visit.trace.decided(decision)
        visit.record = record = Record(decision, self._endpoint, visit.request_id, wire.stream, caller.id)
        text, learns = self._decider.text_of(decision, wire, self._settings.log_prompts)
        record.text = text if self._settings.log_prompts else None
        record.asked = request
        record.request = replace(request, text=text or "") if learns else None
        visit.prompt_size = wire.prompt.size
        if caller.allowance.bounded:
            try:
                await self._reserve(visit, decision, request)
            except OutOfBudget as short:
                cheaper = self._decider.cheaper(decision, request, short.left_usd)
                if cheaper is None:
                    raise
                record.decision = cheaper
                await self._reserve(visit, cheaper, request)
        return record

    async def _reserve(self, visit: Visit, decision: Decision, request: RouteRequest) -> None:
        try:
            visit.grant = await self._limits.reserve(visit.caller, *self._decider.charge(decision, request))
        except OutOfBudget as short:
            raise self._decider.unpaid(short, decision, request) from None

    async def _relay_whole(self, client: Client, visit: Visit, wire: Wire, reply: Reply, claim: Claim | None) -> None:
        await in_step()
        record, body = _recorded(visit), reply.first
        visit.answer_size = len(body)
        if not reply.passed_on:
            record.usage = reply.usage
            self._bookkeeper.bill(record)
            body = rename(body, reply.served.renamed)
            if record.planned is not None and record.planned.rounds:
                body = with_usage(body, reply.usage, record.rounds_usage)
            if wire.preferences.explain:
                body = explain(body, msgspec.json.encode(record.decision.document()))
        headers = self._answer_headers(visit, media_of(reply), reply.served.model.name)
        if claim is not None and not reply.passed_on:
            claim.keep(reply.status, tuple(headers), body)
        client.whole(reply.status, headers, body)

    async def _relay_stream(self, client: Client, visit: Visit, wire: Wire, reply: Reply) -> None:
        record, relayed = _recorded(visit), Relayed()
        decision = msgspec.json.encode(record.decision.document()) if wire.preferences.explain else None
        headers = self._stream_headers(visit, media_of(reply), reply.served.model.name)
        try:
            await relay_stream(reply, client, headers, wire.wants_usage, decision, relayed, record.rounds_usage)
        finally:
            record.usage, record.error, visit.streamed = relayed.usage, relayed.error, relayed.events
            reply.usage = relayed.usage

    def _stream_headers(self, visit: Visit, media: bytes, model: str | None) -> Sequence[Header]:
        return [*self._answer_headers(visit, media, model), (b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]

    def _call_headers(self, visit: Visit) -> Sequence[Header]:
        """What a backend gets of the client's headers: nothing but the names of this request."""
        return (*_PLAIN_CALL, (b"x-request-id", visit.request_id.encode()), *self._tracing.passed_on(visit.headers))

    def _answer_headers(self, visit: Visit, media: bytes, model: str | None) -> list[Header]:
        record = _recorded(visit)
        overhead = record.overhead_seconds or 0.0
        headers: list[Header] = [
            (b"content-type", media),
            (b"x-request-id", visit.request_id.encode()),
            (b"x-router-decision-id", record.decision.id.encode()),
            *self._decision_headers(record.decision, model),
            (b"x-router-attempts", b"%d" % len(record.attempts)),
            (b"x-router-overhead-ms", b"%.3f" % (overhead * 1000)),
        ]
        if record.cost_usd is not None:
            headers.append((b"x-router-cost-usd", b"%.9f" % record.cost_usd))
        if visit.grant is not None:
            headers += visit.grant.headers
        return headers

    def _decision_headers(self, decision: Decision, model: str | None) -> tuple[Header, ...]:
        """The same few headers again and again: encoded once. Bounded, as every part comes from the configuration or a closed set."""
        choice = decision.choice
        key = (decision.route, model, choice.policy, choice.reason, decision.cache)
        headers = self._decided_headers.get(key)
        if headers is None:
            named = ((b"route", decision.route), (b"model", model), (b"policy", choice.policy), (b"reason", choice.reason))
            parts = [(b"x-router-" + name, value.encode()) for name, value in named if value is not None]
            headers = self._decided_headers[key] = (*parts, (b"x-router-cache", decision.cache.encode()))
        return headers


def media_of(reply: Reply) -> bytes:
    """The content type that a backend has given its answer."""
    for name, value in reply.headers:
        if name == b"content-type":
            return value
    return b"application/json"


def _recorded(visit: Visit) -> Record:
    """The record of a visit that has been admitted."""
    assert visit.record is not None
    return visit.record


async def in_step() -> None:
    """Waits until the requests that came together have come as far, so that they go on one after the other: what they do next lies in the
    processor's caches for all but the first. Of 32 at a time each takes 126 to 134 µs instead of 165 to 178 (in memory).
    """
    await asyncio.sleep(0)


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

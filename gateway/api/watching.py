"""What the console shows, for operators with an admin key: decisions as they happen, one of them opened, what another weight of cost would
have meant, cost against quality, keys and budgets. Nothing here changes anything.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import msgspec
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError
from starlette.types import Receive, Scope, Send

from backends.api import Header
from gateway import __version__
from gateway.account.headlines import headline
from gateway.account.records import LEARNED
from gateway.api.callers import INBOUND, gateway_of, identify_admin, inbound_of
from gateway.api.errors import answer
from gateway.errors import ClientGone, Code, GatewayError
from gateway.flow.client import Client
from gateway.flow.decide import Route
from gateway.flow.frontier import frontier, own_weight, weights
from gateway.flow.reweighing import reweigh
from gateway.guard.bodies import read_body
from gateway.guard.callers import Caller
from gateway.memory.feed import Watcher

if TYPE_CHECKING:
    from gateway.app import Gateway

MOST_REPLAYED = 1_000
MOST_LOOKED_AT = 10_000
"""Newest decisions, of all routes, among which those of one are looked for."""
MOST_RECENT = 100
MOST_WAITING = 4
"""Replays that may wait for the one that runs."""
BODY_BYTES = 65_536
KEEP_ALIVE_SECONDS = 10.0
LOOK_SECONDS = 0.5
"""So soon is it noticed that the process is about to end."""
PACE_SECONDS = 0.05
"""Between two writes: what comes meanwhile goes out together."""
_STREAM: list[Header] = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store"), (b"x-accel-buffering", b"no")]


class ReplayBody(BaseModel):
    """Which decisions are made again, and how."""

    model_config = ConfigDict(extra="forbid", strict=True)

    route: str = Field(min_length=1, max_length=128, description="the route whose newest decisions are made again")
    weight: FiniteFloat = Field(ge=0, le=1000, description="of the opinion on cost, in place of the route's own")
    limit: int = Field(MOST_REPLAYED, ge=1, le=MOST_REPLAYED, description="how many at most")


class EventStream(Response):
    """What such an answer is in the OpenAPI document."""

    media_type = "text/event-stream"


class LiveDecisions(EventStream):
    """Server-sent events: `hello` with the newest decisions, `decision` for each that follows, `dropped` with how many were left out, and
    `bye` before the end, which comes with that of the process or of its configuration.
    """

    def __init__(self, gateway: Gateway, recent: int) -> None:
        super().__init__()
        self._gateway = gateway
        self._recent = recent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gateway = self._gateway
        client = Client(scope[INBOUND], gateway.deadlines, gateway.config.server.write_seconds)
        try:
            with gateway.memory.feed.watch() as watcher, client:
                client.head(200, _STREAM)
                await client.write(_event("hello", msgspec.json.encode(self._hello())))
                await self._tell(client, watcher)
        except GatewayError as error:  # nothing was sent: there was no place
            await answer(error)(scope, receive, send)
        except ClientGone:
            return

    def _hello(self) -> dict[str, Any]:
        memory = self._gateway.memory
        recent = [headline(one, memory.feed.place) for one in memory.decisions.newest(self._recent) if one.status is not None]
        return {"version": __version__, "place": memory.feed.place, "shared": memory.store is not None, "recent": recent}

    async def _tell(self, client: Client, watcher: Watcher) -> None:
        clock = asyncio.get_running_loop().time
        life, wrote_at = self._gateway.life, clock()
        while not (life.leaving or watcher.over):
            lines, dropped = await watcher.take(LOOK_SECONDS)
            parts = [_event("decision", line) for line in lines]
            if dropped:
                parts.insert(0, _event("dropped", b'{"count":%d}' % dropped))
            if not parts and clock() - wrote_at > KEEP_ALIVE_SECONDS:
                parts.append(b": still here\n\n")
            if parts:
                await client.write(b"".join(parts))
                wrote_at = clock()
                await asyncio.sleep(PACE_SECONDS)
        await client.write(_event("bye", b'{"why":"%s"}' % (b"ending" if life.leaving else b"reloaded")), more=False)


class _Turns:
    """One replay at a time, and a few that wait."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._waiting = 0

    async def replay(self, gateway: Gateway, route: Route, asked: ReplayBody) -> dict[str, Any]:
        """Raises GatewayError where too many wait."""
        if self._waiting >= MOST_WAITING:
            raise GatewayError("overloaded", "other replays are under way", retry_after=1)
        self._waiting += 1
        try:
            async with self._lock:
                newest = gateway.memory.decisions.newest(MOST_LOOKED_AT)
                of_route = [one for one in newest if one.decision.route == route.name and one.status is not None]
                found = await reweigh(of_route[: asked.limit], route, asked.weight)
        finally:
            self._waiting -= 1
        return {
            "object": "replay",
            "route": route.name,
            "weight": asked.weight,
            "own_weight": own_weight(route.policy),
            "place": gateway.memory.feed.place,
            **asdict(found),
        }


def router() -> APIRouter:
    api = APIRouter(tags=["operations"], dependencies=[Depends(identify_admin)])
    _show_decisions(api)
    _show_weights(api)

    @api.get("/admin/keys", summary="Who has a key, what it allows and what is spent of its budget; never a key or its hash")
    async def show_keys(request: Request, offset: int = Query(0, ge=0), limit: int = Query(100, ge=1, le=200)) -> dict[str, Any]:
        gateway = gateway_of(request)
        guard = gateway.guard
        callers = [] if guard.keys is None else guard.keys.ring.callers
        page = [await _key(gateway, caller) for caller in callers[offset : offset + limit]]
        return {"open": gateway.config.auth is None, "tokens": guard.tokens is not None, "total": len(callers), "keys": page}

    return api


def _show_decisions(api: APIRouter) -> None:
    summary = "Decisions as they happen, of all gateways on a Redis"

    @api.get("/admin/decisions/stream", summary=summary, response_class=EventStream)
    async def stream_decisions(request: Request, recent: int = Query(50, ge=0, le=MOST_RECENT)) -> Response:
        return LiveDecisions(gateway_of(request), recent)

    @api.get("/admin/decisions/{decision_id}", summary="Anyone's decision and what came of it, without texts unless the ledger keeps them")
    async def show_decision(
        request: Request, decision_id: str, caller: str | None = Query(None, max_length=64), me: Caller = Depends(identify_admin)
    ) -> dict[str, Any]:
        gateway = gateway_of(request)
        document = await gateway.memory.decisions.find(decision_id, caller)
        if document is None:
            raise GatewayError("decision_not_found", "there is no such decision, or it is no longer kept", param="decision_id")
        shown = {name: value for name, value in document.items() if name != LEARNED}
        if shown.get("caller") != me.id and not gateway.config.ledger.prompts:
            shown["rounds"] = [{**one, "text": None} for one in shown.get("rounds", ())]
        return shown


def _show_weights(api: APIRouter) -> None:
    turns = _Turns()

    @api.get("/admin/frontier", summary="Cost against quality on a route, by the weight of cost, from its router's own evaluation")
    async def show_frontier(request: Request, route: str = Query(min_length=1, max_length=128)) -> dict[str, Any]:
        found = _route(gateway_of(request), route)
        curve = await asyncio.to_thread(frontier, found)
        return {
            "object": "frontier",
            "route": found.name,
            "policy": found.policy.name,
            "own_weight": own_weight(found.policy),
            "weights": weights(found.policy),
            "evaluation": None if curve is None else asdict(curve),
        }

    async def replay(request: Request) -> dict[str, Any]:
        asked = _read(await read_body(inbound_of(request), BODY_BYTES))
        gateway = gateway_of(request)
        return await turns.replay(gateway, _route(gateway, asked.route), asked)

    summary = "What the newest decisions of a route would have been with another weight of cost"
    body = {"requestBody": {"required": True, "content": {"application/json": {"schema": ReplayBody.model_json_schema()}}}}
    api.add_api_route("/admin/replay", replay, methods=["POST"], summary=summary, openapi_extra=body)


async def _key(gateway: Gateway, caller: Caller) -> dict[str, Any]:
    allowance, spent, local = caller.allowance, None, False
    if allowance.budget_usd is not None:
        spent, local = await gateway.guard.limits.spent_usd(caller)
    return {
        "id": caller.id,
        "name": caller.name,
        "role": caller.role,
        "models": None if caller.models is None else sorted(caller.models),
        "routes": None if caller.routes is None else sorted(caller.routes),
        "rpm": allowance.rpm,
        "tpm": allowance.tpm,
        "budget_usd": allowance.budget_usd,
        "budget_window": None if allowance.budget_usd is None else allowance.window,
        "spent_usd": spent,
        "spent_here_only": local,
        "priority": caller.priority,
        "expires": caller.expires,
    }


def _route(gateway: Gateway, name: str) -> Route:
    found = gateway.routes.get(name)
    if found is None:
        raise GatewayError("model_not_found", f"there is no route named {name[:128]!r}", param="route")
    return found


def _read(body: bytes) -> ReplayBody:
    try:
        return ReplayBody.model_validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        param = ".".join(str(part) for part in first["loc"]) or None
        code: Code = {"json_invalid": "invalid_json", "missing": "missing_field"}.get(first["type"], "invalid_value")  # type: ignore[assignment]
        raise GatewayError(code, f"'{param or 'the body'}': {first['msg']}", param=param) from None


def _event(name: str, data: bytes) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), data)

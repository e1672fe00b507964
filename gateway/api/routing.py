"""`POST /v1/route` decides and forwards nothing; `GET /v1/decisions/{id}` says why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request

from gateway.account.records import Record
from gateway.account.visit import Visit
from gateway.api.completions import asks_for_fresh, read_wire
from gateway.errors import GatewayError
from gateway.flow.decide import Decider
from gateway.guard.limits import read_body
from gateway.memory.decisions import Decisions


def router(
    decider: Decider,
    decisions: Decisions,
    *,
    max_body_bytes: int,
    clock: Callable[[], float],
    new_id: Callable[[], str],
) -> APIRouter:
    api = APIRouter(tags=["routing"])

    @api.post("/v1/route", summary="The decision that a chat completion would get; nothing is forwarded", include_in_schema=False)
    async def route(request: Request) -> dict[str, Any]:
        visit = Visit(clock(), dict(request.scope["headers"]), new_id)
        wire = await read_wire("chat", visit.headers, await read_body(request.receive, visit.headers, max_body_bytes))
        decision = await decider.decide(wire, not asks_for_fresh(visit.headers))
        record = Record(decision, "chat", visit.request_id, wire.stream)
        record.seconds = clock() - visit.started
        decisions.put(record)
        return record.document()

    @api.get("/v1/decisions/{decision_id}", summary="A decision and what came of it")
    async def retrieve_decision(decision_id: str) -> dict[str, Any]:
        record = decisions.get(decision_id)
        if record is None:
            raise GatewayError("decision_not_found", "there is no such decision, or it is no longer kept", param="decision_id")
        return record.document()

    return api

"""`POST /v1/route` decides and forwards nothing; `GET /v1/decisions/{id}` says why; `POST /v1/feedback` takes what people say of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from gateway.account.records import LEARNED, Record
from gateway.account.visit import Visit
from gateway.api.callers import gateway_of, identify, inbound_of
from gateway.api.completions import asks_for_fresh, read_wire
from gateway.errors import Code, GatewayError
from gateway.guard.bodies import read_body
from gateway.guard.callers import Caller


class FeedbackBody(BaseModel):
    """How good an answer was."""

    model_config = ConfigDict(extra="forbid", strict=True)

    decision_id: str = Field(min_length=1, max_length=128, description="from the header x-router-decision-id")
    score: FiniteFloat = Field(ge=0, le=1, description="0 is useless, 1 is perfect")
    comment: str | None = Field(None, max_length=4000)


def router(clock: Callable[[], float]) -> APIRouter:
    """`clock`: monotonic seconds."""
    api = APIRouter(tags=["routing"])

    async def route(request: Request) -> dict[str, Any]:
        gateway = gateway_of(request)
        limits, decider = gateway.guard.limits, gateway.decider
        visit = Visit(clock(), dict(request.scope["headers"]), gateway.ids)
        caller = await identify(request)
        limits.check(caller)
        body = await read_body(inbound_of(request), gateway.config.server.max_body_bytes)
        wire = await read_wire("chat", visit.headers, body)
        if caller.allowance.rpm is not None:
            limits.release(await limits.reserve(caller, 0, 0.0))
        decision = await decider.decide(decider.request(wire, caller), wire, caller, fresh=asks_for_fresh(visit.headers), dry=True)
        record = Record(decision, "chat", visit.request_id, wire.stream, caller.id)
        record.seconds = clock() - visit.started
        gateway.memory.decisions.put(record)
        return record.document()

    async def retrieve_decision(request: Request, decision_id: str, caller: Caller = Depends(identify)) -> dict[str, Any]:
        document = await gateway_of(request).memory.decisions.get(decision_id, caller.id)
        if document is None:
            raise GatewayError("decision_not_found", "there is no such decision, or it is no longer kept", param="decision_id")
        return {name: value for name, value in document.items() if name != LEARNED}

    async def give_feedback(request: Request) -> dict[str, Any]:
        caller, gateway = await identify(request), gateway_of(request)
        body = await read_body(inbound_of(request), gateway.config.server.max_body_bytes)
        given = _read_feedback(body)
        await gateway.feedback.give(caller, given.decision_id, given.score, given.comment)
        return {"object": "feedback", "decision_id": given.decision_id, "score": given.score}

    summary = "The decision that a chat completion would get; nothing is forwarded"
    api.add_api_route("/v1/route", route, methods=["POST"], summary=summary, include_in_schema=False)
    api.add_api_route("/v1/decisions/{decision_id}", retrieve_decision, methods=["GET"], summary="A decision and what came of it")
    summary = "How good an answer was; told to routers that learn"
    body = {"requestBody": {"required": True, "content": {"application/json": {"schema": FeedbackBody.model_json_schema()}}}}
    api.add_api_route("/v1/feedback", give_feedback, methods=["POST"], summary=summary, openapi_extra=body)
    return api


def _read_feedback(body: bytes) -> FeedbackBody:
    try:
        return FeedbackBody.model_validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        param = ".".join(str(part) for part in first["loc"]) or None
        code: Code = {"json_invalid": "invalid_json", "missing": "missing_field"}.get(first["type"], "invalid_value")  # type: ignore[assignment]
        raise GatewayError(code, f"'{param or 'the body'}': {first['msg']}", param=param) from None

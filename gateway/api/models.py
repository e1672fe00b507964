"""`GET /v1/models`: what a client may name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Depends, Request

from gateway.api.callers import gateway_of, identify
from gateway.errors import GatewayError
from gateway.guard.callers import Caller
from routers.api import Model

if TYPE_CHECKING:
    from gateway.app import Gateway


def router(created: int) -> APIRouter:
    """`created`: Unix time of the start."""
    api = APIRouter(tags=["models"])

    def entry(name: str, details: Mapping[str, object]) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": created, "owned_by": "pointsman", **details}

    def of(gateway: Gateway, caller: Caller) -> dict[str, dict[str, Any]]:
        """What this caller may name: models that it may ask, and routes that have one of these."""
        found = {}
        for name, route in gateway.routes.items():
            left = [model for model in route.models if caller.may_ask(model)]
            if left and caller.may_take(name):
                found[name] = entry(name, {"candidates": left})
        models = [served.model for served in gateway.fleet if caller.may_ask(served.model.name)]
        return {**found, **{model.name: entry(model.name, _details(model)) for model in models}}

    async def list_models(request: Request, caller: Caller = Depends(identify)) -> dict[str, Any]:
        return {"object": "list", "data": list(of(gateway_of(request), caller).values())}

    async def retrieve_model(request: Request, model_id: str, caller: Caller = Depends(identify)) -> dict[str, Any]:
        found = of(gateway_of(request), caller).get(model_id)
        if found is None:
            raise GatewayError("model_not_found", f"there is no model or route named {model_id[:128]!r}", param="model")
        return found

    api.add_api_route("/v1/models", list_models, methods=["GET"], summary="Routes and models")
    api.add_api_route("/v1/models/{model_id:path}", retrieve_model, methods=["GET"], summary="One route or model")
    return api


def _details(model: Model) -> dict[str, object]:
    return {
        "max_model_len": model.context_window,
        "capabilities": sorted(model.capabilities),
        "description": model.description or None,
        "price": None if model.price is None else {"input": model.price.input, "output": model.price.output},
    }

"""`GET /v1/models`: what a client may name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Depends

from gateway.api.callers import Identify
from gateway.errors import GatewayError
from gateway.fleet import Fleet
from gateway.guard.callers import Caller


def router(identify: Identify, fleet: Fleet, routes: Mapping[str, Sequence[str]], created: int) -> APIRouter:
    """`routes`: name -> candidate models. `created`: Unix time of the start."""
    api = APIRouter(tags=["models"])
    models = {served.model.name: _details(fleet, served.model.name) for served in fleet}

    def entry(name: str, details: Mapping[str, object]) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": created, "owned_by": "pointsman", **details}

    def of(caller: Caller) -> dict[str, dict[str, Any]]:
        """What this caller may name: models that it may ask, and routes that have one of these."""
        found = {}
        for name, candidates in routes.items():
            left = [model for model in candidates if caller.may_ask(model)]
            if left and caller.may_take(name):
                found[name] = entry(name, {"candidates": left})
        return {**found, **{name: entry(name, details) for name, details in models.items() if caller.may_ask(name)}}

    async def list_models(caller: Caller = Depends(identify)) -> dict[str, Any]:
        return {"object": "list", "data": list(of(caller).values())}

    async def retrieve_model(model_id: str, caller: Caller = Depends(identify)) -> dict[str, Any]:
        found = of(caller).get(model_id)
        if found is None:
            raise GatewayError("model_not_found", f"there is no model or route named {model_id[:128]!r}", param="model")
        return found

    api.add_api_route("/v1/models", list_models, methods=["GET"], summary="Routes and models")
    api.add_api_route("/v1/models/{model_id:path}", retrieve_model, methods=["GET"], summary="One route or model")
    return api


def _details(fleet: Fleet, name: str) -> dict[str, object]:
    model = fleet[name].model
    return {
        "max_model_len": model.context_window,
        "capabilities": sorted(model.capabilities),
        "description": model.description or None,
        "price": None if model.price is None else {"input": model.price.input, "output": model.price.output},
    }

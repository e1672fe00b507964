"""`GET /v1/models`: what a client may name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter

from gateway.errors import GatewayError
from gateway.fleet import Fleet


def router(fleet: Fleet, routes: Mapping[str, Sequence[str]], created: int) -> APIRouter:
    """`routes`: name -> candidate models. `created`: Unix time of the start."""
    api = APIRouter(tags=["models"])

    def entry(name: str, details: Mapping[str, object]) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": created, "owned_by": "pointsman", **details}

    entries = {name: entry(name, {"candidates": list(models)}) for name, models in routes.items()}
    for served in fleet:
        model = served.model
        details = {
            "max_model_len": model.context_window,
            "capabilities": sorted(model.capabilities),
            "description": model.description or None,
            "price": None if model.price is None else {"input": model.price.input, "output": model.price.output},
        }
        entries[model.name] = entry(model.name, details)

    @api.get("/v1/models", summary="Routes and models")
    async def list_models() -> dict[str, Any]:
        return {"object": "list", "data": list(entries.values())}

    @api.get("/v1/models/{model_id:path}", summary="One route or model")
    async def retrieve_model(model_id: str) -> dict[str, Any]:
        found = entries.get(model_id)
        if found is None:
            raise GatewayError("model_not_found", f"there is no model or route named {model_id[:128]!r}", param="model")
        return found

    return api

"""Operations: does the process live, can it serve, what does it count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from gateway.account.metrics import Metrics
from gateway.errors import GatewayError
from gateway.fleet import Fleet
from gateway.lifecycle import Life


def router(fleet: Fleet, routes: Mapping[str, Sequence[str]], metrics: Metrics, life: Life) -> APIRouter:
    """`routes`: name -> candidate models."""
    api = APIRouter(tags=["operations"])

    @api.get("/healthz", summary="The process lives")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @api.get("/readyz", summary="Some route can be served, and this process is not about to end")
    async def readyz() -> dict[str, Any]:
        if life.leaving:
            raise GatewayError("draining", "this process is ending", retry_after=1)
        usable = {served.model.name: served.pool.usable() for served in fleet}
        served_routes = {name: any(usable[model] for model in models) for name, models in routes.items()}
        if not any(served_routes.values() or usable.values()):
            raise GatewayError("no_healthy_backend", "no route can be served", retry_after=1)
        return {"status": "ok", "routes": served_routes, "models": usable}

    @api.get("/metrics", summary="Prometheus metrics", response_class=Response)
    async def exposition() -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return api

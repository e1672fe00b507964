"""Operations: does the process live, can it serve, what does it count."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from gateway.api.callers import gateway_of
from gateway.errors import GatewayError


def router() -> APIRouter:
    api = APIRouter(tags=["operations"])

    @api.get("/healthz", summary="The process lives")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @api.get("/readyz", summary="Some route can be served, and this process is not about to end")
    async def readyz(request: Request) -> dict[str, Any]:
        gateway = gateway_of(request)
        if gateway.life.leaving:
            raise GatewayError("draining", "this process is ending", retry_after=1)
        usable = {served.model.name: served.pool.usable() for served in gateway.fleet}
        routes = {name: any(usable[model] for model in route.models) for name, route in gateway.routes.items()}
        if not any(routes.values() or usable.values()):
            raise GatewayError("no_healthy_backend", "no route can be served", retry_after=1)
        return {"status": "ok", "routes": routes, "models": usable}

    @api.get("/metrics", summary="Prometheus metrics", response_class=Response)
    async def exposition(request: Request) -> Response:
        text, media_type = gateway_of(request).metrics.exposition(request.headers.get("accept", ""))
        return Response(text, headers={"content-type": media_type, "vary": "accept"})

    return api

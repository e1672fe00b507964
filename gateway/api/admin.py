"""For operators with an admin key: which configuration is in force, how to put another in force, and how the backends are."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter, Depends

from gateway import __version__
from gateway.api.callers import Identify
from gateway.config import Config
from gateway.errors import GatewayError
from gateway.fleet import Fleet


def router(identify_admin: Identify, config: Config, fleet: Fleet, reload: Callable[[], Awaitable[str]] | None) -> APIRouter:
    """`reload`: reads the configuration file and returns the hash of what is in force now; raises GatewayError. None: there is no file."""
    api = APIRouter(tags=["operations"], dependencies=[Depends(identify_admin)])

    @api.get("/admin/config", summary="The configuration in force, without its secrets")
    async def show_config() -> dict[str, Any]:
        return {"hash": config.hash, "version": __version__, "config": config.model_dump(mode="json")}

    @api.post("/admin/reload", summary="Reads the configuration file, and the artifacts that it names, and puts them in force")
    async def reload_config() -> dict[str, Any]:
        if reload is None:
            raise GatewayError("invalid_value", "this gateway was not started from a configuration file")
        return {"hash": await reload(), "before": config.hash, "version": __version__}

    @api.get("/admin/backends", summary="Every backend: health, breaker, calls in flight")
    async def show_backends() -> dict[str, Any]:
        found = [
            {
                "model": served.model.name,
                "backend": backend.name,
                "url": backend.url,
                "health": backend.health,
                "why": backend.why or None,
                "usable": backend.usable(),
                "breaker": backend.breaker.state,
                "inflight": backend.inflight,
            }
            for served in fleet
            for backend in served.pool.backends
        ]
        return {"backends": found}

    return api

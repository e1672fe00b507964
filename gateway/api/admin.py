"""For operators with an admin key: which configuration is in force, how to put another in force, and how the backends are."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter, Depends, Request
from msgspec import structs

from backends.health import condition
from backends.pool import Backend
from gateway import __version__
from gateway.api.callers import gateway_of, identify_admin
from gateway.fleet import Served


def router(reload: Callable[[], Awaitable[str]]) -> APIRouter:
    """`reload`: reads the configuration file and returns the hash of what is in force now; raises GatewayError."""
    api = APIRouter(tags=["operations"], dependencies=[Depends(identify_admin)])

    @api.get("/admin/config", summary="The configuration in force, without its secrets")
    async def show_config(request: Request) -> dict[str, Any]:
        config = gateway_of(request).config
        return {"hash": config.hash, "version": __version__, "config": config.model_dump(mode="json")}

    @api.post("/admin/reload", summary="Reads the configuration file, and the artifacts that it names, and puts them in force")
    async def reload_config(request: Request) -> dict[str, Any]:
        before = gateway_of(request).config.hash
        return {"hash": await reload(), "before": before, "version": __version__}

    @api.get("/admin/backends", summary="Every backend: how it is and why, since when, its load, and when it is looked at next")
    async def show_backends(request: Request) -> dict[str, Any]:
        fleet = gateway_of(request).fleet
        experts = [structs.asdict(report) for driver in fleet.drivers for report in driver.report()]
        for expert in experts:
            expert["wake_seconds"] = expert["wake_seconds"] if math.isfinite(expert["wake_seconds"]) else None
        return {"backends": [_document(served, backend) for served in fleet for backend in served.pool.backends], "experts": experts}

    return api


def _document(served: Served, backend: Backend) -> dict[str, Any]:
    """Times are Unix seconds; None is unknown, or nothing of the kind."""
    now, wall = time.monotonic(), time.time()
    checks, load, limit = backend.checks, backend.load, backend.limit
    found = condition(backend, backend.standing, None if checks is None else checks.next_at, now)

    def at(moment: float | None) -> float | None:
        return None if moment is None else round(wall + moment - now, 3)

    return {
        "model": served.model.name,
        "backend": backend.name,
        "url": backend.url,
        "state": found.state,
        "why": found.why or None,
        "since": at(found.since),
        "next_probe": at(found.next_probe),
        "ejections": found.ejections,
        "usable": backend.usable(),
        "health": backend.health,
        "breaker": backend.breaker.state,
        "inflight": backend.inflight,
        "inflight_tokens": backend.inflight_tokens,
        "limit": None if limit is None else limit.limit,
        "load": {
            "running": load.running,
            "waiting": load.waiting,
            "kv_cache_usage": load.kv_cache,
            "adapters": sorted(load.adapters),
            "read_at": at(load.at),
        },
    }

"""Who calls a control endpoint."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import Request

from gateway.guard.auth import Gate, require_admin
from gateway.guard.callers import Caller

Identify = Callable[[Request], Awaitable[Caller]]


def identify(gate: Gate) -> Identify:
    """A dependency that gives the caller, or answers 401."""

    async def caller(request: Request) -> Caller:
        return await gate.identify(dict(request.scope["headers"]))

    return caller


def identify_admin(gate: Gate) -> Identify:
    """A dependency that gives the caller, or answers 401, or 403 if it is no admin."""

    async def caller(request: Request) -> Caller:
        found = await gate.identify(dict(request.scope["headers"]))
        require_admin(found)
        return found

    return caller

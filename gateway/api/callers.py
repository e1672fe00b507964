"""Who calls a control endpoint, and which gateway answers: the one that was in force when the request came."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import Request

from gateway.guard.auth import require_admin
from gateway.guard.callers import Caller
from gateway.serving.inbound import Inbound

if TYPE_CHECKING:
    from gateway.app import Gateway

GATEWAY = "pointsman.gateway"
INBOUND = "pointsman.inbound"
"""Where they stand in a request's scope."""


def gateway_of(request: Request) -> Gateway:
    found: Gateway = request.scope[GATEWAY]
    return found


def inbound_of(request: Request) -> Inbound:
    found: Inbound = request.scope[INBOUND]
    return found


async def identify(request: Request) -> Caller:
    """A dependency that gives the caller, or answers 401."""
    return await gateway_of(request).guard.gate.identify(dict(request.scope["headers"]))


async def identify_admin(request: Request) -> Caller:
    """A dependency that gives the caller, or answers 401, or 403 if it is no admin."""
    found = await identify(request)
    require_admin(found)
    return found

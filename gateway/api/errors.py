"""FastAPI's own errors in the shape of the closed table."""

from __future__ import annotations

import math

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from backends.api import Header
from gateway.errors import GatewayError


def answer(error: GatewayError) -> Response:
    """The response for an error."""
    headers = {name.decode(): value.decode() for name, value in headers_of(error)}
    return Response(error.body(), error.status, headers, "application/json")


def headers_of(error: GatewayError) -> list[Header]:
    """What goes with an error besides its body: when to come back, how to show a key, what is left of an allowance."""
    headers: list[Header] = [*error.headers]
    if error.retry_after is not None:
        headers.append((b"retry-after", b"%d" % max(1, math.ceil(error.retry_after))))
    if error.status == 503:
        headers.append((b"x-router-reason", error.code.encode()))
    if error.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    return headers


def install(app: FastAPI) -> None:
    """Makes every error of the app OpenAI-shaped."""

    async def ours(_: Request, error: Exception) -> Response:
        assert isinstance(error, GatewayError)
        return answer(error)

    async def starlettes(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 405:
            response = answer(GatewayError("method_not_allowed", f"{request.method} is not allowed here"))
            response.headers.update(error.headers or {})
            return response
        if error.status_code == 404:
            return answer(GatewayError("not_found", "there is nothing at this path"))
        return answer(GatewayError("invalid_value", "the request cannot be read"))

    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        param = ".".join(str(part) for part in first["loc"][1:]) or None
        return answer(GatewayError("invalid_value", f"'{param}': {first['msg']}", param=param))

    async def unexpected(_: Request, error: Exception) -> Response:
        return answer(GatewayError("internal_error", "something went wrong in the gateway"))

    app.add_exception_handler(GatewayError, ours)
    app.add_exception_handler(HTTPException, starlettes)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(500, unexpected)

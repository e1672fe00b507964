"""The closed table of errors: what a client may get, always in OpenAI's shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

Code = Literal[
    "invalid_json",
    "missing_field",
    "invalid_value",
    "duplicate_field",
    "context_length_exceeded",
    "no_capable_model",
    "invalid_api_key",
    "budget_exceeded",
    "max_cost_too_low",
    "model_not_allowed",
    "forbidden",
    "model_not_found",
    "decision_not_found",
    "not_found",
    "method_not_allowed",
    "idempotency_conflict",
    "body_too_large",
    "rate_limit_exceeded",
    "overloaded",
    "internal_error",
    "upstream_error",
    "upstream_invalid",
    "upstream_aborted",
    "no_healthy_backend",
    "draining",
    "upstream_timeout",
    "deadline_exceeded",
]

STATUS: dict[Code, int] = {
    "invalid_json": 400,
    "missing_field": 400,
    "invalid_value": 400,
    "duplicate_field": 400,
    "context_length_exceeded": 400,
    "no_capable_model": 400,
    "invalid_api_key": 401,
    "budget_exceeded": 402,
    "max_cost_too_low": 402,
    "model_not_allowed": 403,
    "forbidden": 403,
    "model_not_found": 404,
    "decision_not_found": 404,
    "not_found": 404,
    "method_not_allowed": 405,
    "idempotency_conflict": 409,
    "body_too_large": 413,
    "rate_limit_exceeded": 429,
    "overloaded": 429,
    "internal_error": 500,
    "upstream_error": 502,
    "upstream_invalid": 502,
    "upstream_aborted": 502,
    "no_healthy_backend": 503,
    "draining": 503,
    "upstream_timeout": 504,
    "deadline_exceeded": 504,
}

CLIENT_CLOSED = 499
"""Status in logs and metrics when the client left; nobody receives it."""


def error_type(status: int) -> str:
    """OpenAI's `type` for an HTTP status."""
    if status >= 500:
        return "server_error"
    return {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}.get(status, "invalid_request_error")


class GatewayError(Exception):
    """An answer to the client that is an error. `param` names the field that is wrong; `retry_after` is in seconds;
    `headers` are sent along.

    The message is shown to the client: it never holds an exception's text, a key, or a backend's address.
    """

    headers: Sequence[tuple[bytes, bytes]] = ()

    def __init__(self, code: Code, message: str, *, param: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.code: Code = code
        self.reason: str = code
        self.status = STATUS[code]
        self.message = message
        self.param = param
        self.retry_after = retry_after

    def document(self) -> dict[str, dict[str, str | None]]:
        return {"error": {"message": self.message, "type": error_type(self.status), "param": self.param, "code": self.code}}

    def body(self) -> bytes:
        return msgspec.json.encode(self.document())


class ClientGone(Exception):
    """The client closed its connection: there is nobody to answer."""

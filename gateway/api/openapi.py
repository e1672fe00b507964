"""The OpenAPI document: what FastAPI knows by itself, and the endpoints that are plain ASGI handlers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from gateway.errors import STATUS

_OBJECT: dict[str, Any] = {"type": "object"}
_ROUTER = {
    "type": "object",
    "additionalProperties": False,
    "description": "wishes for this one request",
    "properties": {
        "models": {"type": "array", "items": {"type": "string"}},
        "exclude": {"type": "array", "items": {"type": "string"}},
        "max_cost_usd": {"type": "number", "minimum": 0},
        "min_quality": {"type": "number", "minimum": 0, "maximum": 1},
        "cost_weight": {"type": "number", "minimum": 0},
        "max_latency_ms": {"type": "number", "exclusiveMinimum": 0},
        "session": {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,128}$"},
        "explain": {"type": "boolean"},
    },
}
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "integer", "null"]},
            },
        }
    },
}
_COUNT = {"type": "integer", "minimum": 1}
_MESSAGE = {
    "type": "object",
    "required": ["role", "content"],
    "properties": {"role": {"enum": ["system", "user", "assistant"]}, "content": {"type": "string"}},
}
_BODIES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "/v1/chat/completions": (
        "Chat completion, by a model or by a route's choice",
        {"messages": {"type": "array", "minItems": 1, "items": _MESSAGE}},
        {
            "max_tokens": _COUNT,
            "max_completion_tokens": _COUNT,
            "tools": {"type": "array", "items": _OBJECT},
            "response_format": _OBJECT,
        },
    ),
    "/v1/completions": (
        "Text completion, by a model or by a route's choice",
        {"prompt": {"anyOf": [{"type": "string"}, {"type": "array", "minItems": 1, "items": {"type": "string"}}]}},
        {"max_tokens": _COUNT},
    ),
    "/v1/embeddings": (
        "Embeddings",
        {"input": {"anyOf": [{"type": "string"}, {"type": "array", "minItems": 1, "items": {"type": "string"}}]}},
        {},
    ),
    "/v1/route": ("The decision that a chat completion would get; nothing is forwarded", {}, {}),
}


def install(app: FastAPI, names: Callable[[], Sequence[str]]) -> None:
    """`names`: the models and routes that a request may name now."""

    def document() -> dict[str, Any]:
        return _complete(get_openapi(title=app.title, version=app.version, routes=app.routes), names())

    app.openapi = document  # type: ignore[method-assign]


def _complete(document: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas["Error"] = _ERROR
    for path, operations in document["paths"].items():
        for operation in operations.values():
            operation["responses"].pop("422", None)
            operation["responses"].update(_errors(400, 404, 503))
            if path.startswith("/admin/"):
                operation["responses"].update(_errors(401, 403, 429))
    _, chat_required, chat_optional = _BODIES["/v1/chat/completions"]
    for path, (summary, required, optional) in _BODIES.items():
        if path == "/v1/route":
            required, optional = chat_required, chat_optional
        document["paths"].setdefault(path, {})["post"] = _operation(path, summary, _body(names, required, optional))
    return document


def _body(names: Sequence[str], required: dict[str, Any], optional: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["model", *required],
        "properties": {
            "model": {"type": "string", "examples": list(names), "description": "a model, or a route that chooses one"},
            "stream": {"type": ["boolean", "null"]},
            "stream_options": {"type": ["object", "null"]},
            "n": {"anyOf": [_COUNT, {"type": "null"}]},
            "router": _ROUTER,
            **required,
            **optional,
        },
    }


def _operation(path: str, summary: str, body: dict[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = {"application/json": {"schema": _OBJECT}}
    if path in ("/v1/chat/completions", "/v1/completions"):
        content["text/event-stream"] = {"schema": {"type": "string"}}
    return {
        "tags": ["routing" if path == "/v1/route" else "completions"],
        "summary": summary,
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {"200": {"description": "the answer", "content": content}, **_errors(*sorted(set(STATUS.values()) | {422}))},
    }


def _errors(*statuses: int) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Error"}
    return {str(status): {"description": "an error", "content": {"application/json": {"schema": schema}}} for status in statuses}

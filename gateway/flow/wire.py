"""Reads the few fields of a request that the gateway needs, and writes the body that a backend gets.

The body is never re-modelled: its members are kept as they came, as raw JSON, and only `model`, `router` and
`stream_options.include_usage` are replaced, so whatever a client sends beyond what we know reaches the backend.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw, Struct

from gateway.errors import GatewayError
from gateway.flow.content import Message, Prompt
from gateway.flow.malformed import diagnose
from gateway.guard.callers import Priority
from routers.api import Endpoint, Preferences

MAX_DEPTH = 128
SAFE_DIGITS = 4
"""A number of so few characters is within every range."""

Count = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Several = Annotated[int, Meta(ge=1, le=128)]
# OpenAI's own test suite sends `max_tokens: 0`; what it means is left to the backend.
Bound = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Share = Annotated[float, Meta(ge=0, le=1)]
Amount = Annotated[float, Meta(ge=0)]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._:\-]{1,128}$")]


class RouterFields(Struct, forbid_unknown_fields=True):
    models: list[str] | None = None
    exclude: list[str] | None = None
    max_cost_usd: Amount | None = None
    min_quality: Share | None = None
    cost_weight: Amount | None = None
    max_latency_ms: Annotated[float, Meta(gt=0)] | None = None
    session: Name | None = None
    explain: bool | None = None


class _Shared(Struct):
    model: str
    stream: bool | None = None
    stream_options: dict[str, Raw] | None = None
    n: Several | None = None
    service_tier: str | None = None
    router: RouterFields | None = None


class _Chat(_Shared):
    messages: Annotated[list[Message], Meta(min_length=1)] = msgspec.field(default_factory=list)
    max_tokens: Bound | None = None
    max_completion_tokens: Bound | None = None
    tools: list[Raw] | None = None
    response_format: dict[str, Raw] | None = None


class _Completion(_Shared):
    prompt: Raw = Raw(b"")
    best_of: Annotated[int, Meta(ge=0, le=128)] | None = None
    max_tokens: Bound | None = None
    response_format: dict[str, Raw] | None = None


class _Embedding(_Shared):
    input: Raw = Raw(b"")


_SUBJECT: dict[Endpoint, str] = {"chat": "messages", "completions": "prompt", "embeddings": "input"}
_FIELDS: dict[Endpoint, msgspec.json.Decoder[Any]] = {
    "chat": msgspec.json.Decoder(_Chat),
    "completions": msgspec.json.Decoder(_Completion),
    "embeddings": msgspec.json.Decoder(_Embedding),
}
_MEMBERS = msgspec.json.Decoder(dict[str, Raw])
_FLOAT = msgspec.json.Decoder(float)
_TYPED = {endpoint: frozenset(decoder.type.__struct_fields__) for endpoint, decoder in _FIELDS.items()}
"""Members whose numbers have been read."""
_HEADERS = {name: f"x-router-{name.replace('_', '-')}".encode() for name in RouterFields.__struct_fields__}
_ANY_HEADER = frozenset(_HEADERS.values())
_NO_PREFERENCES = Preferences()
_MODEL = re.compile(rb'"model"')
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_OWN = frozenset({"model", "router", "stream_options"})
_COMMON = (
    "messages prompt input stream max_tokens max_completion_tokens temperature top_p n stop seed user tools tool_choice response_format"
)
_MEMBER = {name: f',"{name}":'.encode() for name in _COMMON.split()}
"""How common members begin."""


class Wire(Struct, frozen=True, gc=False):
    """A request as read. `wants_usage`: the client asked for the usage chunk of a stream itself. `max_tokens`: None if not bounded.

    `n`: answers that the backend makes. `priority`: the class that the client asks for, None if it does not.
    """

    endpoint: Endpoint
    model: str
    stream: bool
    wants_usage: bool
    max_tokens: int | None
    n: int
    preferences: Preferences
    needs: frozenset[str]
    prompt: Prompt
    tail: bytes
    priority: Priority | None

    def body(self, model: bytes) -> bytes:
        """The body for a backend; `model` is the name that it knows, as JSON."""
        return b'{"model":' + model + self.tail


def read(endpoint: Endpoint, headers: Mapping[bytes, bytes], body: bytes) -> Wire:
    """Reads a request's body. `headers`: lower-case names. Raises GatewayError that names the field and what would be right."""
    members = _read_members(body)
    fields = _read_fields(endpoint, body)
    _check(endpoint, fields, members, body)
    stream = bool(fields.stream) and endpoint != "embeddings"
    options = fields.stream_options
    wants_usage = bool(options) and bytes(options.get("include_usage", b"")) == b"true"
    prompt = Prompt(endpoint, members[_SUBJECT[endpoint]], members.get("tools"), getattr(fields, "messages", ()))
    return Wire(
        endpoint=endpoint,
        model=fields.model,
        stream=stream,
        wants_usage=wants_usage,
        max_tokens=_max_tokens(fields),
        n=max(fields.n or 1, getattr(fields, "best_of", None) or 1),
        preferences=_preferences(fields.router, headers),
        needs=_needs(fields, prompt),
        prompt=prompt,
        tail=_tail(members, options, stream),
        priority=_priority(fields, headers),
    )


def _read_members(body: bytes) -> dict[str, Raw]:
    try:
        if not body.isascii():
            body.decode()
        return _MEMBERS.decode(body)
    except RecursionError:
        raise GatewayError("invalid_json", f"the body is nested more than {MAX_DEPTH} levels deep") from None
    except msgspec.ValidationError:
        raise GatewayError("invalid_json", "the body must be a JSON object") from None
    except (UnicodeDecodeError, msgspec.DecodeError) as error:
        raise diagnose(body, str(error).removeprefix("JSON is malformed: ")) from None


def _read_fields(endpoint: Endpoint, body: bytes) -> Any:
    try:
        return _FIELDS[endpoint].decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None


_KINDS = {
    "array": "a list",
    "object": "an object",
    "str": "a string",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "null": "null",
}


def _invalid(message: str, prefix: str = "") -> GatewayError:
    """An error of ours from msgspec's "Expected `str`, got `int` - at `$.field`"."""
    what, _, where = message.partition(" - at `$")
    param = (prefix + where.rstrip("`")).lstrip(".")
    named = re.search(r"field `([^`]*)`", what)
    if named:
        param = f"{param}.{named[1]}".lstrip(".")
    if "missing required" in what:
        return GatewayError("missing_field", f"'{param}' is required", param=param)
    if "unknown field" in what:
        known = ", ".join(RouterFields.__struct_fields__)
        return GatewayError("invalid_value", f"'{param}' is not known; 'router' takes {known}", param=param)
    what = re.sub(r"\b(array|object|str|int|float|bool|null)\b", lambda kind: _KINDS[kind[1]], what.replace("`", "").replace(" | null", ""))
    return GatewayError("invalid_value", f"'{param}': {what[0].lower()}{what[1:]}", param=param or None)


def _check(endpoint: Endpoint, fields: Any, members: dict[str, Raw], body: bytes) -> None:
    subject = _SUBJECT[endpoint]
    if subject not in members:
        raise GatewayError("missing_field", f"'{subject}' is required", param=subject)
    if endpoint != "chat":
        _check_input(subject, bytes(members[subject]))
    for name in members.keys() - _TYPED[endpoint]:
        raw = members[name]
        view = memoryview(raw)
        if len(view) > SAFE_DIGITS and view[0] in b"-0123456789":
            try:
                _FLOAT.decode(raw)
            except msgspec.ValidationError:
                raise GatewayError("invalid_value", f"'{name}': the number is out of range", param=name) from None
    # Searching by regular expression is three times as fast as bytes.count on a long prompt, and finding no backslash is nearly free.
    if len(_MODEL.findall(body)) != 1 or (b"\\" in body and b"\\u00" in body):
        _refuse_duplicates(body, members)
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH:
        _check_depth(members)


def _check_input(subject: str, raw: bytes) -> None:
    """`prompt` and `input`: a text, token ids, or a non-empty list of either."""
    value = msgspec.json.decode(raw) if len(raw) < 64 else None
    if (value is None and raw[:1] not in b'"[') or value == [] or isinstance(value, (int, float, dict)):
        raise GatewayError("invalid_value", f"'{subject}' must be a string or a non-empty list", param=subject)


def _refuse_duplicates(body: bytes, members: Mapping[str, Raw]) -> None:
    """Two members of one name are read differently by different parsers: what we decide on must be what the backend sees."""
    pairs: list[tuple[str, Any]] = []

    def keep(found: list[tuple[str, Any]]) -> None:
        pairs[:] = found  # the outermost object is closed last

    try:
        json.loads(body, object_pairs_hook=keep)
    except (RecursionError, ValueError):
        raise GatewayError("invalid_json", f"the body is nested more than {MAX_DEPTH} levels deep, or holds an endless number") from None
    if len(pairs) == len(members):
        return
    names = [name for name, _ in pairs]
    for name in ("model", "messages", "prompt", "input", "stream", "stream_options", "router"):
        if names.count(name) > 1:
            raise GatewayError("duplicate_field", f"'{name}' is given twice", param=name)


def _check_depth(members: Mapping[str, Raw]) -> None:
    """Peels brackets from the inside, one level a pass: linear work for honest bodies, and bounded for the others."""
    for name, raw in members.items():
        brackets = _STRING.sub(b"", raw).translate(None, _NOT_BRACKETS)
        for _ in range(MAX_DEPTH):
            if not brackets:
                break
            brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
        if brackets:
            raise GatewayError("invalid_json", f"'{name}' is nested more than {MAX_DEPTH} levels deep", param=name)


def _max_tokens(fields: Any) -> int | None:
    bound: int | None = getattr(fields, "max_completion_tokens", None) or getattr(fields, "max_tokens", None)
    return bound


def _needs(fields: Any, prompt: Prompt) -> frozenset[str]:
    needs = set()
    if getattr(fields, "tools", None):
        needs.add("tools")
    form = getattr(fields, "response_format", None)
    if form and bytes(form.get("type", b"")) in (b'"json_schema"', b'"json_object"'):
        needs.add("json_schema")
    if prompt.has_images:
        needs.add("vision")
    return frozenset(needs)


def _priority(fields: _Shared, headers: Mapping[bytes, bytes]) -> Priority | None:
    """OpenAI's tier for work that may wait is `flex`; the header says the same to whoever does not use OpenAI's field."""
    wish = headers.get(b"x-router-priority", b"").strip().lower()
    if wish not in (b"", b"interactive", b"batch"):
        raise GatewayError("invalid_value", "x-router-priority is interactive or batch", param="x-router-priority")
    if wish == b"batch" or fields.service_tier == "flex":
        return "batch"
    return "interactive" if wish else None


def _preferences(fields: RouterFields | None, headers: Mapping[bytes, bytes]) -> Preferences:
    """From the headers, then from the body: a field that both name is the body's."""
    if fields is None and _ANY_HEADER.isdisjoint(headers):
        return _NO_PREFERENCES
    given: dict[str, Any] = {}
    for name, header in _HEADERS.items():
        value = headers.get(header)
        if value is not None:
            text = value.decode("latin-1").strip()
            given[name] = [part.strip() for part in text.split(",") if part.strip()] if name in ("models", "exclude") else text
    try:
        merged = msgspec.convert(given, RouterFields, strict=False)
    except msgspec.ValidationError as error:
        raise _invalid(str(error), prefix="router") from None
    for name in RouterFields.__struct_fields__ if fields is not None else ():
        value = getattr(fields, name)
        if value is not None:
            setattr(merged, name, value)
    if any(isinstance(value, float) and not math.isfinite(value) for value in msgspec.structs.astuple(merged)):
        raise GatewayError("invalid_value", "'router': the numbers must be finite", param="router")
    return Preferences(
        models=None if merged.models is None else frozenset(merged.models),
        exclude=frozenset(merged.exclude or ()),
        max_cost_usd=merged.max_cost_usd,
        min_quality=merged.min_quality,
        cost_weight=merged.cost_weight,
        max_latency_ms=merged.max_latency_ms,
        session=merged.session,
        explain=bool(merged.explain),
    )


def _tail(members: Mapping[str, Raw], options: Mapping[str, Raw] | None, stream: bool) -> bytes:
    """Everything of the body that follows `{"model":…`."""
    encode = msgspec.json.encode
    parts: list[bytes | Raw] = []
    for name, raw in members.items():
        if name not in _OWN:
            parts += (_MEMBER.get(name) or b"," + encode(name) + b":", raw)
    if stream:
        wanted = {**(options or {}), "include_usage": Raw(b"true")}
        parts += (b',"stream_options":', encode(wanted))
    elif "stream_options" in members:
        parts += (b',"stream_options":', members["stream_options"])
    parts.append(b"}")
    return b"".join(parts)

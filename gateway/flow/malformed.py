"""Says what is wrong with a body that no JSON parser should take, and in which member."""

from __future__ import annotations

import json
from typing import Any

from gateway.errors import GatewayError

MAX_DIAGNOSED_BYTES = 1_000_000


class _Bare(str):
    """Stands where NaN or Infinity stood."""


def diagnose(body: bytes, otherwise: str) -> GatewayError:
    """The 400 for a body that failed to parse. `otherwise`: what the parser said, for faults that are not among the known ones.

    Slow and only for broken bodies: lenient parsers let NaN, Infinity, half a surrogate pair and stray bytes through, so these are
    found by parsing leniently and looking at each member.
    """
    if body.startswith(b"\xef\xbb\xbf"):
        return GatewayError("invalid_json", "the body starts with a byte order mark, which JSON does not allow")
    if len(body) <= MAX_DIAGNOSED_BYTES:
        try:
            document = json.loads(body.decode(errors="surrogateescape"), parse_constant=_Bare)
        except (ValueError, RecursionError):
            document = None
        for name, value in document.items() if isinstance(document, dict) else ():
            fault = _fault(name) or _fault(value)
            if fault:
                shown = name.encode(errors="replace").decode()
                return GatewayError("invalid_json", f"'{shown}' holds {fault}", param=shown)
    return GatewayError("invalid_json", f"the body is not valid JSON: {otherwise}")


def _fault(value: Any) -> str | None:
    if isinstance(value, _Bare):
        return f"{value}, which is not JSON"
    if isinstance(value, str):
        for character in value:
            if "\udc80" <= character <= "\udcff":
                return "bytes that are not valid UTF-8, or half a surrogate pair"
            if "\ud800" <= character <= "\udfff":
                return "half a surrogate pair"
        return None
    parts = value if isinstance(value, list) else [*value, *value.values()] if isinstance(value, dict) else ()
    return next((fault for part in parts if (fault := _fault(part))), None)

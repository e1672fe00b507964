"""What a request may weigh."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

from gateway.errors import ClientGone, GatewayError
from gateway.flow.client import Receive


async def read_body(receive: Receive, headers: Mapping[bytes, bytes], bound: int) -> bytes:
    """The whole request body. Raises GatewayError beyond `bound` bytes (an announced size is refused before anything is read) and for
    an encoded body, which could unpack to any size; ClientGone if the client leaves.
    """
    if headers.get(b"content-encoding", b"identity").strip().lower() != b"identity":
        raise GatewayError("invalid_value", "request bodies must not be compressed", param="content-encoding")
    announced = headers.get(b"content-length", b"")
    if announced.isdigit() and int(announced[:20]) > bound:
        raise _too_large(bound)
    message = await receive()
    if not message.get("more_body"):
        return _part(message)
    parts: list[bytes] = []
    size = 0
    while True:
        parts.append(_part(message))
        size += len(parts[-1])
        if size > bound:
            raise _too_large(bound)
        if not message.get("more_body"):
            return b"".join(parts)
        message = await receive()


def _part(message: MutableMapping[str, Any]) -> bytes:
    if message["type"] == "http.disconnect":
        raise ClientGone
    part: bytes = message.get("body", b"")
    return part


def _too_large(bound: int) -> GatewayError:
    return GatewayError("body_too_large", f"the body is larger than {bound} bytes")

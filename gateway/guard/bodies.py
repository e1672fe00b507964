"""What a request may weigh."""

from __future__ import annotations

from gateway.errors import GatewayError
from gateway.serving.inbound import Inbound


async def read_body(inbound: Inbound, bound: int) -> bytes:
    """The whole request body. Raises GatewayError beyond `bound` bytes (an announced size is refused before anything is read) and for
    an encoded body, which could unpack to any size; ClientGone if the client leaves.
    """
    headers = inbound.headers
    if headers.get(b"content-encoding", b"identity").strip().lower() != b"identity":
        raise GatewayError("invalid_value", "request bodies must not be compressed", param="content-encoding")
    announced = headers.get(b"content-length", b"")
    if announced.isdigit() and int(announced[:20]) > bound:
        raise _too_large(bound)
    body = await inbound.read()
    if inbound.whole and len(body) <= bound:
        return body
    parts = [body]
    size = len(body)
    while size <= bound:
        part = await inbound.read()
        if not part:
            return b"".join(parts)
        parts.append(part)
        size += len(part)
    raise _too_large(bound)


def _too_large(bound: int) -> GatewayError:
    return GatewayError("body_too_large", f"the body is larger than {bound} bytes")

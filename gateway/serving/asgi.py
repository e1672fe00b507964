"""An ASGI app behind the gateway's own connections: the control endpoints, which are FastAPI's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from backends.api import Header
from gateway.errors import ClientGone
from gateway.serving.inbound import Inbound

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message

_VERSION = {"version": "3.0", "spec_version": "2.3"}


async def serve(app: ASGIApp, inbound: Inbound, path: str, raw_path: bytes, query: bytes, extra: dict[str, Any]) -> None:
    """Has the app answer a request. `path`, `raw_path`, `query`: from its URL. `extra`: further entries of the scope."""
    scope = {
        "type": "http",
        "asgi": _VERSION,
        "http_version": inbound.version,
        "method": inbound.method.decode("ascii"),
        "scheme": "http",
        "path": path,
        "raw_path": raw_path,
        "query_string": query,
        "root_path": "",
        "headers": inbound.fields,
        "server": None,
        "client": None,
        "state": {},
        **extra,
    }
    bridge = _Bridge(inbound)
    await app(scope, bridge.receive, bridge.send)


class _Bridge:
    """ASGI's messages of one request."""

    __slots__ = ("_ended", "_head", "_inbound")

    def __init__(self, inbound: Inbound) -> None:
        self._inbound = inbound
        self._ended = False
        self._head: tuple[int, list[Header]] | None = None

    async def receive(self) -> Message:
        inbound = self._inbound
        if self._ended or inbound.complete:
            await inbound.left()
            return {"type": "http.disconnect"}
        try:
            data = await inbound.read()
        except ClientGone:
            return {"type": "http.disconnect"}
        self._ended = inbound.whole or not data
        return {"type": "http.request", "body": data, "more_body": not self._ended}

    async def send(self, message: Message) -> None:
        """The head waits for the first part of the body: a short answer is one write."""
        inbound = self._inbound
        if message["type"] == "http.response.start":
            self._head = message["status"], [(name.lower(), value) for name, value in message["headers"]]
            return
        body, more = message.get("body", b""), message.get("more_body", False)
        if self._head is not None:
            status, headers = self._head
            self._head = None
            size = next((int(value) for name, value in headers if name == b"content-length"), None)
            headers = [(name, value) for name, value in headers if name != b"content-length"]
            if any(name == b"connection" and b"close" in value.lower() for name, value in headers):
                headers = [(name, value) for name, value in headers if name != b"connection"]
                inbound.keep_alive = False
            if not more and (size is None or size == len(body)):
                inbound.respond(status, headers, body)
                return
            inbound.begin(status, headers, size)
        if inbound.jammed:
            await inbound.drain()
        inbound.put(body, more)

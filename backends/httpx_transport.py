"""The same seam over httpx: for proxies, HTTP/2 and odd cases. Slower; the default is `http1`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from urllib.parse import urlsplit

import httpx

from backends.api import (
    BackendError,
    Call,
    ConnectError,
    ConnectionLost,
    FailureKind,
    Header,
    InvalidResponse,
    Response,
    Take,
    TimedOut,
    root_path,
)

_ERRORS: tuple[tuple[type[Exception], type[BackendError], FailureKind, str], ...] = (
    (httpx.ConnectTimeout, TimedOut, "connect_timeout", "no connection in time"),
    (httpx.PoolTimeout, TimedOut, "connect_timeout", "no free connection in time"),
    (httpx.ReadTimeout, TimedOut, "idle_timeout", "nothing came in time"),
    (httpx.WriteTimeout, TimedOut, "idle_timeout", "nothing could be sent in time"),
    (httpx.ConnectError, ConnectError, "connect", "cannot connect"),
    (httpx.UnsupportedProtocol, ConnectError, "connect", "not an http(s) URL"),
    (httpx.ReadError, ConnectionLost, "lost", "the backend closed the connection"),
    (httpx.WriteError, ConnectionLost, "lost", "the backend closed the connection"),
    (httpx.CloseError, ConnectionLost, "lost", "the backend closed the connection"),
    (httpx.RemoteProtocolError, InvalidResponse, "invalid", "the backend's answer is not HTTP"),
    (httpx.HTTPError, InvalidResponse, "invalid", "the call failed"),
)


class HttpxResponse:
    """One answer, read as raw bytes."""

    def __init__(self, response: httpx.Response, timeouts_end: float, idle: float, first_byte: float) -> None:
        self.status = response.status_code
        self.headers: Sequence[Header] = [(name.lower(), value) for name, value in response.headers.raw]
        self._response = response
        self._chunks: AsyncIterator[bytes] = response.aiter_raw()
        self._end = timeouts_end
        self._idle = idle
        self._patience = first_byte
        self._waiting_for: FailureKind = "first_byte_timeout"
        self._closing: asyncio.Task[None] | None = None

    async def read(self) -> bytes:
        left = self._end - asyncio.get_running_loop().time()
        kind: FailureKind = "total_timeout" if left < self._patience else self._waiting_for
        try:
            async with asyncio.timeout(max(0.0, min(left, self._patience))):
                chunk = await anext(self._chunks, b"")
        except TimeoutError:
            raise TimedOut(kind, kind.replace("_", " ")) from None
        except httpx.RemoteProtocolError:
            raise ConnectionLost("lost", "the backend closed the connection amid its answer") from None
        except httpx.HTTPError as error:
            raise translated(error) from None
        self._patience, self._waiting_for = self._idle, "idle_timeout"
        return chunk

    async def pour(self, take: Take) -> bool:
        while data := await self.read():
            if not take(data):
                return True
        return False

    def close(self) -> None:
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._response.aclose())


class HttpxTransport:
    """Calls to the server of one URL through an `httpx.AsyncClient`. Never follows a redirect, never decompresses."""

    def __init__(
        self, url: str, *, http2: bool = False, proxy: str | None = None, verify: bool = True, max_connections: int = 1024
    ) -> None:
        parts = urlsplit(url)
        self._base = f"{parts.scheme}://{parts.netloc}"
        self._path = parts.path.rstrip("/")
        limits = httpx.Limits(max_connections=max_connections, max_keepalive_connections=64, keepalive_expiry=4.0)
        self._client = httpx.AsyncClient(http2=http2, proxy=proxy, verify=verify, limits=limits, follow_redirects=False, trust_env=False)

    async def send(self, call: Call) -> Response:
        loop = asyncio.get_running_loop()
        limits = call.timeouts
        end = loop.time() + limits.total
        base = root_path(self._path) if call.from_root else self._path
        timeout = httpx.Timeout(limits.total, connect=limits.connect, pool=limits.connect)
        headers = [("user-agent", "pointsman"), *((name.decode(), value.decode("latin-1")) for name, value in call.headers)]
        request = self._client.build_request(
            call.method, f"{self._base}{base}{call.path}", headers=headers, content=call.body, timeout=timeout
        )
        try:
            async with asyncio.timeout(min(limits.first_byte + limits.connect, limits.total)):
                response = await self._client.send(request, stream=True)
        except TimeoutError:
            raise TimedOut("first_byte_timeout", "first byte timeout") from None
        except httpx.RemoteProtocolError as error:
            if "disconnected" in str(error):
                raise ConnectionLost("lost", "the backend closed the connection before it answered") from None
            raise translated(error) from None
        except httpx.HTTPError as error:
            raise translated(error) from None
        return HttpxResponse(response, end, limits.idle, limits.first_byte)

    async def aclose(self) -> None:
        await self._client.aclose()


def translated(error: httpx.HTTPError) -> BackendError:
    """One of our errors for one of httpx's."""
    for theirs, ours, kind, message in _ERRORS:
        if isinstance(error, theirs):
            return ours(kind, message)
    return InvalidResponse("invalid", "the call failed")

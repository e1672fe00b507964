"""The part of the Kubernetes API that tells of EndpointSlices: pages of a list, and the stream of a watch."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import msgspec
from msgspec import Struct

from backends.discovery.api import Unusable
from backends.discovery.endpoint_slices import Metadata, Slice

MAX_SLICES = 1000
MAX_PAGE_BYTES = 64 * 1024 * 1024
MAX_LINE_BYTES = 8 * 1024 * 1024
LATE_SECONDS = 10.0
"""A watch that the server has not ended so long after its time is dead."""

_HINTS: Mapping[int, str] = {
    401: "the token was refused",
    403: "the service account may not list and watch endpointslices.discovery.k8s.io here",
    404: "there is no discovery.k8s.io/v1 at this address",
}


class ApiError(Unusable):
    """A call that failed. `stale`: what was known is no ground to go on from. `retry_after`: seconds that the server asks for."""

    def __init__(self, message: str, *, stale: bool = False, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.stale = stale
        self.retry_after = retry_after


class Expired(ApiError):
    """410: the server does not remember so far back. Nothing is wrong; the list must be read anew."""

    def __init__(self) -> None:
        super().__init__("the server does not remember so far back", stale=True)


class Event(Struct, frozen=True):
    """A line of a watch. `object`: a slice, of which a BOOKMARK has the version alone."""

    type: str
    object: Slice


class _Line(Struct, frozen=True):
    type: str = ""
    object: msgspec.Raw = msgspec.Raw(b"{}")


class _Status(Struct, frozen=True):
    code: int = 0
    message: str = ""


class _Page(Struct, frozen=True):
    metadata: Metadata = Metadata()
    items: list[Slice] | None = None


_LINE = msgspec.json.Decoder(_Line)
_SLICE = msgspec.json.Decoder(Slice)
_STATUS = msgspec.json.Decoder(_Status)
_PAGE = msgspec.json.Decoder(_Page)


@dataclass(frozen=True, slots=True)
class Cluster:
    """How the API is reached. `api`: its URL. `namespace`: None: the one that stands beside the token.

    `token_file`: None: no token is sent. It is read for every call, since the token in it is changed every hour or so. `ca_file`: None:
    the authorities of this machine.
    """

    api: str
    namespace: str | None
    token_file: Path | None
    ca_file: Path | None


class EndpointSlices:
    """Those with certain labels, in one namespace. `timeout`: seconds for a page, or for a watch to begin; `page`: slices of a page."""

    def __init__(self, cluster: Cluster, selector: str, *, timeout: float = 10.0, page: int = 250) -> None:
        self._cluster = cluster
        self._selector = selector
        self._timeout = timeout
        self._page = page

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[httpx.AsyncClient]:
        """Connections for the calls below; it knows the CA file as it is now. Raises ApiError."""
        with _translated():
            context = await asyncio.to_thread(_trust, self._cluster)
        limits = httpx.Limits(max_connections=2, max_keepalive_connections=1)
        transport = httpx.AsyncHTTPTransport(verify=context, limits=limits, socket_options=_keep_alive(), trust_env=False)
        async with httpx.AsyncClient(transport=transport, base_url=self._cluster.api, follow_redirects=False, trust_env=False) as client:
            yield client

    async def list(self, client: httpx.AsyncClient) -> tuple[dict[str, Slice], str]:
        """All slices by name, and the version at which this is true. Raises ApiError.

        The version is the first page's. All pages say the same one, but if a later page were newer, a watch from the first version on would
        still tell all that happened in between.
        """
        found: dict[str, Slice] = {}
        version = ""
        next_page: str | None = None
        while True:
            query = {"limit": str(self._page), **({"continue": next_page} if next_page else {})}
            with _translated():
                async with asyncio.timeout(self._timeout), self._get(client, query, self._timeout) as response:
                    page = _PAGE.decode(await _whole(response))
            found.update({item.metadata.name: item for item in page.items or ()})
            if len(found) > MAX_SLICES:
                raise ApiError(f"more than {MAX_SLICES} EndpointSlices have these labels", stale=True)
            version = version or page.metadata.resource_version
            next_page = page.metadata.continue_
            if not next_page:
                return found, version

    @contextlib.asynccontextmanager
    async def watch(self, client: httpx.AsyncClient, version: str, seconds: float) -> AsyncIterator[AsyncGenerator[Event, None]]:
        """What happened after `version`, for `seconds` at most: within the context, the events. Both raise ApiError."""
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(max(1, round(seconds))),
        }
        async with contextlib.AsyncExitStack() as stack:
            with _translated():
                async with asyncio.timeout(self._timeout):
                    response = await stack.enter_async_context(self._get(client, query, seconds + LATE_SECONDS))
            yield await stack.enter_async_context(contextlib.aclosing(_events(response)))

    @contextlib.asynccontextmanager
    async def _get(self, client: httpx.AsyncClient, query: Mapping[str, str], silence: float) -> AsyncIterator[httpx.Response]:
        """An answer with status 200, its body still to come. `silence`: seconds that may pass between two parts of it."""
        namespace, headers = await asyncio.to_thread(self._credentials)
        path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
        timeout = httpx.Timeout(self._timeout, read=silence)
        async with client.stream(
            "GET", path, params={"labelSelector": self._selector, **query}, headers=headers, timeout=timeout
        ) as response:
            if response.status_code != 200:
                raise await _refusal(response)
            yield response

    def _credentials(self) -> tuple[str, dict[str, str]]:
        """The namespace, and the headers of a call."""
        cluster = self._cluster
        headers = {"accept": "application/json", "accept-encoding": "identity", "user-agent": "pointsman"}
        if cluster.token_file is not None:
            token = cluster.token_file.read_text(encoding="ascii", errors="replace").strip()
            if not token.isascii() or not token.isprintable() or not token or " " in token:
                raise ApiError(f"{cluster.token_file} holds no token")
            headers["authorization"] = f"Bearer {token}"
        if cluster.namespace is not None:
            return cluster.namespace, headers
        if cluster.token_file is None:
            raise ApiError("no namespace is given")
        return (cluster.token_file.parent / "namespace").read_text(encoding="ascii", errors="replace").strip(), headers


def _trust(cluster: Cluster) -> ssl.SSLContext | bool:
    if not cluster.api.startswith("https:"):
        return False
    context = ssl.create_default_context(cafile=cluster.ca_file)
    # Python 3.13 turned on a check that the authorities of many clusters fail, which were made before anybody looked.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def _keep_alive() -> list[tuple[int, int, int]]:
    """Socket options that notice within a minute that the other end is gone: a watch may be silent for minutes."""
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    for name, value in (("TCP_KEEPIDLE", 20), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, name):
            options.append((socket.IPPROTO_TCP, getattr(socket, name), value))
    return options


async def _whole(response: httpx.Response, bound: int = MAX_PAGE_BYTES) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in response.aiter_bytes():
        parts.append(part)
        if (size := size + len(part)) > bound:
            raise ApiError(f"the answer is larger than {bound} bytes", stale=True)
    return b"".join(parts)


async def _refusal(response: httpx.Response) -> ApiError:
    """What to raise for an answer that is none."""
    status = response.status_code
    if status == 410:
        return Expired()
    message = ""
    with contextlib.suppress(Unusable, ValueError, RecursionError):
        message = " ".join(_STATUS.decode(await _whole(response, 65_536)).message.split())[:300]
    hint = _HINTS.get(status, "")
    told = "; ".join(part for part in (hint, json.dumps(message) if message else "") if part)
    after = response.headers.get("retry-after", "")
    return ApiError(
        f"the API server says {status}{f': {told}' if told else ''}",
        stale=400 <= status < 500 and status not in (401, 403, 429),
        retry_after=min(30.0, float(after)) if after.isascii() and after.isdigit() else 0.0,
    )


async def _events(response: httpx.Response) -> AsyncGenerator[Event, None]:
    with _translated():
        async with contextlib.aclosing(_lines(response)) as lines:
            async for line in lines:
                event = _LINE.decode(line)
                if event.type == "ERROR":
                    status = _STATUS.decode(event.object)
                    if status.code == 410:
                        raise Expired
                    message = " ".join(status.message.split())[:300]
                    raise ApiError(f"the watch ended with error {status.code}: {json.dumps(message)}", stale=True)
                yield Event(event.type, _SLICE.decode(event.object))


async def _lines(response: httpx.Response) -> AsyncGenerator[bytes, None]:
    pending: list[bytes] = []
    size = 0
    async for data in response.aiter_bytes():
        first, *more = data.split(b"\n")
        pending.append(first)
        size += len(first)
        for piece in more:
            if line := b"".join(pending).strip():
                yield line
            pending, size = [piece], len(piece)
        if size > MAX_LINE_BYTES:
            raise ApiError(f"an event is larger than {MAX_LINE_BYTES} bytes", stale=True)
    if size:
        raise ApiError("the connection ended amid an event")


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Makes an ApiError of what files, sockets and decoders raise."""
    try:
        yield
    except (TimeoutError, httpx.TimeoutException):
        raise ApiError("no answer in time") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ApiError(f"the API server cannot be reached: {error or type(error).__name__}") from None
    except OSError as error:
        raise ApiError(f"{error.filename or 'the CA file'} cannot be read: {error.strerror or type(error).__name__}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ApiError("what the API server says is no EndpointSlice", stale=True) from None

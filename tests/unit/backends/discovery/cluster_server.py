"""A Kubernetes API server for tests, as far as EndpointSlices go: pages, watches with bookmarks, versions that are forgotten, tokens.

It is worse than the real one in one thing: what happens between two pages of a list shows in the later one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

PATH = "/apis/discovery.k8s.io/v1/namespaces/models/endpointslices"
SILENCE = 0
"""A refusal that is none: no answer comes."""


def endpoint(address: str, uid: str = "", **conditions: bool) -> dict[str, Any]:
    reference = {"targetRef": {"kind": "Pod", "name": "vllm", "uid": uid}} if uid else {}
    return {"addresses": [address], "conditions": conditions, "nodeName": "n1", **reference}


def piece(name: str, *endpoints: dict[str, Any], kind: str = "IPv4", ports: Any = ({"name": "http", "port": 8000},)) -> dict[str, Any]:
    """An EndpointSlice as the API says it, with fields that we do not read."""
    return {
        "kind": "EndpointSlice",
        "apiVersion": "discovery.k8s.io/v1",
        "metadata": {"name": name, "namespace": "models", "uid": f"u-{name}", "labels": {"app": "vllm"}},
        "addressType": kind,
        "endpoints": list(endpoints) or None,
        "ports": None if ports is None else [{"protocol": "TCP", **port} for port in ports],
    }


class ClusterServer:
    """`slices`: as they are now. `requests`: the queries so far, as mappings.

    `refusals`: statuses to answer the next requests with. `token`: what must be sent; None: nothing is asked for. `remembered`: the
    oldest version from which a watch can go on.
    """

    def __init__(self) -> None:
        self.slices: dict[str, dict[str, Any]] = {}
        self.version = 100
        self.remembered = 0
        self.token: str | None = "t0"
        self.requests: list[dict[str, str]] = []
        self.tokens: list[str] = []
        self.refusals: list[int] = []
        self.retry_after = ""
        self.pages_forgotten = False
        self.gone_by_status = False
        self.url = ""
        self._history: list[tuple[int, bytes]] = []
        self._watching: set[asyncio.StreamWriter] = set()

    @property
    def lists(self) -> list[dict[str, str]]:
        return [query for query in self.requests if "watch" not in query]

    @property
    def watches(self) -> list[dict[str, str]]:
        return [query for query in self.requests if "watch" in query]

    @property
    def watching(self) -> int:
        return len(self._watching)

    # What happens in the cluster.

    def set(self, one: dict[str, Any]) -> None:
        """A slice is new or other than before."""
        name = one["metadata"]["name"]
        self._happened("MODIFIED" if name in self.slices else "ADDED", self._stamped(one))
        self.slices[name] = one

    def delete(self, name: str) -> None:
        self._happened("DELETED", self._stamped(self.slices.pop(name)))

    def elsewhere(self, count: int = 1) -> None:
        """Something happens to objects that nobody here watches."""
        self.version += count

    def bookmark(self) -> None:
        meta = {"kind": "EndpointSlice", "metadata": {"resourceVersion": str(self.version), "creationTimestamp": None}}
        self.say({"type": "BOOKMARK", "object": meta})

    def forget(self) -> None:
        """What happened so far is forgotten, as after five minutes."""
        self.remembered = self.version
        self._history.clear()

    def say(self, event: dict[str, Any]) -> None:
        self.send(json.dumps(event).encode() + b"\n")

    def send(self, data: bytes) -> None:
        """To all who watch; in two chunks, since chunks and lines have nothing to do with each other."""
        for writer in self._watching:
            for part in (data[: len(data) // 2], data[len(data) // 2 :]):
                if part:
                    writer.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")

    def drop(self) -> None:
        """All connections that watch break."""
        for writer in [*self._watching]:
            writer.transport.abort()

    def finish(self) -> None:
        """All watches end as they do when their time is over."""
        for writer in [*self._watching]:
            self._watching.discard(writer)
            writer.write(b"0\r\n\r\n")

    def _stamped(self, one: dict[str, Any]) -> dict[str, Any]:
        self.version += 1
        one["metadata"]["resourceVersion"] = str(self.version)
        return one

    def _happened(self, kind: str, one: dict[str, Any]) -> None:
        line = json.dumps({"type": kind, "object": one}).encode() + b"\n"
        self._history.append((self.version, line))
        self.send(line)

    # How it answers.

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                target = urlsplit(first.split(" ")[1])
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
                query = {key: values[0] for key, values in parse_qs(target.query).items()}
                self.requests.append(query)
                self.tokens.append(headers.get("authorization", "").removeprefix("Bearer "))
                await self._answer(writer, target.path, query)
        self._watching.discard(writer)
        writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, path: str, query: dict[str, str]) -> None:
        if self.refusals:
            self._refuse(writer, self.refusals.pop(0))
        elif self.token is not None and self.tokens[-1] != self.token:
            self._refuse(writer, 401)
        elif path != PATH:
            self._refuse(writer, 404)
        elif "watch" in query:
            await self._watch(writer, query)
        else:
            self._list(writer, query)

    def _refuse(self, writer: asyncio.StreamWriter, status: int) -> None:
        if status == SILENCE:
            return
        body = {"kind": "Status", "status": "Failure", "message": f"the reason\nfor {status}", "code": status}
        self._reply(writer, status, body)

    def _reply(self, writer: asyncio.StreamWriter, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        after = f"retry-after: {self.retry_after}\r\n" if self.retry_after and status != 200 else ""
        head = f"HTTP/1.1 {status} Whatever\r\ncontent-type: application/json\r\n{after}content-length: {len(data)}\r\n\r\n"
        writer.write(head.encode() + data)

    def _list(self, writer: asyncio.StreamWriter, query: dict[str, str]) -> None:
        if "continue" in query and self.pages_forgotten:
            self.pages_forgotten = False
            self._refuse(writer, 410)
            return
        names = sorted(name for name in self.slices if f"after:{name}" > query.get("continue", ""))
        page = names[: int(query["limit"])]
        meta = {"resourceVersion": str(self.version), **({"continue": f"after:{page[-1]}"} if len(page) < len(names) else {})}
        items = [self.slices[name] for name in page]
        self._reply(writer, 200, {"kind": "EndpointSliceList", "metadata": meta, "items": items or None})

    async def _watch(self, writer: asyncio.StreamWriter, query: dict[str, str]) -> None:
        version = int(query["resourceVersion"])
        if version < self.remembered and self.gone_by_status:
            self._refuse(writer, 410)
            return
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
        only = ClusterServer()
        only._watching = {writer}
        if version < self.remembered:
            gone = {"kind": "Status", "status": "Failure", "reason": "Expired", "code": 410}
            only.say({"type": "ERROR", "object": gone})
            writer.write(b"0\r\n\r\n")
            return
        for happened, line in self._history:
            if happened > version:
                only.send(line)
        self._watching.add(writer)
        await writer.drain()


@contextlib.asynccontextmanager
async def cluster_server(tls: ssl.SSLContext | None = None) -> AsyncIterator[ClusterServer]:
    cluster = ClusterServer()
    server = await asyncio.start_server(cluster.serve, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    cluster.url = f"http://127.0.0.1:{port}" if tls is None else f"https://localhost:{port}"
    try:
        yield cluster
    finally:
        server.close()
        cluster.drop()
        await server.wait_closed()

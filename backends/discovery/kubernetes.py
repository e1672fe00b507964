"""Backends from a cluster's EndpointSlices: listed once, then watched.

The protocol is the one under "Efficient detection of changes" in the Kubernetes documentation's page on API concepts: a list says of
which version of everything it is true, and a watch from that version on tells every change after it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable
from random import Random

import httpx

from backends.discovery.api import Backoff, Sleep, Standing, Unusable
from backends.discovery.cluster import MAX_SLICES, ApiError, EndpointSlices, Event, Expired
from backends.discovery.endpoint_slices import Slice, Wanted, backends

SHORT_SECONDS = 1.0
"""A watch that ends sooner, and without an event, has failed: to begin the next one at once would be a loop without a pause."""


class KubernetesSource:
    """The endpoints of EndpointSlices that may get calls, as a list and a watch tell of them.

    The server ends a watch after a while, and connections break: the next watch goes on from the last version that was heard of, after a
    pause if something went wrong. When the server does not remember that version (410) the list is read anew, and until it is there whole
    the old set stays.
    """

    def __init__(
        self,
        slices: EndpointSlices,
        wanted: Wanted,
        *,
        watch_seconds: float = 300.0,
        first_pause: float = 0.5,
        rng: Random,
        clock: Callable[[], float] = time.monotonic,
        sleep: Sleep = asyncio.sleep,
        where: str = "Kubernetes",
    ) -> None:
        """`watch_seconds`: how long one watch lasts, give or take a fifth. `first_pause`: seconds, after a first failure."""
        self._api = slices
        self._wanted = wanted
        self._watch_seconds = watch_seconds
        self._rng = rng
        self._clock = clock
        self._sleep = sleep
        self._backoff = Backoff(first_pause, 30.0, rng)
        self._slices: dict[str, Slice] = {}
        self._version: str | None = None
        self.standing = Standing(where)

    async def watch(self) -> AsyncGenerator[frozenset[str], None]:
        """See `Source.watch`."""
        known: frozenset[str] | None = None
        while True:
            pause = 0.0
            try:
                async with self._api.client() as client, contextlib.aclosing(self._follow(client)) as news:
                    async for _ in news:
                        urls = self._judge()
                        if urls is not None and urls != known:
                            known = urls
                            yield urls
            except ApiError as error:
                if error.stale:
                    self._version = None
                if not isinstance(error, Expired):
                    self.standing.failed(str(error))
                pause = max(self._backoff.next(), error.retry_after)
            await self._sleep(pause)

    async def _follow(self, client: httpx.AsyncClient) -> AsyncGenerator[None, None]:
        """Keeps the slices as the server has them, until something goes wrong; yields when they are, and when they may have changed."""
        while True:
            if self._version is None:
                self._slices, self._version = await self._api.list(client)
                yield
            began, heard = self._clock(), False
            seconds = self._watch_seconds * self._rng.uniform(0.8, 1.2)
            async with self._api.watch(client, self._version, seconds) as events:
                yield
                async for event in events:
                    heard = True
                    self._backoff.reset()
                    self._apply(event)
                    if event.type != "BOOKMARK":
                        yield
            if not heard and self._clock() - began < SHORT_SECONDS:
                raise ApiError("the watch ended as it began")

    def _apply(self, event: Event) -> None:
        """Raises ApiError. A kind of event that is not known yet says at least its version."""
        meta = event.object.metadata
        if event.type in ("ADDED", "MODIFIED"):
            self._slices[meta.name] = event.object
        elif event.type == "DELETED":
            self._slices.pop(meta.name, None)
        if len(self._slices) > MAX_SLICES:
            raise ApiError(f"more than {MAX_SLICES} EndpointSlices have these labels", stale=True)
        self._version = meta.resource_version or self._version

    def _judge(self) -> frozenset[str] | None:
        """The backends in the slices; None if they are of no use, which `standing` hears."""
        try:
            urls = backends(self._slices.values(), self._wanted)
        except Unusable as error:
            self.standing.failed(str(error))
            return None
        self.standing.worked()
        return urls

"""Keeps a pool's members in step with a source that finds backends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from backends.discovery.api import Sleep, Source, Standing, base_url
from backends.pool import Backend, Pool

LINGER_SECONDS = 1.0
"""A backend that has left is kept at least so long: sources may forget one for a moment, when an endpoint moves to another slice."""

_LOOK_SECONDS = 0.1
_log = logging.getLogger("pointsman.discovery")


class Found:
    """What a source has told last, so that a roster that takes over from another begins where that one stands."""

    __slots__ = ("urls",)

    def __init__(self) -> None:
        self.urls: frozenset[str] = frozenset()


class Roster:
    """What a source finds joins the pool, beside the backends that stand in the configuration, which stay for ever.

    A backend that is no longer found gets no new call at once. Its calls in flight go on; when they are done its connections are closed.
    If it is found again before that it is the same backend as before, with its breaker and all that is known of it.
    """

    def __init__(
        self,
        pool: Pool,
        source: Source,
        make: Callable[[str], Backend],
        watch: Callable[[Backend], Coroutine[Any, Any, None]],
        *,
        found: Found | None = None,
        linger: float = LINGER_SECONDS,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """The pool's members so far are those of the configuration. `make`: a backend from its base URL; may raise ValueError.

        `watch`: what goes on beside a backend that was found, as its health checks do: it runs as long as the backend is a member, and is
        cancelled then. `found`: of a roster before this one, with the same source: they are members until the source has spoken. `linger`:
        seconds.
        """
        self._pool = pool
        self._source = source
        self._make = make
        self._watch = watch
        self._linger = linger
        self._sleep = sleep
        self._fixed = pool.backends
        self._fixed_urls = frozenset(base_url(backend.url) for backend in self._fixed)
        self._members: dict[str, Backend] = {}
        self._watches: dict[str, asyncio.Task[None]] = {}
        self._leaving: dict[str, tuple[Backend, asyncio.Task[None]]] = {}
        self._running = False
        self._spoken = asyncio.Event()
        self._found = found or Found()
        for url in sorted(self._found.urls - self._fixed_urls):
            self._join(url)
        if self._members:
            self._install()

    @property
    def standing(self) -> Standing:
        """Whether the source works."""
        return self._source.standing

    @property
    def heard(self) -> bool:
        """Whether the source has ever told anything."""
        return self._spoken.is_set()

    async def spoken(self) -> None:
        """Returns when it has."""
        await self._spoken.wait()

    @property
    def leaving(self) -> int:
        """Backends that have left, and whose calls are not done yet."""
        return len(self._leaving)

    async def run(self) -> None:
        """Follows the source, and has its members watched, until it is cancelled. Then everybody who is a member stays one."""
        self._running = True
        try:
            for url, backend in self._members.items():
                self._begin_watch(url, backend)
            async with contextlib.aclosing(self._source.watch()) as sets:
                async for urls in sets:
                    self.update(urls)
        finally:
            self._running = False
            tasks = [*self._watches.values(), *(farewell for _, farewell in self._leaving.values())]
            self._watches.clear()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def aclose(self) -> None:
        """Closes the connections of all that it has made. It must not run any more."""
        backends = [*self._members.values(), *(backend for backend, _ in self._leaving.values())]
        self._leaving.clear()
        for backend in backends:
            await backend.transport.aclose()

    def update(self, urls: frozenset[str]) -> None:
        """Makes these, and those of the configuration, the pool's members. Only while it runs."""
        self._spoken.set()
        self._found.urls = urls
        wanted = urls - self._fixed_urls
        gone = sorted(self._members.keys() - wanted)
        joined = [url for url in sorted(wanted - self._members.keys()) if self._join(url)]
        farewells = [self._leave(url) for url in gone]
        if not gone and not joined:
            return
        self._install()
        changes = ", ".join([*(f"+{url}" for url in joined), *(f"-{url}" for url in gone)])
        model = next(backend.model for backend in [*self._pool.backends, *farewells])
        level = logging.INFO if self._pool.backends else logging.WARNING
        _log.log(level, "%s has %d backends now (%s)", model, len(self._pool.backends), changes)

    def _install(self) -> None:
        self._pool.replace([*self._fixed, *(self._members[url] for url in sorted(self._members))])

    def _join(self, url: str) -> bool:
        """Whether it is a member now."""
        if url in self._leaving:
            backend, farewell = self._leaving.pop(url)
            farewell.cancel()
        else:
            try:
                backend = self._make(url)
            except ValueError as error:
                _log.warning("%s cannot be a backend: %s", url, error)
                return False
        self._members[url] = backend
        if self._running:
            self._begin_watch(url, backend)
        return True

    def _begin_watch(self, url: str, backend: Backend) -> None:
        self._watches[url] = task = asyncio.create_task(self._watch(backend))
        task.add_done_callback(_complain)

    def _leave(self, url: str) -> Backend:
        backend = self._members.pop(url)
        self._watches.pop(url).cancel()
        self._leaving[url] = backend, asyncio.create_task(self._see_off(url, backend))
        return backend

    async def _see_off(self, url: str, backend: Backend) -> None:
        await self._sleep(self._linger)
        while backend.inflight:
            await self._sleep(_LOOK_SECONDS)
        del self._leaving[url]
        await backend.transport.aclose()


def _complain(watch: asyncio.Task[None]) -> None:
    if not watch.cancelled() and (error := watch.exception()) is not None:
        _log.error("the watch over a backend broke", exc_info=error)

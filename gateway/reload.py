"""One configuration after another, without a request that notices: the new one is built whole beside the old one, then swapped in."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence

from starlette.types import Receive, Scope, Send

from gateway.api.callers import GATEWAY, INBOUND
from gateway.api.completions import place_of
from gateway.api.errors import headers_of
from gateway.app import Gateway, build, build_proxies, create_app, take_over
from gateway.blueprint import Blueprint
from gateway.errors import GatewayError
from gateway.lifecycle import Services
from gateway.parts import Parts, Service
from gateway.serving import asgi
from gateway.serving.inbound import Inbound
from gateway.source import ConfigError
from gateway.watching import Watch

ALWAYS_ANSWERED = frozenset({"/healthz", "/readyz", "/metrics"})
"""Paths that are served to the end, on connections that are open."""
Read = Callable[[Parts], Blueprint]
_JSON = (b"content-type", b"application/json")
_log = logging.getLogger("pointsman")


class Snapshot:
    """A gateway, and how many requests run in it. `idle` is set once it is out of force and has none."""

    __slots__ = ("gateway", "idle", "proxies", "requests")

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.proxies = build_proxies(gateway)
        self.requests = 0
        self.idle = asyncio.Event()


class Switch:
    """Answers the requests of a process. Each request stays to its end with the gateway that was in force when it came.

    `read`: the configuration as it stands now, given the parts that it may take over; raises ConfigError; None where
    there is nothing to read. `watch`: the file; None if nobody watches it. `tell`: tells the other workers to read it too. `tidy`:
    called when a gateway is gone. `beside`: further services of the process.
    ASGI's lifespan starts and stops the services of all gateways.
    """

    def __init__(
        self,
        gateway: Gateway,
        read: Read | None = None,
        watch: Watch | None = None,
        tell: Callable[[], None] = lambda: None,
        tidy: Callable[[], object] = lambda: None,
        beside: Sequence[Service] = (),
    ) -> None:
        self._read = read
        self._watch = watch
        self._tell = tell
        self._tidy = tidy
        self._beside = tuple(beside)
        self._life = gateway.life
        self._services = Services()
        self._turn = asyncio.Lock()
        self._wanted = asyncio.Event()
        self._closing: set[asyncio.Task[None]] = set()
        self._app = create_app(lambda: self.gateway, self._reload_all)
        self._current = Snapshot(gateway)
        self._living = [self._current]
        take_over(gateway, (gateway,))

    @property
    def gateway(self) -> Gateway:
        """The one in force."""
        return self._current.gateway

    @property
    def living(self) -> tuple[Gateway, ...]:
        """Those that have requests, or may get some."""
        return tuple(snapshot.gateway for snapshot in self._living)

    def leaving(self) -> bool:
        """Whether connections are to be kept no more."""
        return self._life.leaving

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI's lifespan alone: requests come to `serve`."""
        assert scope["type"] == "lifespan"
        await self._live(receive, send)

    async def serve(self, inbound: Inbound) -> None:
        """Answers a request."""
        snapshot = self._current
        snapshot.requests += 1
        try:
            proxy = snapshot.proxies.get(inbound.target) if inbound.method == b"POST" and not self._life.refusing else None
            if proxy is not None:
                await proxy(inbound)
            else:
                await self._serve_any(snapshot, inbound)
        except GatewayError as error:
            inbound.respond(error.status, [_JSON, *headers_of(error)], error.body())
        except asyncio.CancelledError:
            if not self._life.refusing or inbound.started:
                raise
            self._refuse(inbound)
        finally:
            snapshot.requests -= 1
            if not snapshot.requests and snapshot is not self._current:
                snapshot.idle.set()

    async def _serve_any(self, snapshot: Snapshot, inbound: Inbound) -> None:
        path, raw_path, query = inbound.url()
        if self._life.refusing and path not in ALWAYS_ANSWERED:
            self._refuse(inbound)
            return
        proxy = snapshot.proxies.get(path.encode()) if inbound.method == b"POST" else None
        if proxy is not None:
            await proxy(inbound)
        else:
            await asgi.serve(self._app, inbound, path, raw_path, query, {GATEWAY: snapshot.gateway, INBOUND: inbound})

    def want(self) -> None:
        """Has the configuration read soon. If it cannot be used, the log says so."""
        self._wanted.set()

    async def reload(self) -> str:
        """Reads the configuration and puts it in force. Returns its hash.

        Raises ConfigError, or GatewayError if the file is not to blame. Then all stays as it is; that is logged and counted.
        """
        async with self._turn:
            if self._read is None:
                raise GatewayError("invalid_value", "this gateway was not started from a configuration file")
            if self._life.leaving:
                raise GatewayError("draining", "this process is ending", retry_after=1)
            making = asyncio.create_task(asyncio.to_thread(self._make, self._read))
            await asyncio.wait({making})
            error = making.exception()
            if error is not None:
                raise self._failure(error)
            self._swap(making.result())
            return self.gateway.config.hash

    async def _reload_all(self) -> str:
        """Here first, and if that went well in the other workers. Raises GatewayError."""
        try:
            found = await self.reload()
        except ConfigError as error:
            raise GatewayError("invalid_value", "; ".join(error.lines()), param=error.problems[0].path or None) from None
        self._tell()
        return found

    async def run(self) -> None:
        """Reloads when that is wanted, or the file has changed, until it is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._reload_when_wanted())
            if self._watch is not None:
                tasks.create_task(self._follow(self._watch))

    async def _reload_when_wanted(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            with contextlib.suppress(ConfigError, GatewayError):
                await self.reload()

    async def _follow(self, watch: Watch) -> None:
        while True:
            await watch.change()
            self.want()

    def _make(self, read: Read) -> Snapshot:
        """Runs in a thread: artifacts take their time."""
        if self._watch is not None:
            self._watch.look()
        drawn = read(self.gateway.parts)
        gateway = build(drawn.config, drawn.routes, keys=drawn.keys, parts=drawn.parts, folder=drawn.folder)
        return Snapshot(gateway)

    def _failure(self, error: BaseException) -> Exception:
        self._count("failed")
        if isinstance(error, ConfigError):
            _log.error("the configuration cannot be used; the one before stays in force: %s", "; ".join(error.lines()))
            return error
        place = place_of(error) if isinstance(error, Exception) else ""
        _log.error("the configuration could not be put in force; the one before stays: %s at %s", type(error).__name__, place)
        return GatewayError("internal_error", "the configuration could not be put in force; the log says why")

    def _swap(self, new: Snapshot) -> None:
        """Nothing waits in here, so no request comes between."""
        old, self._current = self._current, new
        self._living.append(new)
        take_over(new.gateway, self.living)
        self._services.start(new.gateway.parts.services())
        self._count("ok")
        _log.info("configuration %s is in force; --host, --port and --workers stay as they were at the start", new.gateway.config.hash)
        if not old.requests:
            old.idle.set()
        closing = asyncio.create_task(self._close(old))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def _close(self, old: Snapshot) -> None:
        """Ends what only the old gateway needed, once its last request is done."""
        await old.idle.wait()
        self._living.remove(old)
        needed = {id(service) for service in self._every_service()}
        await self._services.stop(service for service in old.gateway.parts.services() if id(service) not in needed)
        take_over(self.gateway, self.living)
        self._tidy()

    def _every_service(self) -> list[Service]:
        found = {id(service): service for gateway in self.living for service in gateway.parts.services()}
        return list(found.values())

    def _count(self, result: str) -> None:
        metrics = self.gateway.metrics
        metrics.count(metrics.reloads, result)

    def _refuse(self, inbound: Inbound) -> None:
        error = GatewayError("draining", "this process is ending and takes no more requests", retry_after=1)
        metrics = self.gateway.metrics
        metrics.count(metrics.rejections, error.code)
        inbound.keep_alive = False
        inbound.respond(error.status, [_JSON, *headers_of(error)], error.body())

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        self._services.start([*self._every_service(), *self._beside, self])
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._end()
        await send({"type": "lifespan.shutdown.complete"})

    async def _end(self) -> None:
        await self._services.stop([self])
        for snapshot in self._living:
            snapshot.idle.set()
        if self._closing:
            await asyncio.wait(self._closing)
        await self._services.stop_all()
        gateway = self.gateway
        for threads in (gateway.threads, gateway.learning):
            threads.shutdown(wait=False, cancel_futures=True)
        gateway.journal.flush()

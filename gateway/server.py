"""Runs the gateway's app in uvicorn, from the first request to an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import uvicorn

from gateway.app import build
from gateway.blueprint import Blueprint, read
from gateway.lifecycle import Life
from gateway.listening import listen
from gateway.reload import Switch
from gateway.sections.server import ServerSection
from gateway.serving.connection import Connection, House, protocol
from gateway.serving.patience import hurry
from gateway.watching import Watch
from gateway.workers import Leash

CUT_SECONDS = 1.0
"""So long may it take to tell clients that their answers end here."""
LOOK_SECONDS = 0.05
NEW_OBJECTS = 20_000
"""So many more objects than before, and the collector looks for cycles. A request leaves none; at Python's 700 it took 7 % of one."""
ENDING = (signal.SIGTERM, signal.SIGINT)
_log = logging.getLogger("pointsman")


class Server(uvicorn.Server):
    """uvicorn, but it ends in phases of our own: leave, refuse, drain, cut off, hang up.

    `section`: the settings in force. `reload`: called at SIGHUP; None: signals are left alone, and `stop` is the only way to end.
    """

    def __init__(
        self, config: uvicorn.Config, life: Life, section: Callable[[], ServerSection], reload: Callable[[], None] | None = None
    ) -> None:
        super().__init__(config)
        self._life = life
        self._section = section
        self._reload = reload
        self._asked = asyncio.Event()
        self._doors: list[socket.socket] = []

    @property
    def port(self) -> int:
        """The port that it listens on."""
        port: int = self.servers[0].sockets[0].getsockname()[1]
        return port

    def stop(self) -> None:
        """Has it end as SIGTERM does. Returns at once."""
        self._asked.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT end it in order. After the first of them both are the system's again: the second ends the process at once."""
        loop = asyncio.get_running_loop()
        reload = self._reload
        if reload is None:
            yield
            return

        def end(number: signal.Signals) -> None:
            for one in ENDING:
                loop.remove_signal_handler(one)
                signal.signal(one, signal.SIG_DFL)
            _log.info("%s: ending; a second one ends at once", number.name)
            self.stop()

        for number in ENDING:
            loop.add_signal_handler(number, end, number)
        loop.add_signal_handler(signal.SIGHUP, reload)
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._doors = [socket.socket(fileno=os.dup(found.fileno())) for server in self.servers for found in server.sockets]
        for listener in sockets or ():
            listener.close()

    async def main_loop(self) -> None:
        """Serves until it is asked to end. The clock behind the `date` header goes on until nobody is left."""
        clock = asyncio.create_task(super().main_loop())
        hurrying = asyncio.create_task(hurry(self._connections))
        await self._asked.wait()
        section = self._section()
        await self._leave(section.pre_stop_seconds)
        await self._refuse()
        await self._drain(section.drain_seconds)
        await self._cut_off()
        await self._hang_up()
        self.should_exit = True
        hurrying.cancel()
        await clock

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """No client is left: the gateway closes what it holds."""
        await self.lifespan.shutdown()

    async def _leave(self, seconds: float) -> None:
        """`/readyz` says 503. Requests are still taken, since balancers take a while to notice, but no connection is kept for more."""
        self._life.leaving = True
        for connection in self._connections():
            connection.be_last()
        await asyncio.sleep(seconds)

    async def _refuse(self) -> None:
        """No new connections; on old ones nothing but an error. Connections close as soon as their answer is out."""
        self._life.refusing = True
        for server in self.servers:
            server.close()
        await asyncio.sleep(LOOK_SECONDS)  # the loop lets go of its sockets; through ours the doors are still open
        for door in self._doors:
            await self._let_in_the_last(door)
        for connection in self._connections():
            connection.be_last()

    async def _let_in_the_last(self, door: socket.socket) -> None:
        """Closes a door. Whoever had knocked by then is told why, where the system would only hang up."""
        loop = asyncio.get_running_loop()
        door.setblocking(False)
        with door, contextlib.suppress(BlockingIOError):
            while True:
                accepted, _ = door.accept()
                accepted.setblocking(False)
                await loop.connect_accepted_socket(self._protocol, accepted)

    def _protocol(self) -> asyncio.Protocol:
        return self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )

    async def _drain(self, seconds: float) -> None:
        """Running requests go on to their end, and what slow clients have not read yet goes out."""
        await self._quiet(seconds)

    async def _cut_off(self) -> None:
        """What runs still is told that it ends here."""
        left = set(self.server_state.tasks)
        if left:
            _log.warning("%d requests were not done within `drain_seconds`; they are broken off", len(left))
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=CUT_SECONDS)

    async def _hang_up(self) -> None:
        """Closes every connection: idle ones, and those of clients that do not take what is left for them."""
        for connection in self._connections():
            connection.shutdown()
        await self._quiet(CUT_SECONDS)
        for connection in self._connections():
            connection.transport.abort()
        for task in tuple(self.server_state.tasks):
            task.cancel()

    async def _quiet(self, seconds: float) -> None:
        """Waits until no answer is made or on its way, but not longer than this."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._busy():  # noqa: ASYNC110  # uvicorn tells nobody when a connection is gone
                    await asyncio.sleep(LOOK_SECONDS)

    def _busy(self) -> bool:
        """Whether an answer is being made, or on its way."""
        return bool(self.server_state.tasks) or any(connection.transport.is_closing() for connection in self._connections())

    def _connections(self) -> list[Connection]:
        return cast("list[Connection]", list(self.server_state.connections))


def run(path: Path, blueprint: Blueprint, watch: Watch, host: str, port: int, leash: Leash | None = None) -> int:
    """Serves until SIGTERM or SIGINT. Returns the exit code.

    `blueprint`: read from `path`; `watch`: begun before that. `leash`: of the supervisor, whose other workers listen on the same port.
    """
    log_to_stderr()
    # All modules are here now and stay for good: the collector need not look at them again and again. Gateways come and go.
    gc.collect()
    gc.freeze()
    gc.set_threshold(NEW_OBJECTS)
    try:
        listener = listen(host, port, share_port=leash is not None)
    except OSError as error:
        print(f"cannot listen on {host}:{port}: {error.strerror}", file=sys.stderr)
        return 1
    gateway = build(blueprint.config, blueprint.routes, sys.stdout, sys.stdout.isatty(), blueprint.keys, blueprint.parts, blueprint.folder)
    switch = Switch(
        gateway,
        lambda parts: read(path, os.environ, parts),
        watch,
        tell=leash.tell if leash is not None else lambda: None,
        tidy=gc.collect,
        beside=(leash,) if leash is not None else (),
    )

    def section() -> ServerSection:
        return switch.gateway.config.server

    server = Server(settings(switch, host, port, section), gateway.life, section, switch.want)
    if leash is not None:
        leash.lost = server.stop
    else:
        print(f"pointsman listens on http://{host}:{listener.getsockname()[1]}", file=sys.stderr, flush=True)
    server.run(sockets=[listener])
    return 0 if server.started else 1


def log_to_stderr() -> None:
    """What the gateway says of itself, as lines for people; lines of requests go to stdout."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    _log.addHandler(handler)
    _log.setLevel(logging.INFO)
    _log.propagate = False


def settings(app: Switch, host: str, port: int, section: Callable[[], ServerSection]) -> uvicorn.Config:
    """uvicorn as the gateway needs it: uvloop and httptools, no access log, no server header. `section`: the settings in force."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="uvloop",
        http=protocol(House(app.serve, section, app.leaving)),  # type: ignore[arg-type]
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,
        backlog=4096,
        proxy_headers=False,
    )

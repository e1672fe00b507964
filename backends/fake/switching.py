"""Sleep mode and adapters of the fake server, as vLLM's endpoints for them behave: docs/features/sleep_mode.md and lora.md there."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from backends.fake.server import Connection, FakeServer, Request
from backends.fake.shapes import Refused

FOR_EVER = 3600.0
TAGS = frozenset({"weights", "kv_cache"})
LOST_WEIGHTS = "!" * 8
"""What a model says whose weights were thrown away and never read again."""


@asynccontextmanager
async def generating(server: FakeServer, adapter: str | None) -> AsyncIterator[None]:
    """A place in the engine, when it is there and awake. `adapter`: the one that is used, for the metrics."""
    waiting, running = server.adapter_calls
    with _Counted(waiting, adapter) as count:
        await _until_awake(server)
        async with server.engine.place():
            while not server.sleeper.awake.is_set():
                await _until_awake(server)
            count.move(running)
            with server.sleeper.works():
                yield


class _Counted:
    """One call among those of its adapter."""

    def __init__(self, where: Counter[str], adapter: str | None) -> None:
        self._where = where
        self._adapter = adapter

    def __enter__(self) -> _Counted:
        self._add(1)
        return self

    def move(self, where: Counter[str]) -> None:
        self._add(-1)
        self._where = where
        self._add(1)

    def __exit__(self, *_: object) -> None:
        self._add(-1)

    def _add(self, number: int) -> None:
        if self._adapter is not None:
            self._where[self._adapter] += number


async def _until_awake(server: FakeServer) -> None:
    if server.sleeper.awake.is_set():
        return
    if server.residency.while_asleep == "refuse":
        raise Refused("the engine is asleep", status=503, kind="ServiceUnavailableError")
    if server.residency.while_asleep == "crash":
        await _die(server)
    await server.sleeper.awake.wait()


async def _die(server: FakeServer) -> None:
    await server.stop()
    await asyncio.sleep(FOR_EVER)


async def sleep(server: FakeServer, connection: Connection, request: Request) -> None:
    """`mode`: what becomes of requests that run. abort: they end early; wait: they end first. Nothing new starts meanwhile."""
    level, mode = int(request.query.get("level", ["1"])[0]), request.query.get("mode", ["abort"])[0]
    sleeper = server.sleeper
    _may_fail(server, "sleep_fails")
    if not sleeper.quiet.is_set() and server.residency.while_asleep == "crash":
        await _die(server)
    sleeper.awake.clear()
    if mode == "wait":
        await sleeper.quiet.wait()
    elif mode == "abort":
        sleeper.naps += 1
    if level:
        await asyncio.sleep(server.residency.sleep)
        sleeper.level, sleeper.sleeping = level, set(TAGS)
        sleeper.lost_weights = sleeper.lost_weights or level == 2
        server.engine.forget()
    connection.respond(200, b"")


async def wake(server: FakeServer, connection: Connection, request: Request) -> None:
    """With `tags` only a part wakes; the server is awake when all its parts are."""
    sleeper, tags = server.sleeper, set(request.query.get("tags", TAGS))
    _may_fail(server, "wake_fails")
    seconds = server.residency.wake if "weights" in tags & sleeper.sleeping else 0.0
    sleeper.sleeping -= tags  # memory is taken at once, and filled by and by
    await asyncio.sleep(seconds)
    if not sleeper.sleeping:
        sleeper.level = 0
        sleeper.awake.set()
    connection.respond(200, b"")


async def is_sleeping(server: FakeServer, connection: Connection, request: Request) -> None:
    connection.respond_json({"is_sleeping": not server.sleeper.awake.is_set()})


async def collective_rpc(server: FakeServer, connection: Connection, request: Request) -> None:
    """Knows one method, `reload_weights`, which needs memory for the weights."""
    if request.json().get("method") != "reload_weights":
        raise Refused("Missing 'method' in request body")
    if "weights" in server.sleeper.sleeping:
        raise Refused("CUDA error: an illegal memory access was encountered", status=500, kind="InternalServerError")
    _may_fail(server, "reload_fails")
    await asyncio.sleep(server.residency.reload)
    server.sleeper.lost_weights = False
    connection.respond_json({"results": [None]})


async def reset_prefix_cache(server: FakeServer, connection: Connection, request: Request) -> None:
    server.engine.forget()
    connection.respond_json({"success": True})


async def load_adapter(server: FakeServer, connection: Connection, request: Request) -> None:
    """A path that ends with `missing` leads nowhere."""
    fields = request.json()
    name, path = fields.get("lora_name"), fields.get("lora_path")
    _may_fail(server, "load_fails")
    if not name or not path:
        raise Refused("Both 'lora_name' and 'lora_path' must be provided.", kind="InvalidUserInput")
    if name in server.adapters and not fields.get("load_inplace"):
        hint = "If you want to load the adapter in place, set 'load_inplace' to True."
        raise Refused(f"The lora adapter '{name}' has already been loaded. {hint}", kind="InvalidUserInput")
    if str(path).endswith("missing"):
        raise Refused(f"Loading lora {name} failed: No adapter found for {path}", status=404, kind="NotFoundError")
    await asyncio.sleep(server.residency.adapter)
    server.adapters[str(name)] = server.name
    server.adapter_paths[str(name)] = str(path)
    connection.respond(200, f"Success: LoRA adapter '{name}' added successfully.".encode(), "text/plain")


async def unload_adapter(server: FakeServer, connection: Connection, request: Request) -> None:
    name = request.json().get("lora_name")
    if not name:
        raise Refused("'lora_name' needs to be provided to unload a LoRA adapter.", kind="InvalidUserInput")
    if server.adapters.pop(str(name), None) is None:
        raise Refused(f"The lora adapter '{name}' cannot be found.", status=404, kind="NotFoundError")
    server.adapter_paths.pop(str(name), None)
    connection.respond(200, f"Success: LoRA adapter '{name}' removed successfully.".encode(), "text/plain")


def _may_fail(server: FakeServer, fault: str) -> None:
    if server.schedule.for_state(fault) is not None:
        raise Refused("CUDA Error: out of memory", status=500, kind="InternalServerError")

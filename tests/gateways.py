"""A real gateway on a real socket, in the test's own loop, with fake experts behind it."""

from __future__ import annotations

import asyncio
import io
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from backends.fake.endpoints import create
from backends.fake.engine import Latency
from backends.fake.faults import parse as parse_fault
from backends.fake.server import FakeServer
from backends.fake.shapes import Character
from gateway.app import Gateway, build
from gateway.blueprint import Blueprint, draw
from gateway.parts import Parts
from gateway.reload import Switch
from gateway.sections.server import ServerSection
from gateway.server import Server, settings
from gateway.source import Source
from routers.registry import Registry

PRICES = {"small": (0.05, 0.10), "large": (1.0, 3.0)}
ALL = ["chat", "completions", "embeddings", "tools", "json_schema"]


def chat(model: str = "auto", content: str = "What is 17 + 25?", **more: Any) -> dict[str, Any]:
    """The body of a chat completion."""
    return {"model": model, "messages": [{"role": "user", "content": content}], **more}


def model(name: str, *urls: str, **more: Any) -> dict[str, Any]:
    """A model's section of the configuration."""
    price = PRICES.get(name, (0.1, 0.2))
    section = {"name": name, "backends": list(urls), "price": {"input": price[0], "output": price[1]}, "context_window": 32768}
    return {**section, "capabilities": ALL, **more}


def route(*models: str, name: str = "auto", **policy: Any) -> dict[str, Any]:
    """A route's section; by cost if no policy is given."""
    return {"name": name, "models": list(models), "policy": policy or {"scorers": [{"type": "cost"}]}}


@dataclass
class Running:
    """A gateway that serves at `url`, a client for it, and what it logged."""

    url: str
    gateway: Gateway
    client: httpx.AsyncClient
    log: io.StringIO
    fakes: dict[str, FakeServer] = field(default_factory=dict)
    stage: Stage | None = None

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    async def post(self, path: str = "/v1/chat/completions", **body: Any) -> httpx.Response:
        return await self.client.post(path, json=body)

    async def raw(self, data: bytes, seconds: float = 5.0) -> bytes:
        """Sends bytes, and returns what comes back until the gateway closes or falls silent."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(data)
        found = b""
        try:
            async with asyncio.timeout(seconds):
                while part := await reader.read(65536):
                    found += part
                    if found.count(b"\r\n\r\n") and _complete(found):
                        break
        except (TimeoutError, ConnectionError):
            pass
        finally:
            writer.close()
        return found

    async def reload(self, config: Mapping[str, Any]) -> None:
        """Another configuration comes into force. Raises ConfigError if it cannot be used."""
        assert self.stage is not None
        self.stage.written = dict(config)
        await self.stage.switch.reload()
        self.gateway = self.stage.switch.gateway

    def lines(self) -> list[dict[str, Any]]:
        """The log lines so far."""
        self.gateway.journal.flush()
        return [json.loads(line) for line in self.log.getvalue().splitlines()]


def _complete(answer: bytes) -> bool:
    head, _, body = answer.partition(b"\r\n\r\n")
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            return len(body) >= int(line.split(b":")[1])
    return body.endswith(b"0\r\n\r\n")


class Stage:
    """What a gateway of a test runs on. `written`: the configuration that it reads next. `breaks`: what happens instead, if not None."""

    def __init__(self, config: Mapping[str, Any], registry: Registry | None, log: io.StringIO) -> None:
        self.written = dict(config)
        self.breaks: Exception | None = None
        self._registry = registry or Registry()
        drawn = self.read(Parts())
        gateway = build(drawn.config, drawn.routes, log, keys=drawn.keys, parts=drawn.parts, folder=drawn.folder)
        self.switch = Switch(gateway, self.read)
        self.server = Server(settings(self.switch, "127.0.0.1", 0, self._section), gateway.life, self._section)

    def read(self, before: Parts) -> Blueprint:
        """A keys file, if one is named, is found by its full path."""
        if self.breaks is not None:
            raise self.breaks
        return draw(Source("test.yaml", self.written), Path(), os.environ, self._registry, before)

    def _section(self) -> ServerSection:
        """A test that says nothing of it does not wait long for what it left running."""
        section = self.switch.gateway.config.server
        return section if "drain_seconds" in section.model_fields_set else section.model_copy(update={"drain_seconds": 1.0})


@asynccontextmanager
async def serving(config: Mapping[str, Any], registry: Registry | None = None) -> AsyncIterator[Running]:
    """A gateway for a configuration."""
    log = io.StringIO()
    stage = Stage(config, registry, log)
    task = asyncio.create_task(stage.server.serve())
    while not stage.server.started:
        assert not task.done()
        await asyncio.sleep(0.005)
    url = f"http://127.0.0.1:{stage.server.port}"
    async with httpx.AsyncClient(base_url=url, timeout=20) as client:
        try:
            yield Running(url, stage.switch.gateway, client, log, stage=stage)
        finally:
            stage.server.stop()
            await task


@asynccontextmanager
async def fake(name: str, *faults: str, skill: float = 1.0, latency: Latency | None = None, words: int = 24) -> AsyncIterator[FakeServer]:
    """A fake expert on a socket of its own."""
    server = create([Character(name, skill, words)], latency=latency, faults=[parse_fault(text) for text in faults])
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def pair(
    small: Sequence[str] = (), large: Sequence[str] = (), latency: Latency | None = None, words: int = 24, **config: Any
) -> AsyncIterator[Running]:
    """A route `auto` over two fakes; `small` is cheaper and comes first. The arguments are faults of theirs, and further sections."""
    async with AsyncExitStack() as stack:
        cheap = await stack.enter_async_context(fake("small", *small, latency=latency, words=words))
        dear = await stack.enter_async_context(fake("large", *large, latency=latency, words=words))
        whole = {"models": [model("small", cheap.url), model("large", dear.url)], "routes": [route("small", "large")], **config}
        running = await stack.enter_async_context(serving(whole))
        running.fakes = {"small": cheap, "large": dear}
        yield running


async def until(condition: Callable[[], bool] | Callable[[], Awaitable[bool]], seconds: float = 2.0) -> bool:
    """Waits for a condition, at most so long. Returns whether it came true."""
    end = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < end:
        found = condition()
        if await found if isinstance(found, Awaitable) else found:
            return True
        await asyncio.sleep(0.01)
    return False


def events(text: str) -> list[Any]:
    """The data of a stream's events, decoded; `[DONE]` as it is."""
    data = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
    return [one if one == "[DONE]" else json.loads(one) for one in data]

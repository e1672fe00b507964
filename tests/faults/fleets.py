"""Gateways before pools of fakes, some of which have faults."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx

from backends.fake.engine import Latency
from backends.fake.faults import parse
from backends.fake.server import FakeServer, Record
from backends.pool import Backend
from tests.gateways import Running, chat, fake, model, route, serving

Faults = Sequence[str]


@asynccontextmanager
async def fleet(
    small: Sequence[Faults], large: Sequence[Faults] = (), latency: Latency | None = None, words: int = 24, **config: Any
) -> AsyncIterator[Running]:
    """One fake for each item, with these faults. A route `auto` over `small`, which comes first, and `large`, if there is one.

    `fakes`: by `small-0`, `small-1`, …
    """
    async with AsyncExitStack() as stack:
        fakes: dict[str, FakeServer] = {}
        for name, all_faults in (("small", small), ("large", large)):
            for place, faults in enumerate(all_faults):
                fakes[f"{name}-{place}"] = await stack.enter_async_context(fake(name, *faults, latency=latency, words=words))
        names = ["small", "large"] if large else ["small"]
        models = [model(name, *(one.url for key, one in fakes.items() if key.startswith(name))) for name in names]
        running = await stack.enter_async_context(serving({"models": models, "routes": [route(*names)], **config}))
        running.fakes = fakes
        yield running


def break_down(fake: FakeServer, *faults: str) -> None:
    """From now on these faults strike, and no others."""
    fake.schedule.faults = [parse(text) for text in faults]


def calls(fake: FakeServer) -> list[Record]:
    """What a fake was asked to answer, without health checks."""
    return [record for record in fake.records if record.method == "POST"]


def backend(running: Running, place: int = 0, name: str = "small") -> Backend:
    """A backend of the gateway, in the order of the configuration."""
    return running.gateway.fleet[name].pool.backends[place]


def is_idle(running: Running) -> bool:
    """Whether nothing is held of any backend."""
    return not any(one.inflight or one.inflight_tokens for served in running.gateway.fleet for one in served.pool.backends)


async def ask(running: Running, count: int, at_once: int = 1, model: str = "auto", **more: Any) -> list[httpx.Response]:
    """So many different questions, a few at a time."""
    places = asyncio.Semaphore(at_once)

    async def one(number: int) -> httpx.Response:
        async with places:
            return await running.post(**chat(model, f"What is {number} + 1?", **more))

    return await asyncio.gather(*(one(number) for number in range(count)))


def statuses(answers: Sequence[httpx.Response]) -> Counter[int]:
    """How many of each status."""
    return Counter(answer.status_code for answer in answers)


async def condition(running: Running, place: int = 0, name: str = "small") -> dict[str, Any]:
    """What `GET /admin/backends` says of a backend."""
    answer = await running.client.get("/admin/backends")
    wanted = backend(running, place, name).name
    found: dict[str, Any] = next(one for one in answer.json()["backends"] if one["backend"] == wanted)
    return found

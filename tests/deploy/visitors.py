"""Who calls the gateways of a stage: questions easy and hard, whole and streamed, to routes and to models, and some that go wrong."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any

import httpx

from tests.gateways import chat

EASY = ("What is the capital of France?", "Say hello to my colleague.", "Think of a name for a small railway station.")
HARD = ("Write a python function that sorts a list of {n} dictionaries.", "What is {n} * 456?", "Prove that {n} + 1 > {n}.")
ODDITIES = ("unknown model", "no json", "no key", "poor", "hasty", "no money", "fault")


class Visitors:
    """`statuses`: what came back, and how often."""

    def __init__(self, gateways: Sequence[str], rng: Random) -> None:
        self._gateways = gateways
        self._rng = rng
        self.statuses: Counter[int] = Counter()

    async def come(self, seconds: float, rate: float) -> None:
        """So many requests a second, in tides of 5 minutes, for so long; then waits until all are answered."""
        tasks: set[asyncio.Task[None]] = set()
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=400)) as client:
            while (passed := loop.time() - began) < seconds:
                task = asyncio.create_task(self._one(client))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                tide = 1 + 0.5 * math.sin(passed / 300 * 2 * math.pi)
                await asyncio.sleep(self._rng.expovariate(rate * tide))
            await asyncio.gather(*tasks)

    async def crowd(self, people: int) -> None:
        """So many at once, all at the dearest model."""
        async with httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=people)) as client:
            await asyncio.gather(*(self._send(client, chat("large", f"Crowd {n}.", max_tokens=64)) for n in range(people)))

    async def odd(self, kind: str) -> None:
        """One of the ODDITIES."""
        async with httpx.AsyncClient(timeout=60) as client:
            await self._odd(client, kind)

    async def _one(self, client: httpx.AsyncClient) -> None:
        rng = self._rng
        if rng.random() < 0.04:
            await self._odd(client, "fault" if rng.random() < 0.05 else rng.choice(ODDITIES[:-1]))
            return
        easy = rng.random() < 0.6
        text = rng.choice(EASY) if easy else rng.choice(HARD).format(n=rng.randrange(10_000))
        kind = rng.random()
        if kind < 0.6:
            await self._send(client, chat("auto", text, stream=rng.random() < 0.6, max_tokens=40), rng.choice(("pm_rich", "pm_bounded")))
        elif kind < 0.7:
            await self._send(client, {"model": "auto", "prompt": text, "max_tokens": 24}, path="/v1/completions")
        elif kind < 0.76:
            await self._send(client, {"model": "auto", "input": text}, path="/v1/embeddings")
        elif kind < 0.86:
            await self._send(client, chat(rng.choice(("small", "medium", "large")), text, stream=rng.random() < 0.5, max_tokens=40))
        elif kind < 0.92:
            await self._talk(client, text)
        else:
            await self._send(client, chat(rng.choice(("careful", "vote")), text, max_tokens=24))

    async def _talk(self, client: httpx.AsyncClient, text: str) -> None:
        """A conversation of three turns; the later ones stay with the model of the first."""
        messages = [{"role": "user", "content": f"{text} {self._rng.random()}"}]
        for turn in range(3):
            await self._send(client, {"model": "auto", "messages": messages, "max_tokens": 16})
            messages += [{"role": "assistant", "content": "Yes."}, {"role": "user", "content": f"And then? {turn}"}]

    async def _odd(self, client: httpx.AsyncClient, kind: str) -> None:
        if kind == "unknown model":
            await self._send(client, chat("nope"))
        elif kind == "no json":
            await self._send(client, None)
        elif kind == "no key":
            await self._send(client, chat(), "pm_wrong")
        elif kind in ("poor", "hasty"):
            await self._send(client, chat(), f"pm_{kind}")
        elif kind == "fault":
            await self._send(client, chat("auto", f"Fault {self._rng.random()}", fake_fault="status:500"))
        else:
            await self._send(client, chat(router={"max_cost_usd": 1e-12}))

    async def _send(self, client: httpx.AsyncClient, body: Any, key: str = "pm_rich", path: str = "/v1/chat/completions") -> None:
        url, headers = self._rng.choice(self._gateways) + path, {"authorization": f"Bearer {key}"}
        try:
            answer = await (client.post(url, headers=headers, json=body) if body else client.post(url, headers=headers, content=b"{"))
            self.statuses[answer.status_code] += 1
        except httpx.TransportError:
            self.statuses[0] += 1

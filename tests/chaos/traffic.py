"""What clients do meanwhile: chats and completions, whole and streamed, by route and by model, over both gateways."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import httpx

from tests.chaos.world import MODELS, World
from tests.gateways import chat


@dataclass(frozen=True)
class Sent:
    """One request. `error`: None if all went well. `committed`: bytes of an answer had come before the error.

    `told`: a broken stream ended with an error event. `attempts`: as the gateway counted; 0 if it did not say.
    """

    models: tuple[str, ...]
    stream: bool
    began: float
    ended: float
    gateway: int
    attempts: int
    error: str | None = None
    committed: bool = False
    told: bool = False
    decision: str = ""


class Traffic:
    """Sends `rate` requests a second, whether or not earlier ones are answered."""

    def __init__(self, world: World, rng: Random, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._world = world
        self._rng = rng
        self._rate = rate
        self._clock = clock
        self.sent: list[Sent] = []
        self.elsewhere = 0

    async def run(self, ends: float) -> None:
        """Until `ends`, and then until every request is answered."""
        tasks: set[asyncio.Task[None]] = set()
        limits = httpx.Limits(max_connections=500, max_keepalive_connections=50)
        async with httpx.AsyncClient(timeout=60, limits=limits, headers=self._world.key) as client:
            began, number = self._clock(), 0
            while (due := began + number / self._rate) < ends:
                await asyncio.sleep(max(0.0, due - self._clock()))
                task = asyncio.create_task(self._one(client, number))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                number += 1
            await asyncio.gather(*tasks)

    async def _one(self, client: httpx.AsyncClient, number: int) -> None:
        named = self._rng.choice(("auto", "auto", "auto", *MODELS))
        stream, gateway = self._rng.random() < 0.5, number % len(self._world.gateways)
        body = chat(named, f"question {number} {'x' * self._rng.randrange(200)}", stream=stream, max_tokens=16)
        models = MODELS if named == "auto" else (named,)
        for place in (gateway, 1 - gateway):
            found = await self._send(client, place, body, models)
            # A gateway that is being replaced says so; whoever stands before it goes to the other one.
            if found.error not in ("refused", "draining") or found.committed:
                break
            self.elsewhere += 1
        self.sent.append(found)

    async def _send(self, client: httpx.AsyncClient, gateway: int, body: dict[str, Any], models: Sequence[str]) -> Sent:
        began = self._clock()
        error: str | None = None
        attempts, decision, committed, told = 0, "", False, False
        try:
            url = f"{self._world.gateways[gateway].url}/v1/chat/completions"
            async with client.stream("POST", url, json=body) as answer:
                attempts = int(answer.headers.get("x-router-attempts", 0))
                decision = answer.headers.get("x-router-decision-id", "")
                committed = bool(body["stream"]) and answer.status_code == 200
                text = (await answer.aread()).decode()
            if answer.status_code != 200:
                error = str(json.loads(text)["error"]["code"])
            elif body["stream"] and not text.rstrip().endswith("data: [DONE]"):
                told = '"error"' in text.rstrip().rpartition("\n\n")[2]
                error = "broken stream"
            elif not body["stream"] and not json.loads(text)["choices"][0]["message"]["content"]:
                error = "empty answer"
        except httpx.ConnectError:
            error = "refused"
        except (httpx.HTTPError, ValueError) as failure:
            error = f"{type(failure).__name__}"
        return Sent(tuple(models), bool(body["stream"]), began, self._clock(), gateway, attempts, error, committed, told, decision)

"""What breaks, when, and for how long: drawn from a seed, and never so much that a request had nobody left."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from random import Random

import httpx

from tests.chaos.world import EACH, MODELS, Process, World

AT_ONCE = 3
"""Experts in trouble at the same time; of one model at most one, so that also whoever names a model has somebody."""
RECOVERY = 4.0
"""Seconds after a trouble's end in which an expert may still be taken for unwell."""

Trouble = Callable[[Process, Random], Awaitable[None]]


async def set_faults(fake: Process, *faults: str) -> None:
    async with httpx.AsyncClient(base_url=fake.url, timeout=5) as client:
        await client.post("/fake/faults", json=list(faults))


async def crash(fake: Process, rng: Random) -> None:
    await fake.kill()
    await asyncio.sleep(rng.uniform(0.5, 4))
    await fake.start("/health")


async def cold_start(fake: Process, rng: Random) -> None:
    await fake.kill()
    await fake.start("/health", "--fault", f"loading:{rng.uniform(2, 4):.1f}")
    await asyncio.sleep(4)
    await set_faults(fake)


async def hang(fake: Process, rng: Random) -> None:
    fake.signal(signal.SIGSTOP)
    try:
        await asyncio.sleep(rng.uniform(2, 6))
    finally:
        fake.signal(signal.SIGCONT)


def faulty(*faults: str) -> Trouble:
    """The expert itself behaves badly for some seconds."""

    async def strike(fake: Process, rng: Random) -> None:
        await set_faults(fake, *faults)
        await asyncio.sleep(rng.uniform(2, 5))
        await set_faults(fake)

    return strike


TROUBLES: dict[str, Trouble] = {
    "crash": crash,
    "cold start": cold_start,
    "hang": hang,
    "hang before headers": faulty("hang_before_headers@p=0.5"),
    "drip": faulty("drip:30@p=0.5"),
    "5xx burst": faulty("status:500@p=0.4", "status:503:1@p=0.4"),
    "429 burst": faulty("status:429:1@p=0.7"),
    "resets": faulty("reset_before_headers@p=0.6"),
    "cut streams": faulty("cut_after:3@p=0.5"),
    "stalled streams": faulty("hang_after:3@p=0.5"),
    "malformed": faulty("html@p=0.3", "malformed_json@p=0.3"),
    "flapping": faulty("flap:1", "status:503@p=0.3"),
}


class Troubles:
    """Strikes until `ends` (on the clock). `history`: (name, whom, began, ended) of each; `began` until now where it goes on."""

    def __init__(self, world: World, rng: Random, clock: Callable[[], float] = time.monotonic) -> None:
        self._world = world
        self._rng = rng
        self._clock = clock
        self._struck: dict[str, int] = {}
        self.counts: dict[str, int] = {}
        self.history: list[tuple[str, tuple[str, int], float, float | None]] = []

    async def run(self, ends: float) -> None:
        """The experts' troubles, Redis' and the gateways' run beside each other."""
        await asyncio.gather(*(self._experts(ends) for _ in range(AT_ONCE)), self._redis(ends), self._gateway(ends))

    def was_well(self, name: str, number: int, began: float, ended: float) -> bool:
        """Whether an expert had no trouble, and was over the last one, in all this time."""
        return not any(
            whom == (name, number) and start < ended and (end is None or end + RECOVERY > began) for _, whom, start, end in self.history
        )

    def struck(self, name: str, number: int, began: float, ended: float) -> bool:
        """Whether an expert was in trouble at some moment of this time."""
        return not self.was_well(name, number, began, ended)

    async def _experts(self, ends: float) -> None:
        names = list(TROUBLES)
        while True:
            await asyncio.sleep(self._rng.uniform(0.2, 1.5))
            if self._clock() > ends:
                return
            # Every kind gets its turn before one strikes for the second time.
            least = min(self.counts.get(name, 0) for name in names)
            name = self._rng.choice([one for one in names if self.counts.get(one, 0) == least])
            free = [model for model in MODELS if model not in self._struck and self._is_over(model)]
            if not free:
                continue
            model = self._rng.choice(free)
            number = self._rng.randrange(EACH)
            self._struck[model] = number
            self.counts[name] = self.counts.get(name, 0) + 1
            began = self._clock()
            place = len(self.history)
            self.history.append((name, (model, number), began, None))
            try:
                await TROUBLES[name](self._world.fakes[model][number], self._rng)
            finally:
                del self._struck[model]
                self.history[place] = (name, (model, number), began, self._clock())

    def _is_over(self, model: str) -> bool:
        now = self._clock()
        return not any(whom[0] == model and (end is None or end + RECOVERY > now) for _, whom, _, end in self.history)

    async def _redis(self, ends: float) -> None:
        redis = self._world.redis
        while self._clock() + 8 < ends:
            await asyncio.sleep(self._rng.uniform(2, 12))
            if self._clock() > ends:
                return
            self.counts["Redis"] = self.counts.get("Redis", 0) + 1
            if self._rng.random() < 0.5:
                redis.stop()
                await asyncio.sleep(self._rng.uniform(0.5, 4))
                await asyncio.to_thread(redis.start)
            else:
                redis.freeze()
                await asyncio.sleep(self._rng.uniform(0.5, 4))
                redis.thaw()

    async def _gateway(self, ends: float) -> None:
        """SIGTERM of one gateway amid the run, and a new one at its port."""
        await asyncio.sleep(max(0.0, (ends - self._clock()) * 0.4))
        gateway = self._world.gateways[1]
        self.counts["gateway restart"] = 1
        gateway.signal(signal.SIGTERM)
        code = await gateway.ended()
        if code != 0:
            self.counts[f"gateway ended with {code}"] = 1
        await gateway.start("/healthz")

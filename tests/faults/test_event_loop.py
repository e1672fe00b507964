"""Large bodies and slow routers do not hold up the others. (Fault 31.)"""

from __future__ import annotations

import asyncio
import statistics

from tests.faults.fleets import fleet, statuses
from tests.gateways import chat


class Lag:
    """Measures how late the event loop is, every few milliseconds."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + 0.005
            await asyncio.sleep(0.005)
            self.seconds.append(loop.time() - due)

    def take(self, share: float) -> float:
        """A quantile of what was seen since the last time."""
        found, self.seconds = sorted(self.seconds), []
        return found[int(share * (len(found) - 1))]


async def test_two_megabytes_of_json_are_read_beside_the_loop() -> None:
    """Row 31: while large bodies are parsed, the loop is late by milliseconds, and small requests are quick."""
    async with fleet([[]]) as running:
        large = chat(content="word " * 400_000)
        small = [await running.client.post("/v1/chat/completions", json=chat(content=f"{n}")) for n in range(20)]
        usual = statistics.median(one.elapsed.total_seconds() for one in small)
        lag = Lag()
        measuring = asyncio.create_task(lag.run())
        await asyncio.sleep(1.0)
        before = lag.take(0.99)

        async def beside() -> list[float]:
            times = []
            for number in range(40):
                answer = await running.post(**chat(content=f"beside {number}"))
                assert answer.status_code == 200
                times.append(answer.elapsed.total_seconds())
            return times

        many, times = await asyncio.gather(asyncio.gather(*(running.post(**large) for _ in range(12))), beside())
        during = lag.take(0.9)
        measuring.cancel()
        assert set(statuses(many)) <= {200, 400}
        # The client and the fakes live in this loop as well: they encode and read the same megabytes.
        assert during <= before + 0.25
        assert statistics.median(times) <= usual + 0.5


async def test_the_gauge_tells_the_operator() -> None:
    """Row 31: `pointsman_event_loop_lag_seconds` is there, and small where nothing blocks."""
    async with fleet([[]]) as running:
        await asyncio.sleep(0.6)
        text = (await running.client.get("/metrics")).text
        line = next(line for line in text.splitlines() if line.startswith("pointsman_event_loop_lag_seconds"))
        assert 0 <= float(line.split()[-1]) < 1.0

"""Chaos: traffic over two gateways while everything behind them breaks and mends.

python -m tests.chaos [--seconds 180] [--seed 1] [--rate 25]
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

from tests.chaos.traffic import Traffic
from tests.chaos.troubles import Troubles
from tests.chaos.verdict import Finding, Usage, broken_streams, leftovers, quiet, requests, table, watch
from tests.chaos.world import World, world

CALM = 7.0
"""Seconds after the last trouble until leftovers are counted: idle connections of fakes and clients are closed by then."""


async def run(folder: Path, seconds: float, seed: int, rate: float) -> tuple[Sequence[Finding], str]:
    """The findings and the table."""
    async with world(folder) as made:
        await _warm(made, rate)
        before = [Usage([], *await quiet(made, number)) for number in range(2)]
        usages = [Usage(), Usage()]
        ends = time.monotonic() + seconds
        traffic, troubles = Traffic(made, Random(f"traffic {seed}"), rate), Troubles(made, Random(f"troubles {seed}"))
        await asyncio.gather(traffic.run(ends), troubles.run(ends - 8), watch(made, usages, ends))
        await asyncio.sleep(CALM)
        findings = requests(traffic.sent, troubles)
        place = next(index for index, one in enumerate(findings) if "without an error event" in one.what)
        findings.insert(place + 1, await broken_streams(made, traffic.sent, troubles))
        findings.append(Finding("sent again to the other gateway", str(traffic.elsewhere), None))
        findings += await leftovers(made, before, usages)
        return findings, table(findings, troubles)


async def _warm(made: World, rate: float) -> None:
    """Connections and caches are there before anything is counted."""
    await Traffic(made, Random(0), rate).run(time.monotonic() + 3)
    await asyncio.sleep(CALM)

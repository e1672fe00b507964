"""What must hold after the chaos, and what was left behind."""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.chaos.traffic import Sent
from tests.chaos.troubles import Troubles
from tests.chaos.world import World

MOST_ATTEMPTS = 1.2
MOST_GROWTH = 6.0
"""MB an hour would be too fine to see in minutes: MB between the first and the last third of a run."""
_LEFT = ("pointsman_backend_inflight", 'pointsman_size{store="waiting_')


@dataclass
class Usage:
    """Of one gateway process: RSS in MB by second, file descriptors and tasks when nothing happens."""

    memory: list[float] = field(default_factory=list)
    descriptors: int = 0
    tasks: int = 0


@dataclass(frozen=True)
class Finding:
    """One line of the table. `holds`: None for what is told and not judged."""

    what: str
    value: str
    holds: bool | None


def memory(pid: int) -> float:
    """RSS in MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


async def watch(world: World, usages: Sequence[Usage], ends: float, clock: Callable[[], float] = time.monotonic) -> None:
    """Notes the gateways' memory each second."""
    while clock() < ends:
        for gateway, usage in zip(world.gateways, usages, strict=True):
            if gateway.runs:
                usage.memory.append(memory(gateway.pid))
        await asyncio.sleep(1)


async def metrics(world: World, gateway: int) -> str:
    async with httpx.AsyncClient(timeout=10) as client:
        return (await client.get(f"{world.gateways[gateway].url}/metrics")).text


def value_of(text: str, name: str) -> float | None:
    """The sum of all series whose line begins with `name`; None if there is none."""
    found = [float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name)]
    return sum(found) if found else None


async def quiet(world: World, gateway: int) -> tuple[int, int]:
    """File descriptors and tasks of a gateway when idle connections are gone."""
    text = await metrics(world, gateway)
    return descriptors(world.gateways[gateway].pid), int(value_of(text, 'pointsman_size{store="tasks"}') or 0)


def requests(sent: Sequence[Sent], troubles: Troubles) -> list[Finding]:
    """Which requests failed, and whether they might."""
    whole = [one for one in sent if not one.stream or not one.committed]
    failed = [one for one in whole if one.error is not None]
    lost = [one for one in failed if _had_somebody(one, troubles)]
    streams = [one for one in sent if one.stream and one.committed]
    broken = [one for one in streams if one.error is not None]
    untold = [one for one in broken if not one.told]
    answered = [one for one in sent if one.attempts]
    attempts = sum(one.attempts for one in answered) / max(1, len(answered))
    times = sorted(one.ended - one.began for one in sent)
    return [
        Finding("requests", f"{len(sent)}, {len(streams)} of them streams", None),
        Finding("seconds, p50 and p99", f"{statistics.median(times):.2f}, {times[int(len(times) * 0.99)]:.2f}", None),
        Finding("failed before the first byte", f"{len(failed)} {dict(Counter(one.error for one in failed)) or ''}", None),
        Finding("of these, a healthy candidate was there", f"{len(lost)}", not lost),
        Finding("streams broken after the first byte", f"{len(broken)}", None),
        Finding("of these, without an error event", f"{len(untold)}", not untold),
        Finding("attempts for each request", f"{attempts:.3f}", attempts <= MOST_ATTEMPTS),
    ]


async def broken_streams(world: World, sent: Sequence[Sent], troubles: Troubles) -> Finding:
    """A stream may break only where its backend was in trouble."""
    broken = [one for one in sent if one.stream and one.committed and one.error is not None]
    blameless = []
    async with httpx.AsyncClient(timeout=10, headers=world.key) as client:
        for one in broken:
            answer = await client.get(f"{world.gateways[one.gateway].url}/v1/decisions/{one.decision}")
            if answer.status_code != 200:
                continue  # the gateway that knew was replaced
            backend = answer.json()["attempts"][-1]["backend"]
            if not troubles.struck(*world.find(backend), one.began, one.ended):
                blameless.append(one)
    return Finding("of these, the backend was well", f"{len(blameless)}", not blameless)


def _had_somebody(one: Sent, troubles: Troubles) -> bool:
    return any(troubles.was_well(name, number, one.began, one.ended) for name in one.models for number in range(2))


async def leftovers(world: World, before: Sequence[Usage], usages: Sequence[Usage]) -> list[Finding]:
    """What is left when everything is over: descriptors, tasks, gauges, memory."""
    found = []
    for number, (was, usage) in enumerate(zip(before, usages, strict=True)):
        files, tasks = await quiet(world, number)
        text = await metrics(world, number)
        left = {name: value for name in _LEFT if (value := value_of(text, name))}
        found += [
            Finding(f"gateway {number}: file descriptors", f"{was.descriptors} -> {files}", files <= was.descriptors + 8),
            Finding(f"gateway {number}: tasks", f"{was.tasks} -> {tasks}", tasks <= was.tasks + 2),
            Finding(f"gateway {number}: calls in flight, waiting", f"{left or 'none'}", not left),
        ]
        third = len(usage.memory) // 3
        if third >= 5:
            growth = statistics.median(usage.memory[-third:]) - statistics.median(usage.memory[third : 2 * third])
            found.append(Finding(f"gateway {number}: MB more in the last third", f"{growth:+.1f}", number == 1 or growth <= MOST_GROWTH))
    return found


def table(findings: Sequence[Finding], troubles: Troubles) -> str:
    """As it is printed."""
    struck = ", ".join(f"{name} {count}" for name, count in sorted(troubles.counts.items()))
    marks = {None: " ", True: "✓", False: "✗"}
    lines = [f"{marks[one.holds]} {one.what:44} {one.value}" for one in findings]
    return "\n".join([f"troubles: {struck}", *lines])

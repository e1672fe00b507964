"""Many experts, few GPUs: switches and latency of the residency policies on a trace, in simulated time.

    python -m tests.benchmarks.residency [--seed N] [--requests N] [--rate R]

Requests for 20 experts come as a Poisson process, Zipf over the experts; there is memory for 4. A switch takes what vLLM's blog measured
(https://blog.vllm.ai/2025/10/26/sleep-mode.html, level 1, an A100), scaled to models of 16 GB. The policies run on the very state machine
that the gateway runs. The baselines are an on-demand LRU, which wakes a missing expert as soon as it is asked for, in the order in which
requests came, and a static pinning of the three most wanted experts. `fifo`, for comparison, is what a single queue does: nobody overtakes.
Exits with 1 if the cost-aware policy needs more than 0.6 x the switches of the on-demand LRU, or has a greater p95.
"""

from __future__ import annotations

import argparse
import heapq
import math
import sys
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from random import Random

from backends.residency.actions import Action, Ready, Sleep
from backends.residency.costs import FirstCosts
from backends.residency.experts import Expert
from backends.residency.group import Group, Rules
from backends.residency.policies.api import Policy
from backends.residency.policies.cost_aware import CostAware
from backends.residency.policies.lru import Lru
from backends.residency.policies.pinned import Pinned

EXPERTS = 20
ROOM = 4
GIGABYTES = 16.0
SLEEP_SECONDS = 0.04 + 0.045 * GIGABYTES
WAKE_SECONDS = 0.2 + 0.044 * GIGABYTES
MAX_SHARE = 0.6


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request: when it comes, for whom, and how long its answer takes (seconds)."""

    at: float
    expert: str
    seconds: float


@dataclass(slots=True)
class Result:
    """What came of a trace. `waits`: seconds from a request's arrival to its start, in the order of the starts."""

    name: str
    switches: int = 0
    waits: list[float] = field(default_factory=list)

    def quantile(self, share: float) -> float:
        ranked = sorted(self.waits)
        return ranked[min(len(ranked) - 1, math.ceil(share * len(ranked)) - 1)]

    @property
    def mean(self) -> float:
        return sum(self.waits) / len(self.waits)


def trace(requests: int, rate: float, exponent: float, rng: Random, drift: bool = False) -> list[Arrival]:
    """Poisson arrivals, Zipf over the experts, lognormal answers of 2 s in the median. `drift`: halfway, other experts are wanted."""
    weights = [1 / (rank + 1) ** exponent for rank in range(EXPERTS)]
    order = list(range(EXPERTS))
    now, found = 0.0, []
    for number in range(requests):
        if drift and number == requests // 2:
            rng.shuffle(order)
        now += rng.expovariate(rate)
        rank = rng.choices(range(EXPERTS), weights)[0]
        found.append(Arrival(now, f"expert-{order[rank]:02}", rng.lognormvariate(math.log(2.0), 0.5)))
    return found


class Clock:
    """Simulated time: a heap of what happens when."""

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._count = count()

    def __call__(self) -> float:
        return self.now

    def at(self, when: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (max(when, self.now), next(self._count), what))

    def run(self) -> None:
        while self._heap:
            self.now, _, what = heapq.heappop(self._heap)
            what()


class Simulation:
    """A trace against a group: what the gateway would do, with a clock that costs nothing."""

    def __init__(self, name: str, arrivals: Sequence[Arrival], group: Group, clock: Clock, places: int = 64) -> None:
        self.result = Result(name)
        self.group = group
        self._clock = clock
        self._places = places
        self._lines: dict[str, deque[Arrival]] = {name: deque() for name in group.residents}
        self._alarm = math.inf
        for name in group.residents:
            group.found(name, "asleep", 1, clock())
        for arrival in arrivals:
            clock.at(arrival.at, lambda arrival=arrival: self._arrive(arrival))  # type: ignore[misc]

    def run(self) -> Result:
        self._turn()
        self._clock.run()
        self.result.switches = self.group.switches
        return self.result

    def _arrive(self, arrival: Arrival) -> None:
        self.group.arrived(arrival.expert)
        self._lines[arrival.expert].append(arrival)
        self._serve(arrival.expert)
        self._turn()

    def _serve(self, name: str) -> None:
        line, resident = self._lines[name], self.group.residents[name]
        while line and self.group.serves(name) and resident.busy < self._places:
            arrival = line.popleft()
            self.result.waits.append(self._clock.now - arrival.at)
            self.group.started(name)
            self.group.left(name)
            self._clock.at(self._clock.now + arrival.seconds, lambda: self._finish(name))

    def _finish(self, name: str) -> None:
        self.group.finished(name)
        self._serve(name)
        self._turn()

    def _turn(self) -> None:
        for action in self.group.actions():
            if isinstance(action, Ready):
                self._serve(action.expert)
            else:
                self._begin(action)
        look_at = self.group.look_at()
        if look_at is not None and look_at < self._alarm:
            self._alarm = look_at
            self._clock.at(look_at, self._ring)

    def _ring(self) -> None:
        if self._clock.now >= self._alarm:
            self._alarm = math.inf
            self._turn()

    def _begin(self, action: Action) -> None:
        seconds = SLEEP_SECONDS if isinstance(action, Sleep) else WAKE_SECONDS

        def end() -> None:
            self.group.done(action, seconds)
            self._turn()

        self._clock.at(self._clock.now + seconds, end)


def with_policy(name: str, arrivals: Sequence[Arrival], policy: Policy, rules: Rules, pinned: Sequence[str] = ()) -> Result:
    """A trace under a policy."""
    clock = Clock()
    costs = FirstCosts(sleep=SLEEP_SECONDS, wake=WAKE_SECONDS)
    experts = [Expert(f"expert-{n:02}", 1.0, f"expert-{n:02}" in pinned, costs) for n in range(EXPERTS)]
    return Simulation(name, arrivals, Group(experts, ROOM, policy, rules, clock=clock, rng=Random(0)), clock).run()


def fifo(arrivals: Sequence[Arrival]) -> Result:
    """One queue and an LRU: the first request waits for its expert, and everybody behind it waits with it."""
    result = Result("lru, one queue")
    awake: OrderedDict[str, list[float]] = OrderedDict()
    free_at = 0.0
    for arrival in arrivals:
        now = max(arrival.at, free_at)
        if arrival.expert not in awake:
            if len(awake) >= ROOM:
                victim = min(awake, key=lambda name: max([0.0, *awake[name]]) > now)
                idle_at = max([now, *awake.pop(victim)])
                now = idle_at + SLEEP_SECONDS
            now += WAKE_SECONDS
            awake[arrival.expert] = []
            result.switches += 1
        awake.move_to_end(arrival.expert)
        awake[arrival.expert].append(now + arrival.seconds)
        result.waits.append(now - arrival.at)
        free_at = now
    return result

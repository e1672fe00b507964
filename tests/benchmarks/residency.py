"""Many experts, few GPUs: switches and waits of the residency policies on a trace, in simulated time.

    python -m tests.benchmarks.residency [--seed N] [--requests N] [--rates R,R,…]

Requests for 20 experts come as a Poisson process, Zipf over the experts; there is memory for 4. A switch takes what vLLM's blog measured
(https://blog.vllm.ai/2025/10/26/sleep-mode.html, level 1, an A100), scaled to models of 16 GB; an answer takes 2 s in the median. The
policies run on the very state machine that the gateway runs.

Two baselines are LRU on demand: a missing expert is woken as soon as it is asked for, and the least recently used one makes room when its
calls are done. With one queue, requests are served in the order in which they came; with a line for each expert, those whose expert is
awake go on at once, and all that wait for one expert go together, which is half of what batching by expert can do. A third one pins the
three most wanted experts. The last row lets the scorer `residency` choose: each request has a second-best expert, worse by 0 to 0.3, and
waiting 10 s is worth 0.5.

Exits with 1 unless, at 2 requests a second, cost_aware needs at most 0.6 x the switches of the LRU that serves in order, and with the
scorer at most 0.65 x those of the LRU with lines; each with no greater p95.
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
from routers.api import Candidate, Model, RouteRequest
from routers.scorers.residency import Residency

ONE_QUEUE, LINES, COST_AWARE, WITH_SCORER = "lru, in order", "lru, lines", "cost_aware", "cost_aware + scorer"
EXPERTS = 20
ROOM = 4
GIGABYTES = 16.0
SLEEP_SECONDS = 0.04 + 0.045 * GIGABYTES
WAKE_SECONDS = 0.2 + 0.044 * GIGABYTES
MAX_SHARE = 0.6
MAX_SHARE_OF_LINES = 0.65
MAX_LOSS = 0.3
WEIGHT = 0.5
REFERENCE_RATE = 2.0


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request: when it comes, for whom, and how long its answer takes (seconds). `second`: who could answer as well, but for `loss`."""

    at: float
    expert: str
    seconds: float
    second: str
    loss: float


@dataclass(slots=True)
class Result:
    """What came of a trace. `waits`: seconds from a request's arrival to its start, in the order of the starts.

    `diverted`: requests that the second-best expert answered. `lost`: quality, of all of them.
    """

    name: str
    switches: int = 0
    waits: list[float] = field(default_factory=list)
    diverted: int = 0
    lost: float = 0.0

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
        first, second = (f"expert-{order[rank]:02}" for rank in rng.choices(range(EXPERTS), weights, k=2))
        found.append(Arrival(now, first, rng.lognormvariate(math.log(2.0), 0.5), second, rng.uniform(0, MAX_LOSS)))
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

    def __init__(self, name: str, arrivals: Sequence[Arrival], group: Group, clock: Clock, scorer: Residency | None = None) -> None:
        self.result = Result(name)
        self._scorer = scorer
        self.group = group
        self._clock = clock
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
        name = self._chosen(arrival)
        changed = self.group.arrived(name)
        self._lines[name].append(arrival)
        self._serve(name)
        if changed:
            self._turn()

    def _chosen(self, arrival: Arrival) -> str:
        if self._scorer is None or arrival.second == arrival.expert:
            return arrival.expert
        pair = [Candidate(Model(name), wake_seconds=self.group.wake_seconds(name)) for name in (arrival.expert, arrival.second)]
        said = self._scorer.score(RouteRequest(), pair)
        if WEIGHT * (said[arrival.second] - said[arrival.expert]) <= arrival.loss:
            return arrival.expert
        self.result.diverted += 1
        self.result.lost += arrival.loss
        return arrival.second

    def _serve(self, name: str) -> None:
        line = self._lines[name]
        changed = False
        while line and self.group.serves(name):
            arrival = line.popleft()
            self.result.waits.append(self._clock.now - arrival.at)
            self.group.started(name)
            changed = self.group.left(name) or changed
            self._clock.at(self._clock.now + arrival.seconds, lambda: self._finish(name))
        if changed:
            self._turn()

    def _finish(self, name: str) -> None:
        if self.group.finished(name):
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


def with_policy(
    name: str, arrivals: Sequence[Arrival], policy: Policy, rules: Rules, pinned: Sequence[str] = (), scorer: Residency | None = None
) -> Result:
    """A trace under a policy."""
    clock = Clock()
    costs = FirstCosts(sleep=SLEEP_SECONDS, wake=WAKE_SECONDS)
    experts = [Expert(f"expert-{n:02}", 1.0, f"expert-{n:02}" in pinned, costs) for n in range(EXPERTS)]
    return Simulation(name, arrivals, Group(experts, ROOM, policy, rules, clock=clock, rng=Random(0)), clock, scorer).run()


def fifo(arrivals: Sequence[Arrival]) -> Result:
    """One queue and an LRU: the first request waits for its expert, and everybody behind it waits with it."""
    result = Result(ONE_QUEUE)
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


def compare(arrivals: Sequence[Arrival]) -> list[Result]:
    """All policies on one trace."""
    on_demand = Rules(min_stay=0.0, max_wait=math.inf)
    ours = Rules(min_stay=3.0, max_wait=30.0)
    return [
        fifo(arrivals),
        with_policy(LINES, arrivals, Lru(), on_demand),
        with_policy("pinned", arrivals, Pinned(), on_demand, [f"expert-{n:02}" for n in range(ROOM - 1)]),
        with_policy(COST_AWARE, arrivals, CostAware(), ours),
        with_policy(WITH_SCORER, arrivals, CostAware(), ours, scorer=Residency(10.0)),
    ]


def table(rate: float, results: Sequence[Result]) -> str:
    """What the policies did at one rate, against both LRUs."""
    in_order, lines = results[0], results[1]
    rows = [
        f"{rate:g} requests a second",
        f"  {'policy':20} {'switches':>8} {'x in order':>10} {'x lines':>8} {'mean':>8} {'p50':>8} {'p95':>8}",
    ]
    for r in results:
        shares = f"{r.switches / in_order.switches:10.2f} {r.switches / lines.switches:8.2f}"
        row = f"  {r.name:20} {r.switches:8} {shares} {r.mean:8.2f} {r.quantile(0.5):8.2f} {r.quantile(0.95):8.2f}"
        rows.append(row + (f"  {r.diverted / len(r.waits):.0%} by the second-best, {r.lost / len(r.waits):.3f} lost" if r.diverted else ""))
    return "\n".join(rows)


def failures(results: Sequence[Result]) -> list[str]:
    """What does not hold of what is promised."""
    by_name = {result.name: result for result in results}
    found = []
    pairs = ((COST_AWARE, ONE_QUEUE, MAX_SHARE), (WITH_SCORER, LINES, MAX_SHARE_OF_LINES))
    for ours, theirs, most in ((by_name[us], by_name[them], share) for us, them, share in pairs):
        if ours.switches > most * theirs.switches:
            found.append(f"{ours.name}: {ours.switches / theirs.switches:.2f} x the switches of {theirs.name!r}")
        if ours.quantile(0.95) > theirs.quantile(0.95):
            found.append(f"{ours.name}: p95 {ours.quantile(0.95):.2f} s, {theirs.name!r} {theirs.quantile(0.95):.2f} s")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="residency policies on a trace")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--rates", default="0.5,1,2,4", help="requests a second")
    options = parser.parse_args(arguments)
    print(
        f"{EXPERTS} experts, memory for {ROOM}; sleep {SLEEP_SECONDS:.2f} s, wake {WAKE_SECONDS:.2f} s; waits in seconds, before the answer"
    )
    wrong: list[str] = []
    for rate in sorted({REFERENCE_RATE, *map(float, options.rates.split(","))}):
        results = compare(trace(options.requests, rate, 1.0, Random(options.seed)))
        print(f"\n{table(rate, results)}", flush=True)
        if rate == REFERENCE_RATE:
            wrong = failures(results)
    for problem in wrong:
        print(f"failed: {problem}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

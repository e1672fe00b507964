"""Long prompts in a lane of their own, in simulated time: what short ones wait behind them."""

from __future__ import annotations

import heapq
import itertools
import statistics
from random import Random

from backends.chooser import Chooser
from backends.scorers.api import Scorer
from backends.scorers.in_flight import InFlight
from backends.scorers.tokens import TokenWork
from backends.work import Work
from tests.unit.backends.standins import StandIn, several

TOKENS_PER_SECOND = 10_000
SHORT, LONG = Work(tokens=500), Work(tokens=40_000)


def waits(scorer: Scorer, seed: int) -> tuple[float, float]:
    """Seconds that short and long prompts wait on average before four servers, each of which reads one prompt after the other.

    A fifth of the work is in long prompts, which come in threes.
    """
    rng = Random(seed)
    chooser, backends = Chooser([(scorer, 1.0)], rng), several(4)
    free = {backend.name: 0.0 for backend in backends}
    ending: list[tuple[float, int, StandIn, Work]] = []
    found: dict[Work, list[float]] = {SHORT: [], LONG: []}
    now, numbers = 0.0, itertools.count()
    for _ in range(8000):
        now += rng.expovariate(35.0)
        while ending and ending[0][0] <= now:
            _, _, backend, work = heapq.heappop(ending)
            backend.inflight -= 1
            backend.inflight_tokens -= work.tokens
        for work in (LONG, LONG, LONG) if rng.random() < 0.0012 else (SHORT,):
            backend = chooser.choose(work, backends)
            start = max(now, free[backend.name])
            free[backend.name] = start + work.tokens / TOKENS_PER_SECOND
            heapq.heappush(ending, (free[backend.name], next(numbers), backend, work))
            backend.inflight += 1
            backend.inflight_tokens += work.tokens
            found[work].append(start - now)
    return statistics.fmean(found[SHORT]), statistics.fmean(found[LONG])


def test_short_prompts_do_not_wait_behind_long_ones() -> None:
    scorers = {"calls": InFlight, "tokens": lambda: TokenWork(lane=0), "lane": lambda: TokenWork(lane=1)}
    short = {}
    for name, make in scorers.items():
        short[name], long = (statistics.fmean(found) for found in zip(*(waits(make(), seed) for seed in range(3)), strict=True))
        print(name, short[name], long)
    assert short["lane"] < short["calls"] / 2
    assert short["lane"] < short["tokens"] / 2

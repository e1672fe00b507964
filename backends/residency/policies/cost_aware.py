"""The one that will be missed the least goes, and only when the switch is paid for."""

from __future__ import annotations

import math
from collections.abc import Sequence

from backends.residency.experts import Resident


class CostAware:
    """Belady's rule puts to sleep what is needed again the latest. The future being unknown, the arrival rate stands in for it.

    An expert is worth the waiting that its sleep would cause each second: how often it is asked for, times the seconds that a switch
    takes, for each unit of memory that it takes. (The same shape as GreedyDual-Size: Cao and Irani, 1997.)

    A switch is worth it when those who wait have waited as long, all together, as it will make others wait: the rule of the ski rental,
    which never costs more than twice what knowing the future would. `thrift` scales that: 0 switches at once, more switches less.
    """

    def __init__(self, thrift: float = 1.0, horizon: float = 30.0, memory: float = 300.0) -> None:
        self._thrift = thrift
        self._horizon = horizon
        self.memory = memory

    def urgency(self, wanted: Resident, now: float) -> float:
        return (wanted.waited(now) + wanted.waiting) / wanted.size

    def value(self, awake: Resident, now: float) -> float:
        return (awake.arrivals.per_second(now) * awake.costs.switch + awake.waiting) / awake.size

    def due(self, wanted: Resident, victims: Sequence[Resident], now: float) -> float:
        price = self._thrift * sum(self._harm(victim, now) for victim in victims)
        return now + (price - wanted.waited(now)) / max(1, wanted.waiting)

    def _harm(self, victim: Resident, now: float) -> float:
        """Seconds that requests will wait because this one was put to sleep."""
        rate = victim.arrivals.per_second(now)
        seconds = victim.costs.switch
        return -math.expm1(-rate * self._horizon) * seconds * (1 + rate * seconds)

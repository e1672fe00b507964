"""The one that will be missed the least goes, and only when the switch is paid for."""

from __future__ import annotations

import math
from collections.abc import Sequence

from backends.residency.experts import Resident


class CostAware:
    """Belady's rule puts to sleep what is needed again the latest. The future being unknown, the arrival rate stands in for it.

    An expert is worth the waiting that its sleep would cause each second: how often it is asked for, times the seconds that a switch
    takes, for each unit of memory that it takes. (The shape of GreedyDual-Size: Cao and Irani, 1997.)

    A switch has a price: the seconds that it will make others wait, if they come within `horizon` seconds, times `thrift`, times
    (1 + n)² while n other switches are being made, for they get in each other's way. It is paid by waiting: it is worth it once those
    who wait have waited as long as that, all together (the rule of the ski rental). So many who wait get their expert at once, and a
    single one waits a little, lest popular experts make room for each rare one. With a `thrift` of 0 nobody is held back.
    """

    def __init__(self, thrift: float = 1.5, horizon: float = 15.0, memory: float = 300.0) -> None:
        self._thrift = thrift
        self._horizon = horizon
        self.memory = memory

    def urgency(self, wanted: Resident, now: float) -> float:
        return now - (now if wanted.since is None else wanted.since)

    def value(self, awake: Resident, now: float) -> float:
        return awake.arrivals.per_second(now) * awake.costs.switch / awake.size

    def due(self, wanted: Resident, victims: Sequence[Resident], under_way: int, now: float) -> float:
        price = self._thrift * (1 + under_way) ** 2 * sum(self._harm(victim, now) for victim in victims)
        return now + (price - wanted.waited(now)) / max(1, wanted.waiting)

    def _harm(self, victim: Resident, now: float) -> float:
        """Seconds that a request of its own is expected to wait because it was put to sleep."""
        return -math.expm1(-victim.arrivals.per_second(now) * self._horizon) * victim.costs.switch

"""The least recently used goes."""

from __future__ import annotations

from collections.abc import Sequence

from backends.residency.experts import Resident


class Lru:
    """Wakes in the order in which experts were asked for, at once, and puts to sleep what was used the longest ago."""

    memory = 300.0

    def urgency(self, wanted: Resident, now: float) -> float:
        return now - (now if wanted.since is None else wanted.since)

    def value(self, awake: Resident, now: float) -> float:
        return 0.0 if awake.busy else awake.used_at - now

    def due(self, wanted: Resident, victims: Sequence[Resident], under_way: int, now: float) -> float:
        return now

"""What a group asks of its policy. A policy is pure: it reads, and remembers nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from backends.residency.experts import Resident


class Policy(Protocol):
    """Times are those of the group's clock, in seconds."""

    @property
    def memory(self) -> float:
        """Seconds over which arrivals are counted."""

    def urgency(self, wanted: Resident, now: float) -> float:
        """Of an expert that requests wait for; the most urgent one is woken first."""

    def value(self, awake: Resident, now: float) -> float:
        """Of an expert that is awake; the least valuable one goes to sleep first."""

    def due(self, wanted: Resident, victims: Sequence[Resident], under_way: int, now: float) -> float:
        """From when on it is worth to put `victims` to sleep for `wanted`; `now` or earlier: at once. If nobody waits, as if one came.

        `under_way`: how many switches are being made already.
        """

"""A quantile of what was seen lately, in a little fixed memory."""

from __future__ import annotations

import math

LOWEST = 0.001
RATIO = 1.08
BUCKETS = 180
"""From one millisecond to about a thousand seconds."""
_STEP = math.log(RATIO)


class Quantile:
    """The `share`-quantile (0.95: of twenty, one is above) of durations in seconds, within 4 %. Older ones count less and less.

    A histogram with buckets that grow by a constant factor, halved whenever it holds `memory` observations: so the newest half of them
    counts in full. Each call takes a moment that does not depend on what was seen.
    """

    __slots__ = ("_counts", "_found", "_memory", "_minimum", "_share", "_total")

    def __init__(self, share: float = 0.95, *, memory: int = 500, minimum: int = 20) -> None:
        self._share = share
        self._memory = memory
        self._minimum = minimum
        self._counts = [0.0] * BUCKETS
        self._total = 0.0
        self._found: float | None = None

    def add(self, seconds: float) -> None:
        """Anything that is no duration (negative, NaN) is left out."""
        if not seconds >= 0:
            return
        place = 0 if seconds <= LOWEST else min(BUCKETS - 1, 1 + int(math.log(min(seconds, 1e9) / LOWEST) / _STEP))
        self._counts[place] += 1
        self._total += 1
        self._found = None
        if self._total >= self._memory:
            self._counts = [count / 2 for count in self._counts]
            self._total /= 2

    @property
    def value(self) -> float | None:
        """Seconds; None until `minimum` observations are there."""
        if self._total < self._minimum:
            return None
        if self._found is None:
            self._found = self._find()
        return self._found

    def _find(self) -> float:
        wanted = self._share * self._total
        for place, count in enumerate(self._counts):
            wanted -= count
            if wanted <= 1e-9:
                return LOWEST if place == 0 else float(LOWEST * RATIO ** (place - 0.5))
        return float(LOWEST * RATIO**BUCKETS)

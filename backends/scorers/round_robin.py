"""One after the other: the naive policy, to measure the others against."""

from __future__ import annotations

from collections.abc import Sequence

from backends.scorers.api import Eligible
from backends.work import Work


class RoundRobin:
    """1 for the next in turn, 0 for the others."""

    def __init__(self) -> None:
        self._turn = -1

    def score(self, work: Work, backends: Sequence[Eligible]) -> Sequence[float | None]:
        self._turn = (self._turn + 1) % 1_000_000_007
        place = self._turn % len(backends)
        return [1.0 if index == place else 0.0 for index in range(len(backends))]

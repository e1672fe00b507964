"""Calls in flight."""

from __future__ import annotations

from collections.abc import Sequence

from backends.scorers.api import Eligible, by_excess
from backends.work import Work


class InFlight:
    """Prefers backends at which this gateway has few calls: 1 for the fewest, 1/2 for `half` more.

    Where it is a pool's only scorer, the chooser draws two backends and takes the one with fewer calls (power of two choices, M.
    Mitzenmacher 2001): as good, cheaper, and several gateways do not all run to the same backend.
    """

    def __init__(self, half: float = 1.0) -> None:
        self._half = half

    def score(self, work: Work, backends: Sequence[Eligible]) -> Sequence[float | None]:
        return by_excess([backend.inflight for backend in backends], self._half)

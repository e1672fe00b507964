"""What the servers themselves say of their load."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from backends.scorers.api import Eligible
from backends.work import Work


class ServerLoad:
    """Prefers servers with few requests, whoever sent them: 1 for the fewest, 1/2 for `half` more. A waiting request counts several times
    (`backends.load.WAITING_COUNTS`). Less and less for one whose KV cache is nearly full.

    Readings are a second old, and in a second a gateway can send a server a great deal: what it has sent since is added. A reading that is
    stale is no opinion, not "no load".
    """

    def __init__(self, half: float = 2.0, *, clock: Callable[[], float]) -> None:
        self._half = half
        self._clock = clock

    def score(self, work: Work, backends: Sequence[Eligible]) -> Sequence[float | None]:
        now, half = self._clock(), self._half
        loads = [backend.load for backend in backends]
        amounts = [
            None if load.work is None or now > load.fresh_until else max(0.0, load.work + load.drift)  # what ended was counted before
            for load in loads
        ]
        known = [amount for amount in amounts if amount is not None]
        if not known:
            return amounts
        top = half - min(known)
        return [None if amount is None else half / (top + amount) * load.room for amount, load in zip(amounts, loads, strict=True)]

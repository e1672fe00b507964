"""LoRA adapters in GPU memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from backends.scorers.api import Eligible
from backends.work import Work


class ResidentAdapter:
    """Prefers servers that have the call's adapter in GPU memory: 1 if it is there or on its way, 1/2 where a place is free, 0 where
    another one must make room for it. No opinion on a server that does not say what it holds, or has not said so lately.
    """

    def __init__(self, *, clock: Callable[[], float]) -> None:
        self._clock = clock

    def score(self, work: Work, backends: Sequence[Eligible]) -> Sequence[float | None]:
        now = self._clock()
        return [_opinion(backend, now) for backend in backends]


def _opinion(backend: Eligible, now: float) -> float | None:
    held = backend.load.sample.adapters
    if held is None or not backend.load.is_fresh(now):
        return None
    # A call of ours that is at the server now has brought the adapter there, even if no reading says so yet.
    if backend.served_as in held or backend.inflight:
        return 1.0
    slots = backend.load.sample.adapter_slots
    return 0.5 if slots is not None and len(held) < slots else 0.0

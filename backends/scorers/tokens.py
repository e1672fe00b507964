"""Prompt tokens in flight, and a lane for long prompts."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from backends.scorers.api import Eligible, by_excess
from backends.work import Work


class TokenWork:
    """Prefers backends with few prompt tokens in flight instead of few calls: 1 for the fewest, 1/2 for `half` more.

    Prompts of `long` tokens and more keep to a lane of `lane` backends, at most all but one, so that a burst of them fills these alone and
    short prompts find the others free. Short ones go wherever there is least work, in the lane too while it is idle. The lane is the same
    in every gateway: the first of the backends by a hash of their names. A full one is not asked about, so the next takes its part in the
    lane. `lane` 0: none.
    """

    def __init__(self, half: float = 2000.0, long: int = 8000, lane: int = 1) -> None:
        self._half = half
        self._long = long
        self._lane = lane
        self._last: tuple[tuple[str, ...], frozenset[str]] = ((), frozenset())

    def score(self, work: Work, backends: Sequence[Eligible]) -> Sequence[float | None]:
        eases = by_excess([backend.inflight_tokens for backend in backends], self._half)
        if not self._lane or work.tokens < self._long:
            return eases
        lane = self._lane_of(tuple([backend.name for backend in backends]))
        return [ease if backend.name in lane else 0.0 for backend, ease in zip(backends, eases, strict=True)]

    def _lane_of(self, names: tuple[str, ...]) -> frozenset[str]:
        if self._last[0] != names:
            self._last = (names, frozenset(sorted(names, key=_place)[: min(self._lane, len(names) - 1)]))
        return self._last[1]


def _place(name: str) -> bytes:
    return blake2b(name.encode(), digest_size=8).digest()

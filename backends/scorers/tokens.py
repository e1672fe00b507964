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
    in every gateway: the first of the backends by a hash of their URLs. A full one is not asked about, so the next takes its part in the
    lane. `lane` 0: none.
    """

    def __init__(self, half: float = 2000.0, long: int = 8000, lane: int = 1) -> None:
        self._half = half
        self._long = long
        self._lane = lane
        self._last: tuple[tuple[str, ...], frozenset[str]] = ((), frozenset())

    def score(self, work: Work, backends: Sequence[Eligible]) -> Sequence[float | None]:
        tokens = [backend.inflight_tokens for backend in backends]
        if not self._lane or work.tokens < self._long:
            return by_excess(tokens, self._half)
        lane = self._lane_of(tuple([backend.url for backend in backends]))
        inside = [backend.url in lane for backend in backends]
        # How full the lane is beside the others must not matter: it is kept to for just that case.
        eases = iter(by_excess([amount for amount, is_inside in zip(tokens, inside, strict=True) if is_inside], self._half))
        return [next(eases) if is_inside else 0.0 for is_inside in inside]

    def _lane_of(self, urls: tuple[str, ...]) -> frozenset[str]:
        if self._last[0] != urls:
            self._last = (urls, frozenset(sorted(urls, key=_place)[: min(self._lane, len(urls) - 1)]))
        return self._last[1]


def _place(url: str) -> bytes:
    return blake2b(url.encode(), digest_size=8).digest()

"""What a scorer of a pool is: an opinion in [0, 1] on each backend that can take a call. `backends/chooser.py` weighs them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from backends.load import Load
from backends.work import Work


class Eligible(Protocol):
    """A backend that can take the call, as far as scorers look at it. They know it again by its `url`, for it may be replaced.

    `inflight`: calls that this gateway has at it. `inflight_tokens`: tokens of their prompts.
    """

    @property
    def url(self) -> str: ...

    @property
    def served_as(self) -> str: ...

    @property
    def inflight(self) -> int: ...

    @property
    def inflight_tokens(self) -> int: ...

    @property
    def load(self) -> Load: ...


class Scorer(Protocol):
    """Looks at what it is given and at what it remembers; nothing that it remembers may grow without bound, or hold a backend alive."""

    def score(self, work: Work, backends: Sequence[Eligible]) -> Sequence[float | None]:
        """One opinion for each of `backends`, in their order, in [0, 1]; None for "no opinion". There are at least two."""


class Learner(Protocol):
    """A scorer that wants to know who got the call."""

    def chosen(self, work: Work, backend: Eligible) -> None:
        """`backend` takes the call."""


def by_excess(amounts: Sequence[float], half: float) -> list[float]:
    """Opinions from amounts of work: 1 for the least, 1/2 for one that is `half` above it, less and less beyond.

    They depend on differences alone: what all have in common is nobody's fault.
    """
    top = half - min(amounts)
    return [half / (top + amount) for amount in amounts]

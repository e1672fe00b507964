"""Conversations that stay where they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from hashlib import blake2b

from backends.scorers.api import Eligible
from backends.work import Work


class StickySession:
    """1 for the backend to which a session belongs, 0 for the others; no opinion on a call without a session.

    Every gateway says the same without asking another: each session has an order of preference over the backends, by a hash of both names
    (rendezvous hashing, Thaler and Ravishankar 1998), and belongs to the first that is not overfull. One that leaves takes no other's
    sessions with it, one that joins takes its share alone. A backend is overfull with more than `overload` times the mean calls in
    flight, this call included (consistent hashing with bounded loads, Mirrokni, Thorup and Zadimoghaddam 2018), unless these are
    `unharmed` calls or fewer: a server that batches does not feel them, and a lost cache costs more.
    """

    def __init__(self, overload: float = 1.25, unharmed: int = 4) -> None:
        self._overload = overload
        self._unharmed = unharmed

    def score(self, work: Work, backends: Sequence[Eligible]) -> Sequence[float | None]:
        if work.session is None:
            return [None] * len(backends)
        total = 1 + sum(backend.inflight for backend in backends)
        bound = max(self._unharmed, math.ceil(self._overload * total / len(backends)))
        session = work.session.encode(errors="replace")
        ranks = [
            _rank(session, backend.url) if backend.inflight < bound else b""  # sorts before every hash
            for backend in backends
        ]
        first = ranks.index(max(ranks))
        return [1.0 if index == first else 0.0 for index in range(len(backends))]


def _rank(session: bytes, url: str) -> bytes:
    return blake2b(b"%d:%b%b" % (len(session), session, url.encode()), digest_size=8).digest()

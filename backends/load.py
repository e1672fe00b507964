"""What a server last said of its load, and what this gateway has sent it since."""

from __future__ import annotations

import math
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

from msgspec import Struct

from backends.api import root_path

WAITING_COUNTS = 3.0
"""A request that waits at a server weighs as much as so many that run: the next one will wait behind it."""

BUSY_CACHE = 0.8
"""Share of the KV cache in use from which on a server is about to preempt requests."""


class Sample(Struct, frozen=True, gc=False):
    """One reading of a server's load; None for what it does not say.

    `running`, `waiting`: requests, of all its models and engines. `kv_cache`: share of the fullest engine's cache that is in use, in
    [0, 1]. `adapters`: the LoRA adapters that are probably in its GPU memory. `adapter_slots`: how many fit there at once.
    """

    running: int | None = None
    waiting: int | None = None
    kv_cache: float | None = None
    adapters: frozenset[str] | None = None
    adapter_slots: int | None = None


class Load:
    """The load of one server, shared by all backends at it. Unknown until the first reading, and again once the last one is stale.

    `at`: monotonic time of the last reading, in seconds; None before the first. `fresh_until`: when it gets stale. `work`: the requests of
    the reading, those that wait weighted by WAITING_COUNTS; None if it says nothing of them. `drift`: calls that this gateway has started
    since then, less those of its calls that have ended since. `room`: 1 until the KV cache is busy, falling to 0 when it is full.
    """

    __slots__ = ("__weakref__", "at", "drift", "fresh_until", "room", "sample", "stale_seconds", "work")

    def __init__(self, stale_seconds: float = 5.0) -> None:
        self.stale_seconds = stale_seconds
        self.sample = Sample()
        self.at: float | None = None
        self.fresh_until = -math.inf
        self.work: float | None = None
        self.drift = 0
        self.room = 1.0

    @property
    def running(self) -> int | None:
        return self.sample.running

    @property
    def waiting(self) -> int | None:
        return self.sample.waiting

    @property
    def kv_cache(self) -> float | None:
        return self.sample.kv_cache

    @property
    def adapters(self) -> frozenset[str]:
        return self.sample.adapters or frozenset()

    def is_fresh(self, now: float) -> bool:
        """Whether there is a reading that still says something. `now`: monotonic seconds."""
        return now <= self.fresh_until

    def observe(self, sample: Sample, now: float) -> None:
        """Takes a reading. `now`: monotonic seconds."""
        self.sample = sample
        self.at = now
        self.fresh_until = now + self.stale_seconds
        self.drift = 0
        unknown = sample.running is None and sample.waiting is None
        self.work = None if unknown else (sample.running or 0) + WAITING_COUNTS * (sample.waiting or 0)
        usage = sample.kv_cache or 0.0
        self.room = 1.0 if usage <= BUSY_CACHE else (1.0 - usage) / (1.0 - BUSY_CACHE)

    def started(self) -> None:
        """A call to the server starts."""
        self.drift += 1

    def finished(self) -> None:
        """A call to the server has ended."""
        self.drift -= 1


class Loads:
    """The load of each server by its root. One that no backend holds any more is forgotten."""

    def __init__(self, stale_seconds: float = 5.0) -> None:
        self._stale_seconds = stale_seconds
        self._by_root: WeakValueDictionary[str, Load] = WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._by_root)

    def of(self, url: str) -> Load:
        """The load of the server behind a base URL: the same object for every model there, for as long as somebody holds it."""
        root = root_url(url)
        found = self._by_root.get(root)
        if found is None:
            found = self._by_root[root] = Load(self._stale_seconds)
        return found


def root_url(url: str) -> str:
    """The root of the server behind an OpenAI-style base URL: http://host:8000 for http://host:8000/v1."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}{root_path(parts.path)}"

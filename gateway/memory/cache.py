"""Choices that were made before, so that the same question is not decided twice."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable

from routers.api import Choice


class ChoiceCache:
    """At most `size` choices by key, the least recently used go first; each is good for `ttl_seconds`."""

    def __init__(self, size: int, ttl_seconds: float, clock: Callable[[], float]) -> None:
        self._size = size
        self._ttl = ttl_seconds
        self._clock = clock
        self._entries: OrderedDict[Hashable, tuple[float, Choice]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Hashable) -> Choice | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry[0] < self._clock():
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return entry[1]

    def put(self, key: Hashable, choice: Choice) -> None:
        if not self._size:
            return
        self._entries[key] = (self._clock() + self._ttl, choice)
        self._entries.move_to_end(key)
        if len(self._entries) > self._size:
            self._entries.popitem(last=False)

"""Which model a conversation has: in Redis for all processes, and in this one."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import NamedTuple

import msgspec
from msgspec import Struct

from gateway.memory.cache import KeptScored
from gateway.memory.store import Store, StoreDown
from routers.api import Choice, Scored

VERSION = 1


class SessionKey(Struct, frozen=True, gc=False):
    """Names a conversation of a tenant on a route. `name`: the tenant's own name for it (text), or a digest of how it opened (bytes)."""

    tenant: str
    route: str
    name: str | bytes


class _Kept(Struct, frozen=True):
    """A session as Redis keeps it: the model first, then who may stand in for it."""

    v: int
    policy: str
    ranking: list[KeptScored]


_KEPT = msgspec.json.Decoder(_Kept)


class Pinned(NamedTuple):
    """A session as it is kept here. Its ranking is that of the choice, not a copy: one of 200 models takes 46 kB."""

    policy: str
    ranking: tuple[Scored, ...]


class Sessions:
    """Rankings by conversation, the model that it has first. Each is forgotten `ttl_seconds` after its last use.

    At most `size` are kept here, the least recently used go first. What Redis says counts more, since other processes write there.
    """

    def __init__(self, size: int, ttl_seconds: float, store: Store | None, clock: Callable[[], float]) -> None:
        self._size = size
        self._ttl = ttl_seconds
        self._store = store
        self._clock = clock
        self._entries: OrderedDict[SessionKey, tuple[float, Pinned]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    async def find(self, key: SessionKey, models: Collection[str]) -> Choice | None:
        """The pinned choice of a conversation; None if it has none, or one that ranks a model which is not among `models`."""
        pinned = await self._fetch(key) or self._here(key)
        if pinned is None or not {scored.name for scored in pinned.ranking} <= set(models):
            return None
        self._put(key, pinned)
        return Choice(pinned.policy, "pinned", tuple(KeptScored.of(scored).scored() for scored in pinned.ranking))

    def keep(self, key: SessionKey, policy: str, ranking: tuple[Scored, ...]) -> None:
        """The conversation has the first model of the ranking from now on. What was said lately already is not said again."""
        entry = self._entries.get(key)
        if entry is not None and entry[1].ranking[0].name == ranking[0].name and entry[0] - self._clock() > self._ttl / 2:
            return
        self._put(key, Pinned(policy, ranking))
        if self._store is not None and self._store.up:
            name, milliseconds = self._name(key), round(self._ttl * 1000)
            self._store.later(lambda: ("SET", name, _written(policy, ranking), "PX", milliseconds))

    def _name(self, key: SessionKey) -> str:
        assert self._store is not None
        name = b"named " + key.name.encode() if isinstance(key.name, str) else b"opened " + key.name
        digest = hashlib.blake2b(key.route.encode() + b" " + name, digest_size=16)
        return self._store.key(key.tenant, "session", digest.hexdigest())

    async def _fetch(self, key: SessionKey) -> Pinned | None:
        if self._store is None:
            return None
        try:
            value = await self._store.call("GETEX", self._name(key), "PX", round(self._ttl * 1000))
            return None if value is None else _read(value)
        except (StoreDown, msgspec.DecodeError, UnicodeDecodeError):
            return None

    def _here(self, key: SessionKey) -> Pinned | None:
        entry = self._entries.get(key)
        return None if entry is None or entry[0] < self._clock() else entry[1]

    def _put(self, key: SessionKey, pinned: Pinned) -> None:
        if not self._size:
            return
        self._entries[key] = (self._clock() + self._ttl, pinned)
        self._entries.move_to_end(key)
        if len(self._entries) > self._size:
            self._entries.popitem(last=False)


def _written(policy: str, ranking: tuple[Scored, ...]) -> bytes:
    return msgspec.json.encode(_Kept(VERSION, policy, [KeptScored.of(scored) for scored in ranking]))


def _read(value: bytes) -> Pinned | None:
    """Raises msgspec.DecodeError, UnicodeDecodeError."""
    kept = _KEPT.decode(value)
    if kept.v != VERSION or not kept.ranking:
        return None
    return Pinned(kept.policy, tuple(scored.scored() for scored in kept.ranking))

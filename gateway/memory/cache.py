"""Choices that were made before, so that the same question is not decided twice: in this process, then in Redis."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection

import msgspec
from msgspec import Struct

from gateway.memory.store import Store, StoreDown
from routers.api import Choice, Reason, Scored

VERSION = 1


class ChoiceKey(Struct, frozen=True, gc=False):
    """Names a choice. `digest`: of all that was read for it."""

    tenant: str
    digest: bytes


class KeptScored(Struct, frozen=True, gc=False, rename={"name": "model"}):
    """A candidate of a kept ranking."""

    name: str
    score: float
    opinions: dict[str, float] = {}
    quality: float | None = None
    cost_usd: float | None = None

    @classmethod
    def of(cls, scored: Scored) -> KeptScored:
        return cls(scored.name, scored.score, dict(scored.opinions), scored.quality, scored.cost_usd)

    def scored(self) -> Scored:
        return Scored(self.name, self.score, self.opinions, self.quality, self.cost_usd)


class _Kept(Struct, frozen=True):
    """A choice as Redis keeps it."""

    v: int
    policy: str
    reason: Reason
    ranking: list[KeptScored]
    rejected: dict[str, str] = {}
    shadow: str | None = None


_KEPT = msgspec.json.Decoder(_Kept)


class ChoiceCache:
    """At most `size` choices by key, the least recently used go first; each is good for `ttl_seconds`."""

    def __init__(self, size: int, ttl_seconds: float, clock: Callable[[], float]) -> None:
        self._size = size
        self._ttl = ttl_seconds
        self._clock = clock
        self._entries: OrderedDict[ChoiceKey, tuple[float, Choice]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: ChoiceKey) -> Choice | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry[0] < self._clock():
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return entry[1]

    def put(self, key: ChoiceKey, choice: Choice) -> None:
        if not self._size:
            return
        self._entries[key] = (self._clock() + self._ttl, choice)
        self._entries.move_to_end(key)
        if len(self._entries) > self._size:
            self._entries.popitem(last=False)


class Choices:
    """Both tiers, and one flight for each key: of equal questions at the same time one is decided, and the others wait for it."""

    def __init__(self, local: ChoiceCache, store: Store | None, ttl_seconds: float) -> None:
        self._local = local
        self._store = store
        self._ttl = ttl_seconds
        self._flights: dict[ChoiceKey, list[asyncio.Future[Choice | None]]] = {}

    def __len__(self) -> int:
        return len(self._local)

    def here(self, key: ChoiceKey) -> Choice | None:
        """The choice that this process remembers."""
        return self._local.get(key)

    async def find(self, key: ChoiceKey, models: Collection[str], decide: Callable[[], Awaitable[Choice]]) -> tuple[Choice, bool]:
        """The choice for a key that is not remembered here, and whether Redis knew it; else what `decide` says, which may raise.

        `models`: a kept choice that ranks any other model, or that cannot be read, is none, and is overwritten.
        """
        while (waiting := self._flights.get(key)) is not None:
            turn: asyncio.Future[Choice | None] = asyncio.get_running_loop().create_future()
            waiting.append(turn)
            choice = await turn
            if choice is not None:
                return choice, True
        flight = self._flights[key] = []
        choice = None
        try:
            choice = await self._fetch(key, models)
            if choice is not None:
                self._local.put(key, choice)
                return choice, True
            choice = await decide()
            return choice, False
        finally:
            del self._flights[key]
            for turn in flight:
                if not turn.done():
                    turn.set_result(choice)

    def keep(self, key: ChoiceKey, choice: Choice) -> None:
        self._local.put(key, choice)
        if self._store is not None and self._store.up:
            name, milliseconds = self._name(key), round(self._ttl * 1000)
            self._store.later(lambda: ("SET", name, encode(choice), "PX", milliseconds))

    def _name(self, key: ChoiceKey) -> str:
        assert self._store is not None
        return self._store.key(key.tenant, "choice", key.digest.hex())

    async def _fetch(self, key: ChoiceKey, models: Collection[str]) -> Choice | None:
        if self._store is None:
            return None
        try:
            value = await self._store.get(self._name(key))
        except StoreDown:
            return None
        return None if value is None else decode(value, models)


def encode(choice: Choice) -> bytes:
    """A choice as JSON."""
    ranking = [KeptScored.of(scored) for scored in choice.ranking]
    return msgspec.json.encode(_Kept(VERSION, choice.policy, choice.reason, ranking, dict(choice.rejected), choice.shadow))


def decode(value: bytes, models: Collection[str]) -> Choice | None:
    """The choice in a value; None if it is not one of ours, of this version, over these models alone."""
    try:
        kept = _KEPT.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    names = [scored.name for scored in kept.ranking]
    if kept.v != VERSION or not names or len(set(names)) < len(names) or not set(names) <= set(models):
        return None
    ranking = tuple(scored.scored() for scored in kept.ranking)
    return Choice(kept.policy, kept.reason, ranking, kept.rejected, shadow=kept.shadow)

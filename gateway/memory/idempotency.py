"""The same request twice under one `Idempotency-Key`: it runs once, and both get the same bytes.

The first claims the key and runs; whoever comes meanwhile waits for it; whoever comes within `ttl_seconds` gets what the first got. An
error keeps nothing, so that the next try runs. In Redis for all processes; in this process while there is none.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

import msgspec
from msgspec import Struct

from backends.api import Header
from gateway.errors import GatewayError
from gateway.memory.store import Script, Store, StoreDown

VERSION = 1
WAIT_SECONDS = 0.05
CLAIM_SECONDS = 20.0
"""A claim that its process does not renew is free again after so long: the process died."""
MAX_BODY = 4_000_000
MAX_KEPT_BYTES = 64_000_000
FREE = Script("free", "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0")
_KEY = re.compile(rb"[\x21-\x7e]{1,255}")


class Answered(Struct, frozen=True):
    """An answer as it was given. `headers` and `body` in base64 when kept in Redis."""

    status: int
    headers: tuple[Header, ...]
    body: bytes


class _Kept(Struct, frozen=True):
    """What a key leads to: the digest of the request's body, and its answer; no answer while it runs."""

    v: int
    body_digest: str
    owner: str = ""
    status: int = 0
    headers: list[tuple[str, str]] = []
    body: str = ""

    def answered(self) -> Answered | None:
        if not self.status:
            return None
        headers = tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in self.headers)
        return Answered(self.status, headers, base64.b64decode(self.body))


_KEPT = msgspec.json.Decoder(_Kept)


def key_of(headers: Mapping[bytes, bytes]) -> bytes | None:
    """The request's `Idempotency-Key`; None if it has none. Raises GatewayError if it is not one."""
    given = headers.get(b"idempotency-key")
    if given is not None and not _KEY.fullmatch(given):
        raise GatewayError("invalid_value", "'Idempotency-Key' may hold 1 to 255 printable ASCII characters", param="idempotency-key")
    return given


class Repeats:
    """All keys. At most `size` answers are kept here, of MAX_KEPT_BYTES together."""

    def __init__(self, size: int, ttl_seconds: float, store: Store | None, clock: Callable[[], float], new_id: Callable[[], str]) -> None:
        self._size = size
        self._ttl = ttl_seconds
        self._store = store
        self._clock = clock
        self._new_id = new_id
        self._entries: OrderedDict[str, tuple[float, _Kept]] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    async def claim(self, tenant: str, endpoint: str, key: bytes, body: bytes) -> Claim:
        """Returns when the request may run (`answered` is None), or with the answer that it got before.

        Raises GatewayError (409) if the key came with another body.
        """
        digest = hashlib.blake2b(body, digest_size=16).hexdigest()
        name = hashlib.blake2b(b"%s %s" % (endpoint.encode(), key), digest_size=16).hexdigest()
        claim = Claim(self, tenant, name, _Kept(VERSION, digest, self._new_id()))
        while (found := await self._take(claim)) is not None:
            if found.body_digest != digest:
                raise GatewayError("idempotency_conflict", "this Idempotency-Key came with another body", param="idempotency-key")
            claim.answered = found.answered()
            if claim.answered is not None:
                return claim
            await asyncio.sleep(WAIT_SECONDS)
        claim.held = True
        return claim

    async def _take(self, claim: Claim) -> _Kept | None:
        """What the key leads to already; None if the claim has it now."""
        taken = False
        try:
            found = await self._look_and_take(claim)
            taken = found is None
            return found
        finally:
            if not taken:
                self._give_up(claim)

    async def _look_and_take(self, claim: Claim) -> _Kept | None:
        local = f"{claim.tenant} {claim.name}"
        entry = self._entries.get(local)
        if entry is not None and entry[0] < self._clock():
            self._drop(local)
            entry = None
        if entry is not None:
            return entry[1]
        self._put(local, claim.mine, self._clock() + 2 * CLAIM_SECONDS)
        return await self._take_in_store(claim)

    def _give_up(self, claim: Claim) -> None:
        """Frees the key here, if this claim has it."""
        local = f"{claim.tenant} {claim.name}"
        entry = self._entries.get(local)
        if entry is not None and entry[1] is claim.mine:
            self._drop(local)

    async def _take_in_store(self, claim: Claim) -> _Kept | None:
        if self._store is None:
            return None
        key = self._store.key(claim.tenant, "repeat", claim.name)
        try:
            if await self._store.add(key, msgspec.json.encode(claim.mine), CLAIM_SECONDS):
                return None
            value = await self._store.get(key)
            return None if value is None else _readable(value)
        except StoreDown:
            return None

    async def renew(self, claim: Claim) -> None:
        """Holds a claim for as long as it runs."""
        local = f"{claim.tenant} {claim.name}"
        while True:
            await asyncio.sleep(CLAIM_SECONDS / 3)
            self._put(local, claim.mine, self._clock() + 2 * CLAIM_SECONDS)
            if self._store is not None:
                key = self._store.key(claim.tenant, "repeat", claim.name)
                self._store.later("SET", key, msgspec.json.encode(claim.mine), "PX", round(CLAIM_SECONDS * 1000))

    def finish(self, claim: Claim, answer: Answered | None) -> None:
        """The claimed request is over. None: it brought nothing that is worth keeping."""
        local = f"{claim.tenant} {claim.name}"
        key = "" if self._store is None else self._store.key(claim.tenant, "repeat", claim.name)
        if answer is None or len(answer.body) > MAX_BODY:
            self._give_up(claim)
            if self._store is not None:
                self._store.run_later(FREE, [key], [msgspec.json.encode(claim.mine)])
            return
        kept = _Kept(
            VERSION,
            claim.mine.body_digest,
            claim.mine.owner,
            answer.status,
            [(name.decode("latin-1"), value.decode("latin-1")) for name, value in answer.headers],
            base64.b64encode(answer.body).decode(),
        )
        self._put(local, kept, self._clock() + self._ttl)
        if self._store is not None:
            self._store.later("SET", key, msgspec.json.encode(kept), "PX", round(self._ttl * 1000))

    def _put(self, local: str, kept: _Kept, until: float) -> None:
        self._drop(local)
        self._entries[local] = (until, kept)
        self._bytes += len(kept.body)
        while len(self._entries) > self._size or self._bytes > MAX_KEPT_BYTES:
            self._drop(next(iter(self._entries)))

    def _drop(self, local: str) -> None:
        entry = self._entries.pop(local, None)
        if entry is not None:
            self._bytes -= len(entry[1].body)


class Claim:
    """One request's claim on its key. Inside `async with claim` it is renewed; an answer that is given to `keep` is kept at the end."""

    def __init__(self, repeats: Repeats, tenant: str, name: str, mine: _Kept) -> None:
        self._repeats = repeats
        self.tenant = tenant
        self.name = name
        self.mine = mine
        self.held = False
        self.answered: Answered | None = None
        self._answer: Answered | None = None
        self._renewing: asyncio.Task[None] | None = None

    def keep(self, status: int, headers: tuple[Header, ...], body: bytes) -> None:
        """The answer that everyone with this key gets from now on."""
        self._answer = Answered(status, headers, body)

    async def __aenter__(self) -> Self:
        if self.held:
            self._renewing = asyncio.create_task(self._repeats.renew(self))
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
            self._renewing = None
        if self.held:
            self._repeats.finish(self, self._answer)


def _readable(value: bytes) -> _Kept | None:
    """What Redis keeps; None, as if there were nothing, if it is not one of ours."""
    try:
        kept = _KEPT.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return kept if kept.v == VERSION else None

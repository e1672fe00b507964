"""API keys: what the keys file says, and who has which key. The file holds SHA-256 hashes, never keys."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import logging
import re
import secrets
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from gateway.guard.callers import ANYONE, Allowance, Caller, Priority, Role, Window
from gateway.source import ConfigError, Key, Problem, dotted, load
from routers.registry import nearest

MAX_CREDENTIAL_BYTES = 8192
"""A longer key or token is refused before anything is computed from it."""

TOKEN_CALLERS = "jwt_"
"""How the ids of callers with a JWT begin."""

_SECRET = re.compile(r"pm_[A-Za-z0-9_-]{8,}|[0-9A-Fa-f]{32,}")
_SETTLE_SECONDS = 0.05
_RACY_NS = 1_000_000_000
_log = logging.getLogger("pointsman")


class RightsSection(BaseModel):
    """What a caller may do and use, in the keys file and in the claim of a JWT alike."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    models: list[str] | None = Field(None, min_length=1, max_length=1000, description="the models it may use; default: all")
    routes: list[str] | None = Field(None, min_length=1, max_length=1000, description="the routes it may name; default: all")
    budget_usd: float | None = Field(None, gt=0, le=1e9, allow_inf_nan=False, description="USD that it may spend in each window")
    budget_window: Window = Field("month", description="of the budget: a day or a month, in UTC")
    rpm: int | None = Field(None, ge=1, le=1_000_000_000, description="requests a minute")
    tpm: int | None = Field(None, ge=1, le=1_000_000_000, description="tokens a minute")
    priority: Priority = Field("interactive", description="`batch` waits behind `interactive` where there is a line")
    role: Role = Field("user", description="`admin` may use /admin")

    def caller(self, id: str, name: str, expires: float | None) -> Caller:
        """`expires`: Unix time; None: never."""
        models, routes = (None if names is None else frozenset(names) for names in (self.models, self.routes))
        allowance = Allowance(self.rpm, self.tpm, self.budget_usd, self.budget_window)
        return Caller(id, name, self.role, models, routes, allowance, self.priority, expires)


class KeyEntry(RightsSection):
    """One key in the keys file."""

    id: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$", description="names it in logs, metrics and records")
    name: str = Field(min_length=1, max_length=128, description="for people: whose it is, or what for")
    sha256: str = Field(pattern=r"^[0-9A-Fa-f]{64}$", description="SHA-256 of the key, 64 hex digits")
    expires: datetime | None = Field(None, description="from then on it is refused; ISO 8601 with a zone, or a date (its start in UTC)")

    @field_validator("id")
    @classmethod
    def _free(cls, id: str) -> str:
        if id == ANYONE.id or id.startswith(TOKEN_CALLERS):
            raise ValueError(f"{id!r} is reserved; another id, please")
        return id

    @field_validator("name")
    @classmethod
    def _printable(cls, name: str) -> str:
        if not name.isprintable() or "${" in name:
            raise ValueError("may hold printable characters only, and no '${'")
        return name

    @field_validator("expires", mode="before")
    @classmethod
    def _moment(cls, given: object) -> datetime | None:
        return None if given is None else moment(given)


class KeysSection(BaseModel):
    """The keys file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    keys: list[KeyEntry] = Field(description="one entry a key; an empty list lets nobody in")


def moment(given: object) -> datetime:
    """A time with its zone, from ISO 8601 or from what YAML made of it; a date alone is its start in UTC. Raises ValueError."""
    example = "such as 2027-01-31T18:00:00Z, or a date"
    if isinstance(given, str):
        try:
            given = date.fromisoformat(given) if len(given) == 10 else datetime.fromisoformat(given)
        except ValueError:
            raise ValueError(f"should be an ISO 8601 time with a zone, {example}") from None
    if isinstance(given, datetime):
        if given.tzinfo is None:
            raise ValueError(f"has no zone; write one, {example}")
        return given
    if isinstance(given, date):
        return datetime(given.year, given.month, given.day, tzinfo=UTC)
    raise ValueError(f"should be an ISO 8601 time with a zone, {example}")


def new_key(random: Callable[[int], bytes] = secrets.token_bytes) -> tuple[str, str, str]:
    """A key of 256 random bits, the id and the hash of its entry."""
    key = "pm_" + base64.urlsafe_b64encode(random(32)).rstrip(b"=").decode()
    return key, f"key_{random(6).hex()}", hashlib.sha256(key.encode()).hexdigest()


class KeyRing:
    """All keys of one reading of the file. `wall`: Unix time."""

    __slots__ = ("_callers", "_size", "_wall")

    def __init__(self, callers: Sequence[tuple[bytes, Caller]], wall: Callable[[], float] = time.time) -> None:
        """`callers`: SHA-256 digests of keys, and whose they are."""
        self._callers: dict[bytes, list[tuple[bytes, Caller]]] = {}
        for digest, caller in callers:
            self._callers.setdefault(digest[:8], []).append((digest, caller))
        self._size = len(callers)
        self._wall = wall

    def __len__(self) -> int:
        return self._size

    @property
    def callers(self) -> list[Caller]:
        """Whose keys there are, expired ones too, by id."""
        return sorted((caller for found in self._callers.values() for _, caller in found), key=lambda caller: caller.id)

    def find(self, key: bytes) -> Caller | None:
        """Whose key it is; None if it is nobody's, or has expired.

        The time that this takes says nothing of a key that is close: what is looked up is a part of its hash, and the rest is compared
        in constant time.
        """
        if len(key) > MAX_CREDENTIAL_BYTES:
            return None
        digest = hashlib.sha256(key).digest()
        for known, caller in self._callers.get(digest[:8], ()):
            if hmac.compare_digest(known, digest):
                return caller if caller.expires is None or self._wall() < caller.expires else None
        return None


def read_keys(
    path: Path,
    models: Collection[str],
    routes: Collection[str],
    environment: Mapping[str, str],
    wall: Callable[[], float] = time.time,
) -> KeyRing:
    """Reads a keys file. `models`, `routes`: the names that its entries may use. Raises ConfigError with every problem, no hash in it."""
    try:
        source = load(path, environment)
    except ConfigError as error:
        raise ConfigError(error.file, [_masked(problem) for problem in error.problems]) from None
    except RecursionError:
        raise ConfigError(str(path), [Problem("", None, "is nested too deeply")]) from None
    try:
        section = KeysSection.model_validate(source.value)
    except ValidationError as error:
        raise ConfigError(source.file, [_masked(source.problem(*explain(dict(detail)))) for detail in error.errors()]) from None
    problems = [_masked(source.problem(*found)) for found in _contradictions(section, models, routes)]
    if problems:
        raise ConfigError(source.file, problems)
    return KeyRing([(bytes.fromhex(entry.sha256), _caller(entry)) for entry in section.keys], wall)


def _caller(entry: KeyEntry) -> Caller:
    return entry.caller(entry.id, entry.name, None if entry.expires is None else entry.expires.timestamp())


def explain(detail: Mapping[str, Any]) -> tuple[tuple[Key, ...], str]:
    """Where and what, from one of pydantic's errors for the sections here."""
    path: tuple[Key, ...] = tuple(detail["loc"])
    if detail["type"] == "extra_forbidden":
        known = list((KeyEntry if len(path) > 1 else KeysSection).model_fields)
        return path, f"unknown key{nearest(str(path[-1]), known)}; known here: {', '.join(known)}"
    if detail["type"] == "missing":
        return path, "is required"
    if path[-1:] == ("sha256",):
        if str(detail["input"]).startswith("pm_"):
            return path, "is a key; its SHA-256 belongs here (`pointsman keys new` prints it), and that key should not be used any more"
        return path, "should be the SHA-256 of the key: 64 hex digits"
    if detail["type"] == "string_pattern_mismatch":
        return path, "may hold letters, digits and . _ - (at most 64)"
    if detail["type"] in ("model_type", "model_attributes_type"):
        return path, "should be a mapping" + (" with `keys: [entry, …]`" if not path else "")
    message = str(detail["msg"]).removeprefix("Value error, ")
    return path, message[0].lower() + message[1:]


def _contradictions(section: KeysSection, models: Collection[str], routes: Collection[str]) -> list[tuple[tuple[Key, ...], str]]:
    """What each entry alone cannot see."""
    found: list[tuple[tuple[Key, ...], str]] = []
    ids: dict[str, int] = {}
    hashes: dict[str, int] = {}
    for index, entry in enumerate(section.keys):
        for field, value, seen in (("id", entry.id, ids), ("sha256", entry.sha256.lower(), hashes)):
            if seen.setdefault(value, index) != index:
                found.append((("keys", index, field), f"is that of {dotted(('keys', seen[value]))} already"))
        for kind, given, known in (("models", entry.models, models), ("routes", entry.routes, routes)):
            for place, name in enumerate(given or ()):
                if name not in known:
                    found.append((("keys", index, kind, place), f"no {kind.removesuffix('s')} named {name!r}{nearest(name, list(known))}"))
    return found


def _masked(problem: Problem) -> Problem:
    """Without anything that could be a key or a hash."""
    return Problem(_SECRET.sub("…", problem.path), problem.line, _SECRET.sub("…", problem.message))


@dataclass(frozen=True, slots=True)
class _Look:
    """What tells one state of a file from another."""

    modified_ns: int = 0
    changed_ns: int = 0
    size: int = -1
    inode: int = 0
    device: int = 0

    @classmethod
    def at(cls, path: Path) -> _Look:
        """A file that is not there, or cannot be looked at, looks like no other."""
        try:
            found = path.stat()
        except OSError:
            return cls()
        return cls(found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino, found.st_dev)


class KeysFile:
    """The keys file and its newest good reading. `failures`: readings that failed since the start.

    Raises ConfigError if the file is wrong from the first.
    """

    def __init__(
        self,
        path: Path,
        models: Collection[str],
        routes: Collection[str],
        environment: Mapping[str, str],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._names = (frozenset(models), frozenset(routes))
        self._environment = dict(environment)
        self._wall = wall
        self._look = _Look.at(path)
        self._settled = self._old(self._look)
        self._logged = ""
        self.failures = 0
        self.ring = self._read()

    async def run(self) -> None:
        """Watches the file until it is cancelled."""
        await self.watch()

    async def watch(self, interval_seconds: float = 0.5) -> None:
        """Looks at the file again and again until it is cancelled, and reads it when it has changed."""
        while True:
            await asyncio.sleep(interval_seconds)
            await self.refresh()

    async def refresh(self) -> None:
        """Reads the file if it has changed. If it cannot be used the old keys stay; that is logged, and counted in `failures`."""
        look = await asyncio.to_thread(_Look.at, self._path)
        if look == self._look and self._settled:
            return
        if look.inode == self._look.inode and look != self._look:
            # Somebody writes into it rather than replacing it: what stands there now may be half of it, and half a list can be valid.
            look = await self._still(look)
        news = look != self._look
        self._look, self._settled = look, self._old(look)
        try:
            ring = await asyncio.to_thread(self._read)
        except ConfigError as error:
            if news or str(error) != self._logged:
                self.failures += 1
            self._complain(error)
            return
        self._logged = ""
        if news:
            _log.info("the keys file %s was read anew: %d keys", self._path, len(ring))
        self.ring = ring

    async def _still(self, look: _Look) -> _Look:
        """The file's look when it has not changed for a moment, or after ten such moments."""
        for _ in range(10):
            await asyncio.sleep(_SETTLE_SECONDS)
            before, look = look, await asyncio.to_thread(_Look.at, self._path)
            if look == before:
                break
        return look

    def _read(self) -> KeyRing:
        return read_keys(self._path, *self._names, self._environment, self._wall)

    def _complain(self, error: ConfigError) -> None:
        if (text := str(error)) != self._logged:
            self._logged = text
            _log.error("the keys file cannot be used; the keys read before stay: %s", text.replace("\n", "; "))

    @staticmethod
    def _old(look: _Look) -> bool:
        """Whether a later write is sure to give another look: clocks of file systems tick slowly, and two writes may fall into one tick."""
        return time.time_ns() - max(look.modified_ns, look.changed_ns) > _RACY_NS

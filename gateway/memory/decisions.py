"""Decisions and what came of them, so that a client can ask why: the newest in this process, and in Redis for the others."""

from __future__ import annotations

import re
from collections import OrderedDict
from itertools import islice
from typing import Any

import msgspec

from gateway.account.records import Record
from gateway.memory.store import Store, StoreDown

_ID = re.compile(r"dec-[0-9a-f]{24}")
_CALLER = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Decisions:
    """Documents by decision id, each for its own caller alone. The newest `kept` in this process; in Redis for `ttl_seconds`."""

    def __init__(self, kept: int, store: Store | None, ttl_seconds: float) -> None:
        self._kept = kept
        self._store = store
        self._ttl_ms = round(ttl_seconds * 1000)
        self._records: OrderedDict[str, Record] = OrderedDict()

    def __len__(self) -> int:
        return len(self._records)

    def put(self, record: Record) -> None:
        if self._kept:
            self._records[record.decision.id] = record
            if len(self._records) > self._kept:
                self._records.popitem(last=False)
        if self._store is not None and self._store.up:
            name = self._store.key(record.caller, "decision", record.decision.id)
            self._store.later(lambda: ("SET", name, msgspec.json.encode(record.kept()), "PX", self._ttl_ms))

    def newest(self, count: int) -> list[Record]:
        """The newest in this process, newest first, dry runs among them."""
        return list(islice(reversed(self._records.values()), count))

    async def find(self, decision_id: str, caller_id: str | None) -> dict[str, Any] | None:
        """For an admin: what is kept of anyone's decision. `caller_id`: whose it is; None: then this process alone is asked."""
        record = self._records.get(decision_id)
        if record is not None:
            return record.kept()
        return None if caller_id is None or not _CALLER.fullmatch(caller_id) else await self.get(decision_id, caller_id)

    async def get(self, decision_id: str, caller_id: str) -> dict[str, Any] | None:
        """What is kept of a decision of this caller; None if there is none, or it is someone else's."""
        record = self._records.get(decision_id)
        if record is not None:
            return record.kept() if record.caller == caller_id else None
        if self._store is None or not _ID.fullmatch(decision_id):
            return None
        try:
            value = await self._store.get(self._store.key(caller_id, "decision", decision_id))
            return None if value is None else _of(msgspec.json.decode(value), decision_id, caller_id)
        except (StoreDown, msgspec.DecodeError, UnicodeDecodeError):
            return None


def _of(document: Any, decision_id: str, caller_id: str) -> dict[str, Any] | None:
    """The document, if it is the one that was asked for."""
    if not isinstance(document, dict) or document.get("id") != decision_id or document.get("caller") != caller_id:
        return None
    return document

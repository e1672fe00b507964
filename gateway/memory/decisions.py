"""The newest decisions, so that a client can ask why."""

from __future__ import annotations

from collections import OrderedDict

from gateway.account.records import Record


class Decisions:
    """Records by decision id: the newest `kept`, in this process."""

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._records: OrderedDict[str, Record] = OrderedDict()

    def __len__(self) -> int:
        return len(self._records)

    def put(self, record: Record) -> None:
        if self._kept:
            self._records[record.decision.id] = record
            if len(self._records) > self._kept:
                self._records.popitem(last=False)

    def get(self, decision_id: str) -> Record | None:
        return self._records.get(decision_id)

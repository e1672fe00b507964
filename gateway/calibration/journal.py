"""What has been asked and graded so far, on disk row by row: after kill -9 nothing is asked twice."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

VERSION = 1


class JournalBusy(Exception):
    """Another process writes this journal."""


class Row(Struct, frozen=True, kw_only=True):
    """One graded answer. `digest`: of the question, its grading, and how the model was asked. Unknown is None.

    `judge_cost_usd`: what a judge's verdict cost; it is no cost of the model's. `answer` is there for people to look at.
    """

    v: int = VERSION
    query_id: str
    model: str
    digest: str
    score: float
    cost_usd: float | None
    judge_cost_usd: float | None
    tokens_in: int | None
    tokens_out: int | None
    latency_s: float
    answer: str


_ROW = msgspec.json.Decoder(Row)


class Journal:
    """JSON lines beside the table, for their owner's eyes only; one process at a time.

    `rows`: by (query_id, model, digest), the newest of each. `broken`: lines that are no rows; a torn last line is none of them.
    """

    def __init__(self, path: Path) -> None:
        """Opens the file, reads it, and cuts off a torn last line. Raises OSError, JournalBusy."""
        self._file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b")
        self.broken = 0
        self._rows: dict[tuple[str, str, str], Row] = {}
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise JournalBusy(f"{path}: another calibrate is writing it") from None
        self._load()

    @property
    def rows(self) -> Mapping[tuple[str, str, str], Row]:
        return self._rows

    def add(self, row: Row) -> None:
        """Writes a row and hands it to the operating system before it returns. Raises OSError."""
        self._file.write(msgspec.json.encode(row) + b"\n")
        self._file.flush()
        self._rows[row.query_id, row.model, row.digest] = row

    def close(self) -> None:
        self._file.close()

    def _load(self) -> None:
        end = 0
        for line in self._file:
            if not line.endswith(b"\n"):
                break
            end += len(line)
            try:
                row = _ROW.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError):
                self.broken += 1
                continue
            if row.v == VERSION:
                self._rows[row.query_id, row.model, row.digest] = row
        self._file.seek(end)
        self._file.truncate()

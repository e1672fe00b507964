"""The ledger: one line for each request and each piece of feedback, written in batches, off the request's path."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec
from msgspec import UNSET, Struct, UnsetType

from gateway.account.costs import Usage
from gateway.account.ledger_files import LedgerDown, LedgerFile
from gateway.account.ledger_rounds import AskedEntry, PlanEntry, RoundEntry, asked_entry, plan_entry, round_entries
from gateway.account.records import Record, milliseconds
from routers.api import Choice, Scored

VERSION = 1
MAX_WAITING = 10_000
WRITE_SECONDS = 0.25
RETRY_SECONDS = 1.0
CLOSE_SECONDS = 5.0
PORTION = 64
"""So many lines are made at a time, then requests have their turn: the thread that makes them all takes the interpreter from the event loop
for 5 ms again and again. p99 of plain requests under full load 24 ms instead of 30 to 34 (10 rounds by turns, twice).
"""
NO_ROUTE = "none"
OPINION_STEPS = 10**9
"""Opinions have so many steps from 0 to 1: fewer would not bring a ranking back, and more make lines longer."""
_log = logging.getLogger("pointsman")


class CandidateEntry(Struct, frozen=True, gc=False):
    """A candidate of the decision, in the order of the ranking. `propensity` stands there only where chance had a part in the choice,
    `opinions` (scorer -> opinion) and `uncertainty` only where somebody had one.
    """

    model: str
    score: float
    quality: float | None = None
    expected_cost_usd: float | None = None
    propensity: float | UnsetType = UNSET
    opinions: dict[str, float] | UnsetType = UNSET
    uncertainty: float | UnsetType = UNSET

    @classmethod
    def of(cls, scored: Scored) -> CandidateEntry:
        propensity = UNSET if scored.propensity is None else scored.propensity
        opinions = {name: _shortened(value) for name, value in scored.opinions.items()} or UNSET
        uncertainty = UNSET if scored.uncertainty is None else _shortened(scored.uncertainty)
        return cls(scored.name, scored.score, scored.quality, scored.cost_usd, propensity, opinions, uncertainty)


class AttemptEntry(Struct, frozen=True, gc=False):
    """One try at one backend, as in records.Attempt."""

    model: str
    backend: str
    outcome: str
    ms: float


class UsageEntry(Struct, frozen=True, gc=False):
    """Tokens, as in costs.Usage."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


class RequestEntry(Struct, frozen=True, gc=False, tag_field="event", tag="request", kw_only=True):
    """One routed request. `time`: Unix time of its decision. `chosen`: by the decision; `model`: that answered, None if none did.

    `propensity`: the probability with which it was chosen; None if chance had no part in it. `shadow`: the model that another picker,
    which serves nobody, would have chosen. `route` is None if the client named a model. `prompt` stands there only if the ledger is to
    keep prompts; `asked` where there was something to decide; `plan` where the route's planner may make several calls, and `rounds` where
    it did: `usage` is then that of the final ask alone, and `cost_usd` that of all. Unknown is None.
    """

    v: int
    time: float
    decision_id: str
    request_id: str
    caller: str
    endpoint: str
    stream: bool
    route: str | None
    model: str | None
    chosen: str
    policy: str
    reason: str
    cache: str
    candidates: list[CandidateEntry]
    rejected: dict[str, str]
    attempts: list[AttemptEntry]
    status: int | None
    error: str | None
    usage: UsageEntry | None
    estimated: bool
    cost_usd: float | None
    baseline_cost_usd: float | None
    overhead_ms: float | None
    first_byte_ms: float | None
    ms: float | None
    propensity: float | None = None
    shadow: str | None = None
    prompt: str | UnsetType = UNSET
    asked: AskedEntry | UnsetType = UNSET
    plan: PlanEntry | UnsetType = UNSET
    rounds: list[RoundEntry] | UnsetType = UNSET

    @property
    def asks(self) -> list[RoundEntry]:
        """What was asked before the answer."""
        return self.rounds if isinstance(self.rounds, list) else []

    @property
    def own_cost_usd(self) -> float | None:
        """What the answer itself cost, without the asks before it; 0 where a planner has put it together. None if unknown."""
        if self.cost_usd is None or not self.asks:
            return self.cost_usd
        return 0.0 if self.usage is None else max(0.0, self.cost_usd - math.fsum(one.cost_usd or 0.0 for one in self.asks))


class FeedbackEntry(Struct, frozen=True, gc=False, tag_field="event", tag="feedback", kw_only=True):
    """A score in [0, 1] for a decision, with what an outcome needs of it. `time`: Unix time of the feedback. `dataset`: `ledger/ROUTE`."""

    v: int
    time: float
    decision_id: str
    request_id: str
    caller: str
    score: float
    comment: str | None
    route: str | None
    model: str | None
    dataset: str
    usage: UsageEntry | None
    estimated: bool
    cost_usd: float | None
    ms: float | None


Entry: TypeAlias = RequestEntry | FeedbackEntry


def entry(record: Record, candidates: list[CandidateEntry] | None = None) -> RequestEntry:
    """What the ledger keeps of a request that is over. `candidates`: those of its choice, if they are made already."""
    decision, usage = record.decision, record.usage
    choice = decision.choice
    return RequestEntry(
        v=VERSION,
        time=decision.created,
        decision_id=decision.id,
        request_id=record.request_id,
        caller=record.caller,
        endpoint=record.endpoint,
        stream=record.stream,
        route=decision.route,
        model=record.model,
        chosen=choice.model,
        policy=choice.policy,
        reason=choice.reason,
        cache=decision.cache,
        candidates=candidates_of(choice) if candidates is None else candidates,
        rejected=dict(choice.rejected),
        attempts=[AttemptEntry(one.model, one.backend, one.outcome, round(one.seconds * 1000, 3)) for one in record.attempts],
        status=record.status,
        error=record.error,
        usage=None if usage is None else _usage(usage),
        estimated=record.estimated,
        cost_usd=record.cost_usd,
        baseline_cost_usd=record.baseline_cost_usd,
        overhead_ms=milliseconds(record.overhead_seconds),
        first_byte_ms=milliseconds(record.first_byte_seconds),
        ms=milliseconds(record.seconds),
        propensity=decision.propensity,
        shadow=choice.shadow,
        prompt=UNSET if record.text is None else record.text,
        asked=asked_entry(record),
        plan=plan_entry(record),
        rounds=round_entries(record),
    )


def candidates_of(choice: Choice) -> list[CandidateEntry]:
    """Who was ranked, best first."""
    return [CandidateEntry.of(one) for one in choice.ranking]


def feedback_entry(document: Mapping[str, Any], score: float, comment: str | None, now: float) -> FeedbackEntry:
    """What the ledger keeps of feedback. `document`: the decision as `Record.kept` gives it. `now`: Unix time."""
    usage = document.get("usage") or {}
    route = document.get("route")
    return FeedbackEntry(
        v=VERSION,
        time=now,
        decision_id=document["id"],
        request_id=document.get("request_id", ""),
        caller=document["caller"],
        score=score,
        comment=comment,
        route=route,
        model=document.get("answered_by"),
        dataset=f"ledger/{route or NO_ROUTE}",
        usage=UsageEntry(usage.get("prompt_tokens"), usage.get("completion_tokens")) if usage else None,
        estimated=bool(document.get("estimated")),
        cost_usd=document.get("cost_usd"),
        ms=document.get("duration_ms"),
    )


def _usage(usage: Usage) -> UsageEntry:
    return UsageEntry(usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens, usage.reasoning_tokens)


def _shortened(value: float) -> float:
    """Ten times as fast as `round`, for numbers that are not negative."""
    return int(value * OPINION_STEPS + 0.5) / OPINION_STEPS


class Ledger:
    """Takes what is over, and writes it a few times a second: to a file, and to whatever `publish` does with a line. None: not there.

    At most MAX_WAITING lines wait, in a time without a disk too; beyond that the oldest are dropped and counted in `dropped`. `failures`
    counts the writes that failed. No error of the disk reaches a request.
    """

    def __init__(self, file: LedgerFile | None = None, publish: Callable[[bytes], None] | None = None) -> None:
        self._file = file
        self._publish = publish
        self._new: deque[Record | FeedbackEntry] = deque()
        self._lines: deque[bytes] = deque()  # published, but not in the file yet
        self._turn = asyncio.Lock()
        self._down = False
        self.dropped = 0
        self.failures = 0

    def __len__(self) -> int:
        return len(self._new) + len(self._lines)

    def request(self, record: Record) -> None:
        """A request is over: nothing of its record changes from now on."""
        self._add(record)

    def feedback(self, document: Mapping[str, Any], score: float, comment: str | None, now: float) -> None:
        """Feedback came; see feedback_entry."""
        if self._file is not None or self._publish is not None:
            self._add(feedback_entry(document, score, comment, now))

    async def run(self) -> None:
        """Writes until it is cancelled."""
        while True:
            await asyncio.sleep(RETRY_SECONDS if self._down else WRITE_SECONDS)
            if self:
                await self.flush()

    async def flush(self) -> None:
        """Writes what has come so far, after any write that is under way. Cancelled, it still ends what it began, but nobody waits."""
        await asyncio.shield(asyncio.create_task(self._write()))

    async def aclose(self) -> None:
        """Writes the rest, within CLOSE_SECONDS."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.flush()
        except TimeoutError:
            _log.error("ledger: the last write did not end within %g s", CLOSE_SECONDS)
        if self:
            _log.error("ledger: %d records are lost, since they cannot be written", len(self))

    def _add(self, one: Record | FeedbackEntry) -> None:
        if self._file is None and self._publish is None:
            return
        self._new.append(one)
        if len(self._new) + len(self._lines) > MAX_WAITING:
            self._drop()

    def _drop(self) -> None:
        (self._lines or self._new).popleft()
        self.dropped += 1

    async def _write(self) -> None:
        async with self._turn:
            for _ in range(math.ceil(len(self._new) / PORTION)):
                await self._make_some()
            if self._file is not None:
                waiting, self._lines = self._lines, deque()
                await self._append(self._file, list(waiting))

    async def _make_some(self) -> None:
        """Makes the lines of the oldest that have none."""
        portion = [self._new.popleft() for _ in range(min(PORTION, len(self._new)))]
        lines, unwritable = await asyncio.to_thread(_encode, portion)
        self.dropped += unwritable
        if self._publish is not None:
            for line in lines:
                self._publish(line)
        if self._file is not None:
            self._lines.extend(lines)

    async def _append(self, file: LedgerFile, lines: Sequence[bytes]) -> None:
        try:
            await asyncio.to_thread(file.append, lines)
        except LedgerDown as error:
            self.failures += 1
            self._lines.extend(lines[error.written :])
            while len(self) > MAX_WAITING:
                self._drop()
            if not self._down:
                _log.error("ledger: the file cannot be written (%s); records wait for it", error.reason)
            self._down = True
            return
        if self._down:
            _log.info("ledger: the file can be written again")
        self._down = False


def _encode(found: Sequence[Record | FeedbackEntry]) -> tuple[list[bytes], int]:
    """Their lines, and how many could not be written as JSON. The candidates of a remembered choice are made once."""
    lines = []
    known: dict[int, list[CandidateEntry]] = {}
    for one in found:
        # A text with half a surrogate pair is no Unicode, and has no UTF-8.
        with contextlib.suppress(UnicodeEncodeError, msgspec.MsgspecError):
            lines.append(msgspec.json.encode(_entry(one, known) if isinstance(one, Record) else one))
    return lines, len(found) - len(lines)


def _entry(record: Record, known: dict[int, list[CandidateEntry]]) -> RequestEntry:
    choice = record.decision.choice
    candidates = known.get(id(choice))
    if candidates is None:
        candidates = known[id(choice)] = candidates_of(choice)
    return entry(record, candidates)

"""What people say of answers: joined with the decision, told once to every learner, in every process."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from typing import Any

import msgspec
from msgspec import Struct

from gateway.account.ledger import Ledger
from gateway.account.metrics import Metrics
from gateway.account.records import LEARNED
from gateway.errors import GatewayError
from gateway.guard.callers import Caller
from gateway.memory.decisions import Decisions
from gateway.memory.store import Store, StoreDown
from routers.api import Outcome, RouteRequest
from routers.pipeline import Policy, tell

KEPT = 100_000
POLL_SECONDS = 1.0
STREAM_LENGTH = 10_000
_log = logging.getLogger("pointsman")


class _News(Struct, frozen=True):
    """Feedback as processes tell it each other. `origin`: the process that has told its own learners already."""

    v: int
    origin: str
    score: float
    decision: dict[str, Any]


_NEWS = msgspec.json.Decoder(_News)


class Feedback:
    """Takes feedback, and passes on what other processes took. `origin`: names this process. `threads`: where learners learn.

    It tells nobody before `follow`.
    """

    def __init__(
        self,
        decisions: Decisions,
        ledger: Ledger,
        metrics: Metrics,
        threads: Executor,
        store: Store | None,
        *,
        ttl_seconds: float,
        origin: str,
        wall_clock: Callable[[], float],
    ) -> None:
        self._decisions = decisions
        self._policies: dict[str, Policy] = {}
        self._ledger = ledger
        self._metrics = metrics
        self._threads = threads
        self._store = store
        self._ttl = ttl_seconds
        self._origin = origin
        self._wall_clock = wall_clock
        self._given: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._given)

    def follow(self, policies: Mapping[str, Policy]) -> None:
        """The policies in force: their learners are told from now on."""
        self._policies = dict(policies)

    async def give(self, caller: Caller, decision_id: str, score: float, comment: str | None) -> None:
        """Takes a score in [0, 1] for a decision of this caller's own. The same score again changes nothing.

        Raises GatewayError: 404 if the caller has no such decision, 409 if it has another score already.
        """
        document = await self._decisions.get(decision_id, caller.id)
        if document is None:
            raise GatewayError("decision_not_found", "there is no such decision, or it is no longer kept", param="decision_id")
        before = await self._before(caller, decision_id, score)
        if before is not None:
            if before != score:
                raise GatewayError("idempotency_conflict", "another score was given for this decision already", param="score")
            return
        self._ledger.feedback(document, score, comment, self._wall_clock())
        self._learn(document, score)
        if self._store is not None and self._learns(document):
            news = msgspec.json.encode(_News(1, self._origin, score, document))
            self._store.later("XADD", self._stream(), "MAXLEN", "~", STREAM_LENGTH, "*", "news", news)

    async def run(self) -> None:
        """Listens to the other processes, while some policy learns."""
        if self._store is None:
            return
        last = f"{round(self._wall_clock() * 1000)}-0"
        while True:
            await asyncio.sleep(POLL_SECONDS)
            if not any(policy.learners for policy in self._policies.values()):
                last = f"{round(self._wall_clock() * 1000)}-0"
                continue
            try:
                found = await self._store.call("XRANGE", self._stream(), f"({last}", "+", "COUNT", 100)
            except StoreDown:
                continue
            for entry, fields in found or ():
                last = entry.decode() if isinstance(entry, bytes) else str(entry)
                self._hear(fields)

    def _hear(self, fields: Any) -> None:
        values = list(fields.values()) if isinstance(fields, dict) else list(fields)[1::2]
        try:
            news = _NEWS.decode(values[0] if values else b"")
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        if news.origin != self._origin:
            self._learn(news.decision, news.score)

    async def _before(self, caller: Caller, decision_id: str, score: float) -> float | None:
        """The score that was given before; None if this is the first, which is then on record."""
        given = self._given.get(decision_id)
        if given is None and self._store is not None:
            key = self._store.key(caller.id, "feedback", decision_id)
            try:
                if not await self._store.add(key, msgspec.json.encode(score), self._ttl):
                    value = await self._store.get(key)
                    given = None if value is None else msgspec.json.decode(value, type=float)
            except (StoreDown, msgspec.DecodeError):
                given = None
        if given is None:
            self._given[decision_id] = score
            if len(self._given) > KEPT:
                self._given.popitem(last=False)
        return given

    def _learns(self, document: Mapping[str, Any]) -> bool:
        policy = self._policies.get(document.get("route") or "")
        return policy is not None and bool(policy.learners)

    def _learn(self, document: Mapping[str, Any], score: float) -> None:
        policy = self._policies.get(document.get("route") or "")
        if policy is None or not policy.learners:
            return
        outcome = _outcome(document, score)
        self._threads.submit(self._tell, policy, outcome)

    def _tell(self, policy: Policy, outcome: Outcome) -> None:
        for plugin, problem in tell(policy, outcome).items():
            self._metrics.plugin_errors.labels(plugin).inc()
            _log.warning("plugin %s failed to learn: %s", plugin, problem)

    def _stream(self) -> str:
        assert self._store is not None
        return self._store.key("all", "feedback")


def _outcome(document: Mapping[str, Any], score: float) -> Outcome:
    """What a learner hears, from a kept document."""
    learned = document.get(LEARNED) or {}
    usage = document.get("usage") or {}
    milliseconds = document.get("duration_ms")
    request = RouteRequest(
        endpoint=document.get("endpoint", "chat"),
        text=learned.get("text", ""),
        prompt_tokens=document.get("prompt_tokens_estimate", 0),
        max_tokens=learned.get("max_tokens"),
        n=learned.get("n", 1),
        needs=frozenset(learned.get("needs", ())),
    )
    return Outcome(
        request,
        document.get("answered_by") or document.get("model") or "",
        score,
        document.get("cost_usd"),
        usage.get("prompt_tokens"),
        usage.get("completion_tokens"),
        None if milliseconds is None else milliseconds / 1000,
    )

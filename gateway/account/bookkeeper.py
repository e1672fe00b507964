"""Closes the books on each request: the bill, the metrics, the log line, the record, and what the fleet learns from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gateway.account.costs import Usage, add_usage, cost_usd, usage_of_turns
from gateway.account.journal import Journal
from gateway.account.ledger import Ledger
from gateway.account.metrics import Metrics
from gateway.account.records import Record
from gateway.account.visit import Visit
from gateway.fleet import Fleet
from gateway.guard.limits import Limits
from gateway.memory.decisions import Decisions
from routers.api import Endpoint


class Bookkeeper:
    """`candidates`: route -> its models, for the baseline cost."""

    def __init__(
        self,
        fleet: Fleet,
        candidates: Mapping[str, Sequence[str]],
        metrics: Metrics,
        journal: Journal,
        ledger: Ledger,
        decisions: Decisions,
        limits: Limits,
    ) -> None:
        self._fleet = fleet
        self._candidates = dict(candidates)
        self._metrics = metrics
        self._journal = journal
        self._ledger = ledger
        self._decisions = decisions
        self._limits = limits

    def bill(self, record: Record) -> None:
        """Works out what the answer cost, and what the dearest candidate would have cost for the same tokens."""
        model = record.model or record.decision.choice.model
        record.cost_usd = _sum([cost_usd(self._fleet[model].model.price, record.usage)] if record.usage or not record.turns else [], record)
        names = self._candidates.get(record.decision.route or "", (model,))
        tokens = record.usage or next((Usage(t.tokens_in, t.tokens_out) for t in reversed(record.turns) if t.model == model), None)
        costs = [cost_usd(self._fleet[name].model.price, tokens) for name in names]
        record.baseline_cost_usd = max((cost for cost in costs if cost is not None), default=None)

    def close(self, visit: Visit, endpoint: Endpoint, now: float) -> None:
        """The request is over, however it went."""
        record = visit.record
        if record is None:
            status, code = visit.status or 500, visit.code or "internal_error"
            self._metrics.request_refused(endpoint, code, status, now - visit.started)
            self._journal.refused(visit.request_id, endpoint, status, code, now - visit.started)
            return
        record.seconds = now - visit.started
        if visit.status is not None:
            record.status, record.error = visit.status, visit.code
            self._metrics.count(self._metrics.rejections, visit.reason or "internal_error")
        if record.usage is not None and record.model is not None:
            self._fleet.observe(record.model, record.usage, visit.prompt_size)
        elif visit.worked:
            record.usage, record.estimated = self._estimate(visit, record), True
        if record.cost_usd is None:
            self.bill(record)
        self._settle(visit, record)
        self._metrics.request_done(record)
        self._journal.request(record)
        self._ledger.request(record)
        self._decisions.put(record)

    def _estimate(self, visit: Visit, record: Record) -> Usage:
        """What a model has done of which no count came: it read the prompt, and it wrote what came through."""
        prompt = record.decision.prompt_tokens
        if record.endpoint == "embeddings":
            return Usage(prompt)
        return Usage(prompt, visit.streamed if record.stream else self._fleet.estimate.tokens(visit.answer_size))

    def _settle(self, visit: Visit, record: Record) -> None:
        if visit.grant is None:
            return
        usage = add_usage(record.usage, usage_of_turns(record.turns))
        if usage is None:
            self._limits.release(visit.grant)
            return
        tokens = None if usage.prompt_tokens is None else usage.prompt_tokens + (usage.completion_tokens or 0)
        self._limits.settle(visit.grant, tokens, record.cost_usd)


def _sum(own: Sequence[float | None], record: Record) -> float | None:
    """What the answer and all that was asked before it cost; None if a part of it is unknown. An ask that failed cost nothing known."""
    costs = [*own, *(turn.cost_usd for turn in record.turns if turn.error is None)]
    return None if any(cost is None for cost in costs) else sum(cost for cost in costs if cost is not None)

"""Closes the books on each request: the bill, the metrics, the log line, the record, and what the fleet learns from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gateway.account.costs import cost_usd
from gateway.account.journal import Journal
from gateway.account.metrics import Metrics
from gateway.account.records import Record
from gateway.account.visit import Visit
from gateway.fleet import Fleet
from gateway.memory.decisions import Decisions
from routers.api import Endpoint


class Bookkeeper:
    """`candidates`: route -> its models, for the baseline cost."""

    def __init__(
        self, fleet: Fleet, candidates: Mapping[str, Sequence[str]], metrics: Metrics, journal: Journal, decisions: Decisions
    ) -> None:
        self._fleet = fleet
        self._candidates = dict(candidates)
        self._metrics = metrics
        self._journal = journal
        self._decisions = decisions

    def bill(self, record: Record) -> None:
        """Works out what the answer cost, and what the dearest candidate would have cost for the same tokens."""
        if record.model is None:
            return
        record.cost_usd = cost_usd(self._fleet[record.model].model.price, record.usage)
        names = self._candidates.get(record.decision.route or "", (record.model,))
        costs = [cost_usd(self._fleet[name].model.price, record.usage) for name in names]
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
            self._metrics.count(self._metrics.rejections, visit.code or "internal_error")
        if record.cost_usd is None:
            self.bill(record)
        if record.usage is not None and record.model is not None:
            self._fleet.observe(record.model, record.usage, visit.prompt_size)
        self._metrics.request_done(record)
        self._journal.request(record)
        self._decisions.put(record)

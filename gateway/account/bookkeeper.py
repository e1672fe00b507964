"""Closes the books on each request: the bill, the metrics, the log line, the record, and what the fleet learns from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import structs

from gateway.account.costs import Usage, add_usage, cost_usd, dearest
from gateway.account.journal import Journal
from gateway.account.ledger import Ledger
from gateway.account.metrics import Metrics
from gateway.account.planned import Planned
from gateway.account.records import Record
from gateway.account.visit import Visit
from gateway.fleet import Fleet
from gateway.guard.limits import Limits
from gateway.memory.decisions import Decisions
from gateway.memory.feed import Feed
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
        feed: Feed,
    ) -> None:
        self._fleet = fleet
        self._prices = {route: dearest(fleet[name].model.price for name in names) for route, names in candidates.items()}
        self._metrics = metrics
        self._journal = journal
        self._ledger = ledger
        self._decisions = decisions
        self._limits = limits
        self._feed = feed

    def bill(self, record: Record) -> None:
        """Works out what the answer cost, and what the dearest candidate would have cost for the same tokens."""
        model = record.model or record.decision.choice.model
        tokens = record.usage
        price = self._fleet[model].model.price
        record.cost_usd = cost_usd(price, tokens)
        if record.planned is not None and record.planned.rounds:
            record.planned.answer_cost_usd = record.cost_usd
            record.cost_usd = _whole_cost(record, record.planned)
            tokens = tokens or _tokens_of_answer(record.planned, model)
        prices = (price,) if record.decision.route is None else self._prices.get(record.decision.route, (price,))
        costs = [cost for one in prices if (cost := cost_usd(one, tokens)) is not None]
        record.baseline_cost_usd = max(costs) if costs else None

    def close(self, visit: Visit, endpoint: Endpoint, now: float) -> None:
        """The request is over, however it went."""
        record = visit.record
        if record is None:
            status, code = visit.status or 500, visit.code or "internal_error"
            self._metrics.request_refused(endpoint, code, status, now - visit.started, visit.trace.id)
            self._journal.refused(visit, endpoint, status, code, now - visit.started)
            visit.trace.end(visit, endpoint)
            return
        record.seconds, record.trace_id = now - visit.started, visit.trace_id
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
        self._metrics.request_done(record, visit.trace.id)
        self._journal.request(record)
        kept = record if record.planned is None else structs.replace(record, planned=record.planned.shortened())
        self._ledger.request(kept if record.text is None else record)
        self._decisions.put(kept)
        self._feed.publish(kept)
        visit.trace.end(visit, endpoint)

    def _estimate(self, visit: Visit, record: Record) -> Usage:
        """What a model has done of which no count came: it read the prompt, and it wrote what came through."""
        prompt = record.decision.prompt_tokens
        if record.planned is not None:  # its planner may have made the prompt
            prompt = self._fleet.estimate.tokens(visit.prompt_size)
        if record.endpoint == "embeddings":
            return Usage(prompt)
        return Usage(prompt, visit.streamed if record.stream else self._fleet.estimate.tokens(visit.answer_size))

    def _settle(self, visit: Visit, record: Record) -> None:
        if visit.grant is None:
            return
        usage = record.usage if record.planned is None else add_usage(record.usage, record.planned.usage)
        if usage is None:
            self._limits.release(visit.grant)
        else:
            tokens = None if usage.prompt_tokens is None else usage.prompt_tokens + (usage.completion_tokens or 0)
            self._limits.settle(visit.grant, tokens, record.cost_usd)
        for more in visit.grants:  # what all asks cost is charged to the first
            self._limits.release(more)


def _whole_cost(record: Record, planned: Planned) -> float | None:
    """What the answer and all that was asked before it cost; None if a part of it is unknown."""
    own, before = planned.answer_cost_usd, planned.cost_usd
    if record.usage is None:
        return before
    return None if own is None or before is None else own + before


def _tokens_of_answer(planned: Planned, model: str) -> Usage | None:
    """Of the last ask that this model answered."""
    return next((Usage(turn.tokens_in, turn.tokens_out) for turn in reversed(planned.turns) if turn.model == model), None)

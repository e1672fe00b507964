"""Sums over the ledger, by whatever its records tell apart."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from msgspec import structs

from gateway.account.ledger import Entry, RequestEntry
from gateway.account.ledger_rounds import RoundEntry

Key = str | int | None

KEYS: Mapping[str, Callable[[RequestEntry], Key]] = {
    "route": lambda entry: entry.route,
    "model": lambda entry: entry.model,
    "key": lambda entry: entry.caller,
    "status": lambda entry: entry.status,
    "reason": lambda entry: entry.reason,
    "cache": lambda entry: entry.cache,
    "day": lambda entry: datetime.fromtimestamp(entry.time, UTC).date().isoformat(),
}
"""What sums can be taken by. `model`: that answered, None where none did; what others were asked before counts as theirs. `day`: UTC."""


@dataclass(frozen=True, slots=True)
class Sum:
    """Of a group of requests. `unknown_costs`: requests whose cost is not known, and so not, or not all of it, in `cost_usd`; None where
    nothing is known. Tokens and costs are those of all asks of which an answer was made, each in the group of the model that was asked.

    `errors`: requests that had no answer, or not the whole of it. `saved_usd`: baseline less cost, of the requests that have both;
    `saved_share`: of their baseline. `p50_ms`, `p95_ms`: of the whole request, by nearest rank.
    """

    requests: int
    errors: int
    unknown_costs: int
    prompt_tokens: int | None
    completion_tokens: int | None
    cost_usd: float | None
    baseline_cost_usd: float | None
    saved_usd: float | None
    saved_share: float | None
    p50_ms: float | None
    p95_ms: float | None


@dataclass(slots=True)
class _Group:
    """What was met of a group. Every number is kept, eight bytes each, so that sums are exact and percentiles are too."""

    requests: int = 0
    errors: int = 0
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    costs: array[float] = field(default_factory=lambda: array("d"))
    asks: array[float] = field(default_factory=lambda: array("d"))
    baselines: array[float] = field(default_factory=lambda: array("d"))
    compared: array[float] = field(default_factory=lambda: array("d"))  # cost and baseline in turn
    times: array[float] = field(default_factory=lambda: array("d"))

    def add(self, entry: RequestEntry) -> None:
        self.requests += 1
        self.errors += entry.error is not None or entry.status is None or entry.status >= 400
        if entry.usage is not None:
            self.prompt_tokens = _plus(self.prompt_tokens, entry.usage.prompt_tokens)
            self.completion_tokens = _plus(self.completion_tokens, entry.usage.completion_tokens)
        own = entry.own_cost_usd
        if own is not None:
            self.costs.append(own)
        if entry.baseline_cost_usd is not None:
            self.baselines.append(entry.baseline_cost_usd)
            if entry.cost_usd is not None:
                self.compared.extend((entry.cost_usd, entry.baseline_cost_usd))
        if entry.ms is not None:
            self.times.append(entry.ms)

    def add_ask(self, ask: RoundEntry) -> None:
        """An ask before an answer; the request itself is counted where the answer is."""
        self.prompt_tokens = _plus(self.prompt_tokens, ask.prompt_tokens)
        self.completion_tokens = _plus(self.completion_tokens, ask.completion_tokens)
        if ask.cost_usd is not None:
            self.asks.append(ask.cost_usd)

    def sum(self) -> Sum:
        costs, baselines = self.compared[::2], self.compared[1::2]
        saved = math.fsum([*baselines, *(-cost for cost in costs)]) if costs else None
        whole = math.fsum(baselines)
        times = sorted(self.times)
        return Sum(
            self.requests,
            self.errors,
            self.requests - len(self.costs),
            self.prompt_tokens,
            self.completion_tokens,
            math.fsum([*self.costs, *self.asks]) if self.costs or self.asks else None,
            math.fsum(self.baselines) if self.baselines else None,
            saved,
            saved / whole if saved is not None and whole > 0 else None,
            _percentile(times, 50),
            _percentile(times, 95),
        )


def _plus(sum_so_far: int | None, more: int | None) -> int | None:
    return sum_so_far if more is None else (sum_so_far or 0) + more


def _percentile(ordered: Sequence[float], percent: int) -> float | None:
    return ordered[-(-len(ordered) * percent // 100) - 1] if ordered else None


def sum_up(entries: Iterable[Entry], by: Sequence[str]) -> tuple[dict[tuple[Key, ...], Sum], Sum]:
    """The sums of all requests by the values of `by` (names in KEYS), most requests first, and the sum of them all."""
    ways = [KEYS[name] for name in by]
    groups: dict[tuple[Key, ...], _Group] = {}
    total = _Group()
    for entry in entries:
        if isinstance(entry, RequestEntry):
            groups.setdefault(tuple(way(entry) for way in ways), _Group()).add(entry)
            total.add(entry)
            for ask in entry.asks:
                asked = structs.replace(entry, model=ask.model)
                groups.setdefault(tuple(way(asked) for way in ways), _Group()).add_ask(ask)
                total.add_ask(ask)
    order = sorted(groups, key=lambda key: (-groups[key].requests, tuple("" if part is None else str(part) for part in key)))
    return {key: groups[key].sum() for key in order}, total.sum()

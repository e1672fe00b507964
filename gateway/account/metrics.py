"""All metrics of the gateway, defined once. Every label value comes from a closed set; anything else is `other`."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from gateway.account.planned import Planned
from gateway.account.records import Record

OTHER = "other"
OPENMETRICS = "application/openmetrics-text"
MOST_BACKENDS = 1000
"""Names of backends that labels may carry; those that come later are `other`."""

NO_ROUTE = "none"
"""The route label of requests that name a model themselves."""

_FAST = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1)
_ANSWER = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640)
_CALLS = (1, 2, 3, 4, 6, 8, 16, 32, 64)
_FIRST_TOKEN = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 128)


@dataclass(frozen=True, slots=True)
class BackendState:
    """A backend as a scrape sees it. `breaker`: 0 closed, 1 half-open, 2 open. None: unknown."""

    model: str
    backend: str
    up: bool
    inflight: int
    breaker: int
    waiting: float | None = None
    limit: float | None = None


class _Backends:
    """Reads the state of the backends when it is scraped, so that requests need not write gauges."""

    def __init__(self, states: Callable[[], Iterable[BackendState]]) -> None:
        self._states = states

    def collect(self) -> Iterable[Metric]:
        labels = ("model", "backend")
        up = GaugeMetricFamily("pointsman_backend_up", "1 if the backend can serve", labels=labels)
        inflight = GaugeMetricFamily("pointsman_backend_inflight", "requests that run on the backend", labels=labels)
        waiting = GaugeMetricFamily("pointsman_backend_waiting", "requests that wait in the backend", labels=labels)
        breaker = GaugeMetricFamily("pointsman_breaker_state", "0 closed, 1 half-open, 2 open", labels=labels)
        limit = GaugeMetricFamily("pointsman_backend_limit", "requests that it gets at a time", labels=labels)
        for state in self._states():
            names = (state.model, state.backend)
            up.add_metric(names, float(state.up))
            inflight.add_metric(names, state.inflight)
            breaker.add_metric(names, state.breaker)
            if state.waiting is not None:
                waiting.add_metric(names, state.waiting)
            if state.limit is not None:
                limit.add_metric(names, state.limit)
        return (up, inflight, waiting, breaker, limit)


class _Bound:
    """What the requests of one kind write to, with its labels bound once, since looking them up costs more than counting. What only adds
    up is kept here until `flush`: eight calls of `inc` took 3 % of a cached request.
    """

    __slots__ = (
        "_answered",
        "_baseline",
        "_cache",
        "_completion",
        "_cost",
        "_decided",
        "_prompt",
        "baseline_usd",
        "completion_tokens",
        "cost_usd",
        "duration",
        "first_token",
        "overhead",
        "prompt_tokens",
        "requests",
    )

    def __init__(self, metrics: Metrics, record: Record) -> None:
        choice = record.decision.choice
        route = metrics.route_label(record.decision.route)
        model = metrics.model_label(record.model or choice.model)
        self.requests = self.prompt_tokens = self.completion_tokens = 0
        self.cost_usd = self.baseline_usd = 0.0
        self.duration = metrics.request_duration.labels(record.endpoint, route, model)
        self.first_token = metrics.first_token.labels(route, model)
        self.overhead = metrics.overhead.labels(record.endpoint)
        self._answered = metrics.requests.labels(record.endpoint, route, model, str(record.status))
        self._decided = metrics.decisions.labels(route, metrics.model_label(choice.model), choice.reason)
        self._cache = metrics.decision_cache.labels(record.decision.cache)
        self._prompt = metrics.tokens.labels(model, "prompt")
        self._completion = metrics.tokens.labels(model, "completion")
        self._cost = metrics.cost.labels(route, model)
        self._baseline = metrics.baseline_cost.labels(route)

    def flush(self) -> None:
        """Brings the counters up to date."""
        if not self.requests:
            return
        for counter in (self._answered, self._decided, self._cache):
            counter.inc(self.requests)
        self._prompt.inc(self.prompt_tokens)
        self._completion.inc(self.completion_tokens)
        self._cost.inc(self.cost_usd)
        self._baseline.inc(self.baseline_usd)
        self.requests = self.prompt_tokens = self.completion_tokens = 0
        self.cost_usd = self.baseline_usd = 0.0


class _Shown(Collector):
    """All series but those that once were: what is in force no more is left out, though its last value stands in the registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self.hidden: frozenset[str] = frozenset()

    def collect(self) -> Iterable[Metric]:
        for metric in self._registry.collect():
            if metric.name == "pointsman_config_info":
                metric.samples = [sample for sample in metric.samples if sample.value]
            if metric.name not in self.hidden:
                yield metric


class Metrics:
    """All that is counted, from the process's start to its end, whatever configurations come and go meanwhile."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self._models: frozenset[str] = frozenset()
        self._routes: frozenset[str] = frozenset({NO_ROUTE})
        self._backends: set[str] = set()
        self._bound: dict[tuple[object, ...], _Bound] = {}
        self._counters: dict[tuple[object, ...], Counter] = {}
        self._attempts: dict[tuple[str, str, str], int] = {}
        self._watched: dict[Gauge, Callable[[], float]] = {}
        self._counted: dict[Gauge, float] = {}
        self._states: Callable[[], Iterable[BackendState]] = tuple
        self._configs: set[Gauge] = set()
        self._shared: CollectorRegistry | None = None
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:  # set by the supervisor before prometheus_client was imported
            self._shared = CollectorRegistry()
            MultiProcessCollector(self._shared)  # type: ignore[no-untyped-call]
        self._define_requests()
        self._define_decisions()
        self._define_state()
        shown = self._shared or self.registry
        shown.register(_Backends(lambda: self._states()))
        self._shown = _Shown(shown)

    def _define_requests(self) -> None:
        counter, histogram = self._counter, self._histogram
        self.requests = counter("requests", "requests by endpoint, route, model and HTTP status", "endpoint", "route", "model", "code")
        self.request_duration = histogram(
            "request_duration_seconds", "from the request's head to the answer's last byte", _ANSWER, "endpoint", "route", "model"
        )
        self.first_token = histogram("time_to_first_token_seconds", "streams: to the first byte", _FIRST_TOKEN, "route", "model")
        self.overhead = histogram("overhead_seconds", "time in the gateway itself, before the first byte", _FAST, "endpoint")
        self.tokens = counter("tokens", "tokens by model and kind (prompt, completion)", "model", "kind")
        self.cost = counter("cost_usd", "what the answers cost", "route", "model")
        self.baseline_cost = counter("baseline_cost_usd", "the same tokens at the dearest candidate's price", "route")
        self.attempts = counter("attempts", "calls to backends", "model", "backend", "outcome")
        self.rejections = counter("rejections", "requests answered by an error of the gateway, by error code", "reason")
        self.rejections.labels("budget_exceeded")  # an alert wants to see its first one, which a series born at 1 would hide

    def _define_decisions(self) -> None:
        counter, histogram = self._counter, self._histogram
        self.decision_duration = histogram("decision_duration_seconds", "to decide", _FAST, "route")
        self.plugin_duration = histogram("plugin_duration_seconds", "spent in a plugin for one decision", _FAST, "plugin")
        self.plugin_errors = counter("plugin_errors", "opinions dropped since the plugin failed", "plugin")
        self.decisions = counter("decisions", "decisions by route, chosen model and reason", "route", "model", "reason")
        self.decision_cache = counter("decision_cache", "look-ups of decisions: hit, miss, pin, bypass", "result")
        self.rounds = histogram("rounds", "calls to models for one answer, where a planner may make several", _CALLS, "route")

    def _define_state(self) -> None:
        self.event_loop_lag = Gauge(
            "pointsman_event_loop_lag_seconds", "how late the event loop is", registry=self.registry, multiprocess_mode="livemax"
        )
        self._config_info = Gauge(
            "pointsman_config_info",
            "the configuration in force",
            ["hash", "version"],
            registry=self.registry,
            multiprocess_mode="livemax",
        )
        self.reloads = self._counter("reloads", "configurations that were read after the start, by result: ok, failed", "result")
        for result in ("ok", "failed"):
            self.reloads.labels(result)
        self.redis_failures = self._counter("redis_failures", "calls to Redis that failed, by reason", "reason")
        self.limits_local = self._counter("limits_local", "allowances that this process kept by itself while Redis was away")
        self.dropped = Gauge(
            "pointsman_dropped", "entries that bounded queues have dropped", ["queue"], registry=self.registry, multiprocess_mode="sum"
        )
        self.ejections = self._counter("ejections", "how often a backend was taken out of its pool for a while", "model", "backend")
        help_text = "callers of whose budgets a tenth or less is left"
        self.budgets = Gauge("pointsman_budgets_nearly_spent", help_text, registry=self.registry, multiprocess_mode="livemax")
        self.failures = Gauge(
            "pointsman_failures", "readings and writings that failed so far", ["of"], registry=self.registry, multiprocess_mode="max"
        )
        self.sizes = Gauge("pointsman_size", "entries in bounded stores", ["store"], registry=self.registry, multiprocess_mode="livesum")
        self._redis_up = Gauge("pointsman_redis_up", "1 if Redis can be used", registry=self.registry, multiprocess_mode="livemin")
        help_text = "how often Redis went away or came back"
        self._redis_changes = Gauge("pointsman_redis_changes", help_text, registry=self.registry, multiprocess_mode="max")

    def follow(self, models: Collection[str], routes: Collection[str], config_hash: str, version: str) -> None:
        """Another configuration is in force: labels may carry these names from now on. Whatever was watched is watched no more."""
        self.refresh()
        self._models, self._routes = frozenset(models), frozenset(routes) | {NO_ROUTE}
        self._bound.clear()
        for gauge in self._configs:
            gauge.set(0)
        in_force = self._config_info.labels(config_hash, version)
        in_force.set(1)
        self._configs = {in_force}
        for gauge in self._watched:
            if gauge not in self._counted:
                gauge.set(0)
        self._watched.clear()
        self._shown.hidden = frozenset({"pointsman_redis_up", "pointsman_redis_changes"})

    def watch(self, gauge: Gauge, value: Callable[[], float]) -> None:
        """Sets the gauge whenever `refresh` is called."""
        self._watched[gauge] = value

    def watch_count(self, gauge: Gauge, value: Callable[[], float]) -> None:
        """The same for a number that only grows: where another part goes on counting from 0, the gauge goes on from where it was."""
        started = value()
        shown = self._counted.get(gauge, started)

        def count() -> float:
            self._counted[gauge] = found = shown + value() - started
            return found

        self._counted[gauge] = shown
        self.watch(gauge, count)

    def watch_redis(self, up: Callable[[], bool], changes: Callable[[], int]) -> None:
        """Only called where there is a Redis: without one the metrics are absent. `changes`: how often `up` has changed."""
        self._shown.hidden = frozenset()
        self.watch(self._redis_up, lambda: float(up()))
        self.watch_count(self._redis_changes, changes)

    def refresh(self) -> None:
        """Brings what is watched or added up to date: now and then, so that other workers' scrapes see it too."""
        for bound in self._bound.values():
            bound.flush()
        attempts, self._attempts = self._attempts, {}
        for (model, backend, outcome), times in attempts.items():
            self.count(self.attempts, model, self._backend_label(backend), outcome, amount=times)
        for gauge, value in self._watched.items():
            gauge.set(value())

    def watch_backends(self, states: Callable[[], Iterable[BackendState]]) -> None:
        """`states` is called at each scrape. Of several workers, each shows its own view of the backends."""
        self._states = states

    def request_done(self, record: Record, trace_id: str | None = None) -> None:
        """Counts one routed request. `trace_id`: of its trace, an exemplar for its times; None where it is not traced."""
        decision = record.decision
        choice = decision.choice
        key = (record.endpoint, decision.route, record.model, record.status, choice.model, choice.reason, decision.cache)
        bound = self._bound.get(key)
        if bound is None:
            bound = self._bound[key] = _Bound(self, record)
        bound.requests += 1
        exemplar = None if trace_id is None else {"trace_id": trace_id}
        if record.seconds is not None:
            bound.duration.observe(record.seconds, exemplar)
        if record.overhead_seconds is not None:
            bound.overhead.observe(record.overhead_seconds, exemplar)
        if record.stream and record.first_byte_seconds is not None:
            bound.first_token.observe(record.first_byte_seconds, exemplar)
        self._count_bill(record, bound)
        for attempt in record.attempts:
            tried = (attempt.model, attempt.backend, attempt.outcome)
            self._attempts[tried] = self._attempts.get(tried, 0) + 1

    def request_refused(self, endpoint: str, code: str, status: int, seconds: float, trace_id: str | None = None) -> None:
        """Counts a request that ended before there was a decision."""
        self.count(self.requests, endpoint, NO_ROUTE, OTHER, str(status))
        if status >= 400:
            self.count(self.rejections, code)
        exemplar = None if trace_id is None else {"trace_id": trace_id}
        self.request_duration.labels(endpoint, NO_ROUTE, OTHER).observe(seconds, exemplar)

    def backend_ejected(self, model: str, backend: str, times: int = 1) -> None:
        """Counts an ejection. `times`: 0 where there is none yet, so that a first one is seen as a step from 0."""
        self.count(self.ejections, self.model_label(model), self._backend_label(backend), amount=times)

    def _backend_label(self, name: str) -> str:
        """Backends that are found come and go, and each would leave series behind for ever."""
        if name not in self._backends and len(self._backends) < MOST_BACKENDS:
            self._backends.add(name)
        return name if name in self._backends else OTHER

    def _count_bill(self, record: Record, bound: _Bound) -> None:
        usage = record.usage
        if usage is not None:
            if usage.prompt_tokens is not None:
                bound.prompt_tokens += usage.prompt_tokens
            if usage.completion_tokens is not None:
                bound.completion_tokens += usage.completion_tokens
        if record.planned is not None:
            self._count_rounds(record, record.planned, bound)
        elif record.cost_usd is not None:
            bound.cost_usd += record.cost_usd
        if record.baseline_cost_usd is not None:
            bound.baseline_usd += record.baseline_cost_usd

    def _count_rounds(self, record: Record, planned: Planned, bound: _Bound) -> None:
        """Every ask counts under the model that answered it."""
        route = self.route_label(record.decision.route)
        self.rounds.labels(route).observe(planned.calls)
        own = planned.answer_cost_usd if planned.rounds else record.cost_usd
        if own is not None:
            bound.cost_usd += own
        for turn in planned.turns:
            model = self.model_label(turn.model)
            if turn.tokens_in is not None:
                self.count(self.tokens, model, "prompt", amount=turn.tokens_in)
            if turn.tokens_out is not None:
                self.count(self.tokens, model, "completion", amount=turn.tokens_out)
            if turn.cost_usd is not None:
                self.count(self.cost, route, model, amount=turn.cost_usd)

    def count(self, counter: Counter, *labels: str, amount: float = 1) -> None:
        """Adds to a counter. The labels must come from closed sets: their children are kept for good."""
        key = (counter, *labels)
        child = self._counters.get(key)
        if child is None:
            child = self._counters[key] = counter.labels(*labels)
        child.inc(amount)

    def route_label(self, route: str | None) -> str:
        return NO_ROUTE if route is None else route if route in self._routes else OTHER

    def model_label(self, model: str | None) -> str:
        return model if model in self._models else OTHER

    def text(self) -> bytes:
        """The exposition, as Prometheus reads it: of all workers, where there are several."""
        return self.exposition("")[0]

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """The same and its media type. `accept`: what the reader takes; who takes OpenMetrics gets that, which alone carries exemplars.

        The library's own choice by this header breaks where it names a version that is none.
        """
        self.refresh()
        if OPENMETRICS in accept.lower():
            return openmetrics.generate_latest(self._shown), openmetrics.CONTENT_TYPE_LATEST  # type: ignore[no-untyped-call]
        return generate_latest(self._shown), CONTENT_TYPE_PLAIN_0_0_4

    def _counter(self, name: str, help_text: str, *labels: str) -> Counter:
        return Counter(f"pointsman_{name}", help_text, labels, registry=self.registry)

    def _histogram(self, name: str, help_text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"pointsman_{name}", help_text, labels, buckets=buckets, registry=self.registry)

"""What the gateway counts, read from its own registry. `python -m tests.metric_families` prints the golden file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from prometheus_client.metrics import MetricWrapperBase

from gateway.account.metrics import BackendState, Metrics


@dataclass(frozen=True, slots=True)
class Family:
    """A metric. `name`: without the endings that its series have."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str

    def series(self) -> Mapping[str, frozenset[str]]:
        """The names of its series, with the labels of each."""
        labels = frozenset(self.labels)
        if self.kind == "counter":
            return {f"{self.name}_total": labels}
        if self.kind == "histogram":
            return {f"{self.name}_bucket": labels | {"le"}, f"{self.name}_sum": labels, f"{self.name}_count": labels}
        return {self.name: labels}

    def line(self) -> str:
        """As the golden file has it."""
        shown = self.name + ("_total" if self.kind == "counter" else "")
        return f"{shown}{{{','.join(self.labels)}}} {self.kind}: {self.help}"


def families() -> tuple[Family, ...]:
    """Every metric of a gateway, whether or not something was counted yet, by name."""
    metrics = Metrics()
    metrics.watch_backends(lambda: [BackendState("model", "backend", True, 0, 0, 0.0, 1.0)])
    return tuple(sorted(_found(metrics), key=lambda family: family.name))


def _found(metrics: Metrics) -> Iterable[Family]:
    for collector in metrics.registry._collector_to_names:
        if isinstance(collector, MetricWrapperBase):  # a metric without children shows its labels nowhere else
            for metric in collector.describe():
                yield Family(metric.name, metric.type, tuple(collector._labelnames), metric.documentation)
        else:
            for metric in collector.collect():
                yield Family(metric.name, metric.type, tuple(metric.samples[0].labels), metric.documentation)


def golden() -> str:
    return "".join(family.line() + "\n" for family in families())


if __name__ == "__main__":
    print(golden(), end="")

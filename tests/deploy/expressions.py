"""What an expression of PromQL reads, and which labels its result has. Parsed by promql-parser."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import promql_parser as promql
import yaml

from tests.metric_families import families

ROOT = Path(__file__).resolve().parent.parent.parent
DASHBOARDS = ROOT / "deploy/grafana/dashboards"
PROMETHEUS = ROOT / "deploy/prometheus"

Labels: TypeAlias = frozenset[str]
Known: TypeAlias = Mapping[str, Labels]

TARGET: Labels = frozenset({"job", "instance", "namespace"})
"""What Prometheus adds to every series of a target; `namespace` in Kubernetes."""

PROMETHEUS_ITSELF: Known = {
    "up": TARGET,
    "ALERTS": TARGET | {"alertname", "alertstate", "severity", "route", "model", "backend", "plugin"},
}


class Unknown(Exception):
    """An expression names a series or a label that does not exist."""


def gateway_series() -> Known:
    """The series of every gateway, with their labels, as its registry has them."""
    return {name: labels | TARGET for family in families() for name, labels in family.series().items()}


def rules() -> list[dict[str, Any]]:
    """The recording rules, in order."""
    return _rules("rules.yaml")


def alerts() -> list[dict[str, Any]]:
    return _rules("alerts.yaml")


def _rules(file: str) -> list[dict[str, Any]]:
    groups = yaml.safe_load((PROMETHEUS / file).read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def known_series() -> Known:
    """The gateway's, Prometheus's own, and what the recording rules make of them. Raises Unknown."""
    known = {**gateway_series(), **PROMETHEUS_ITSELF}
    for rule in rules():
        known[rule["record"]] = labels_of(rule["expr"], known)
    return known


def names(expr: str) -> set[str]:
    """The series that an expression reads."""
    found = set()

    def visit(node: promql.Expr) -> None:
        if isinstance(node, promql.VectorSelector):
            found.add(str(node.name))

    promql.walk(promql.parse(expr), visit)
    return found


def without_variables(expr: str) -> str:
    """A dashboard's expression as Prometheus gets it when everything is chosen."""
    expr = expr.replace("$__rate_interval", "1m").replace("$__range", "10m")
    return re.sub(r"\$[a-z]+", ".*", expr)


def labels_of(expr: str, known: Known) -> Labels:
    """The labels that the result may have. Raises Unknown, and ValueError for what is no PromQL."""
    return _labels(promql.parse(expr), known)


def _labels(node: promql.Expr, known: Known) -> Labels:
    if isinstance(node, promql.VectorSelector):
        return _selected(node, known)
    if isinstance(node, promql.MatrixSelector):
        return _selected(node.vector_selector, known)
    if isinstance(node, promql.ParenExpr | promql.SubqueryExpr | promql.UnaryExpr):
        return _labels(node.expr, known)
    if isinstance(node, promql.AggregateExpr):
        return _aggregated(node, known)
    if isinstance(node, promql.BinaryExpr):
        return _joined(node, known)
    if isinstance(node, promql.Call):
        inner = frozenset[str]().union(*(_labels(argument, known) for argument in node.args))
        dropped = {"histogram_quantile": {"le"}, "scalar": inner, "vector": inner, "absent": inner}
        return inner - dropped.get(node.func.name, set())
    return frozenset()


def _selected(node: promql.VectorSelector, known: Known) -> Labels:
    if node.name is None or node.name not in known:
        raise Unknown(f"there is no series {node.name!r}")
    labels = known[node.name]
    for matcher in node.matchers.matchers:
        _expect({matcher.name}, labels, node)
    return labels


def _aggregated(node: promql.AggregateExpr, known: Known) -> Labels:
    labels = _labels(node.expr, known)
    if node.modifier is None:
        return frozenset()
    _expect(set(node.modifier.labels), labels, node)
    named = frozenset(node.modifier.labels)
    return named if node.modifier.type == promql.AggModifierType.By else labels - named


def _joined(node: promql.BinaryExpr, known: Known) -> Labels:
    left, right, modifier = _labels(node.lhs, known), _labels(node.rhs, known), node.modifier
    if _is_scalar(node.lhs):
        return right
    if _is_scalar(node.rhs):
        return left
    if modifier is not None and modifier.card == promql.VectorMatchCardinality.ManyToMany:
        return left | right
    if modifier is not None and modifier.matching is not None:
        _expect(set(modifier.matching.labels), left & right, node)
    elif left != right:
        raise Unknown(f"the sides of {node.prettify()} have other labels: {sorted(left ^ right)}")
    return left


def _is_scalar(node: promql.Expr) -> bool:
    if isinstance(node, promql.BinaryExpr):
        return _is_scalar(node.lhs) and _is_scalar(node.rhs)
    if isinstance(node, promql.ParenExpr | promql.UnaryExpr):
        return _is_scalar(node.expr)
    return isinstance(node, promql.NumberLiteral) or (isinstance(node, promql.Call) and node.func.name == "scalar")


def _expect(wanted: set[str], labels: Labels, node: promql.Expr) -> None:
    if wanted - labels:
        raise Unknown(f"no label {sorted(wanted - labels)} in {node.prettify()}; there are {sorted(labels)}")

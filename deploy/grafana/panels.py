"""What dashboards are made of, and the JSON that Grafana reads for it.

The classic dashboard model, which Grafana 10 to 13 import. Our own few lines rather than grafana-foundation-sdk: that is 4.8 MB for four
kinds of panels, its releases are tied to one Grafana minor version each, and it leaves `refId`, `id` and the panels' options to its users.
"""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Json: TypeAlias = dict[str, Any]
Kind = Literal["stat", "timeseries", "state-timeline", "table"]
Unit = Literal["s", "reqps", "cps", "percentunit", "currencyUSD", "short", "none"]
Stacking = Literal["none", "normal", "percent"]

COLUMNS = 24
SOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}
GREEN, ORANGE, RED = "green", "orange", "red"


@dataclass(frozen=True, slots=True)
class Query:
    """PromQL, and what its series are called; `{{label}}` in `legend` stands for a label's value."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture. `width` of 24 columns; `height` in rows of 30 px. `description`: what it shows, and what to make of it.

    `top`: where the axis ends. `steps`: the colour from a value on; that of the first is None. `states`: a number's name and its colour.
    """

    title: str
    description: str
    queries: Sequence[Query]
    kind: Kind = "timeseries"
    unit: Unit = "short"
    width: int = 8
    height: int = 8
    stacking: Stacking = "none"
    top: float | None = None
    steps: Sequence[tuple[str, float | None]] = ((GREEN, None),)
    states: Mapping[int, tuple[str, str]] | None = None
    decimals: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under a heading; they fill lines of 24 columns."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True)
class Variable:
    """A choice at the top: values of `label` in the series of `metric`."""

    name: str
    title: str
    metric: str
    label: str


@dataclass(frozen=True, slots=True)
class Dashboard:
    uid: str
    title: str
    description: str
    variables: Sequence[Variable]
    rows: Sequence[Row]


def document(dashboard: Dashboard) -> Json:
    """The dashboard as Grafana imports it."""
    return {
        "annotations": {"list": [_alerts()]},
        "description": dashboard.description,
        "editable": True,
        "fiscalYearStartMonth": 0,
        "graphTooltip": 1,
        "id": None,
        "links": [_links()],
        "panels": list(_placed(dashboard.rows)),
        "preload": False,
        "refresh": "30s",
        "schemaVersion": 41,
        "tags": ["pointsman"],
        "templating": {"list": [_source(), *(_choice(variable) for variable in dashboard.variables)]},
        "time": {"from": "now-1h", "to": "now"},
        "timepicker": {},
        "timezone": "browser",
        "title": dashboard.title,
        "uid": dashboard.uid,
        "version": 1,
        "weekStart": "",
    }


def _placed(rows: Sequence[Row]) -> Iterator[Json]:
    """Rows and panels one below the other, from left to right. Raises ValueError if a line is not filled."""
    top, number = 0, 0
    for row in rows:
        number += 1
        yield {
            "collapsed": False,
            "gridPos": {"h": 1, "w": COLUMNS, "x": 0, "y": top},
            "id": number,
            "panels": [],
            "title": row.title,
            "type": "row",
        }
        top, left = top + 1, 0
        for panel in row.panels:
            number += 1
            yield _panel(panel, number, {"h": panel.height, "w": panel.width, "x": left, "y": top})
            left += panel.width
            if left == COLUMNS:
                top, left = top + panel.height, 0
        if left:
            raise ValueError(f"the panels of the row {row.title!r} leave {COLUMNS - left} columns empty")


def _panel(panel: Panel, number: int, place: Json) -> Json:
    return {
        "datasource": SOURCE,
        "description": panel.description,
        "fieldConfig": {"defaults": _field(panel), "overrides": []},
        "gridPos": place,
        "id": number,
        "options": _options(panel),
        "targets": [_target(query, letter, panel.kind) for query, letter in zip(panel.queries, string.ascii_uppercase, strict=False)],
        "title": panel.title,
        "transformations": [_flat()] if panel.kind == "table" else [],
        "type": panel.kind,
    }


def _target(query: Query, letter: str, kind: Kind) -> Json:
    instant = kind in ("stat", "table")
    return {
        "datasource": SOURCE,
        "editorMode": "code",
        "exemplar": False,
        "expr": query.expr,
        "format": "table" if kind == "table" else "time_series",
        "instant": instant,
        "legendFormat": query.legend or "__auto",
        "range": not instant,
        "refId": letter,
    }


def _field(panel: Panel) -> Json:
    found: Json = {
        "color": {"mode": "palette-classic" if panel.kind in ("timeseries", "table") else "thresholds"},
        "mappings": [_mapping(panel.states)] if panel.states else [],
        "thresholds": {"mode": "absolute", "steps": [{"color": color, "value": value} for color, value in panel.steps]},
        "unit": panel.unit,
    }
    if panel.decimals is not None:
        found["decimals"] = panel.decimals
    if panel.kind == "timeseries":
        found["min"] = 0
        found["custom"] = {
            "drawStyle": "line",
            "fillOpacity": 10 if panel.stacking == "none" else 60,
            "lineInterpolation": "linear",
            "lineWidth": 1,
            "showPoints": "never",
            "spanNulls": False,
            "stacking": {"group": "A", "mode": panel.stacking},
            "thresholdsStyle": {"mode": "line" if len(panel.steps) > 1 else "off"},
        }
        if panel.top is not None:
            found["max"] = panel.top
    if panel.kind == "state-timeline":
        found["custom"] = {"fillOpacity": 80, "lineWidth": 0}
    return found


def _options(panel: Panel) -> Json:
    if panel.kind == "stat":
        reduced = {"calcs": ["lastNotNull"], "fields": "", "values": False}
        return {"colorMode": "value", "graphMode": "none", "justifyMode": "auto", "reduceOptions": reduced, "textMode": "auto"}
    if panel.kind == "table":
        return {"cellHeight": "sm", "showHeader": True}
    shown: Json = {"displayMode": "list", "placement": "bottom", "showLegend": True}
    tooltip = {"mode": "multi", "sort": "desc"}
    if panel.kind == "state-timeline":
        return {"alignValue": "left", "legend": shown, "mergeValues": True, "rowHeight": 0.8, "showValue": "never", "tooltip": tooltip}
    return {"legend": {**shown, "calcs": []}, "tooltip": tooltip}


def _mapping(states: Mapping[int, tuple[str, str]]) -> Json:
    options = {str(value): {"color": color, "index": place, "text": text} for place, (value, (text, color)) in enumerate(states.items())}
    return {"options": options, "type": "value"}


def _flat() -> Json:
    """A table without the time, which is the same in each line."""
    return {"id": "organize", "options": {"excludeByName": {"Time": True}, "indexByName": {}, "renameByName": {}}}


def _source() -> Json:
    return {
        "label": "Data source",
        "name": "datasource",
        "options": [],
        "query": "prometheus",
        "refresh": 1,
        "regex": "",
        "type": "datasource",
    }


def _choice(variable: Variable) -> Json:
    query = f"label_values({variable.metric}, {variable.label})"
    return {
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "datasource": SOURCE,
        "definition": query,
        "includeAll": True,
        "label": variable.title,
        "multi": True,
        "name": variable.name,
        "options": [],
        "query": {"query": query, "refId": "PrometheusVariableQueryEditor-VariableQuery"},
        "refresh": 2,
        "regex": "",
        "sort": 1,
        "type": "query",
    }


def _alerts() -> Json:
    """Firing alerts as marks in every picture."""
    return {
        "datasource": SOURCE,
        "enable": True,
        "expr": 'ALERTS{alertname=~"Pointsman.*", alertstate="firing"}',
        "iconColor": RED,
        "name": "Alerts",
        "step": "30s",
        "tagKeys": "severity",
        "textFormat": "{{route}} {{model}} {{backend}}",
        "titleFormat": "{{alertname}}",
    }


def _links() -> Json:
    return {
        "asDropdown": False,
        "icon": "external link",
        "includeVars": True,
        "keepTime": True,
        "tags": ["pointsman"],
        "targetBlank": False,
        "title": "",
        "tooltip": "",
        "type": "dashboards",
        "url": "",
    }

"""The dashboard Backends: who is up, who is full, whose calls fail, and who was taken out of service."""

from __future__ import annotations

from deploy.grafana.overview import JOB
from deploy.grafana.panels import GREEN, ORANGE, RED, Dashboard, Panel, Query, Row, Variable
from deploy.grafana.promql import MODEL, each, select, share, total

UP = f"max by (model, backend) ({select('pointsman_backend_up', MODEL)})"
BREAKER = f"max by (model, backend) ({select('pointsman_breaker_state', MODEL)})"
FAILED = f'{MODEL}, outcome!="ok"'
NAME = "{{model}} {{backend}}"
WAITING = select("pointsman_size", 'store=~"waiting_.*"')

NOW = Row(
    "Now",
    (
        Panel("In service", "Backends that take calls.", (Query(f"sum({UP})"),), "stat", "none", 4, 4),
        Panel(
            "Out of service",
            "Backends that take none: a health check or a breaker has something against them. After 10 minutes an alert starts.",
            (Query(f"count({UP} == 0) or vector(0)"),),
            "stat",
            "none",
            4,
            4,
            steps=((GREEN, None), (ORANGE, 1)),
        ),
        Panel(
            "Models without a backend",
            "Nobody can answer for them. After a minute an alert starts.",
            (Query(f"count(max by (model) ({select('pointsman_backend_up', MODEL)}) == 0) or vector(0)"),),
            "stat",
            "none",
            4,
            4,
            steps=((GREEN, None), (RED, 1)),
        ),
        Panel(
            "Running",
            "Requests on backends. Of several workers of one gateway each counts its own; a scrape sees one of them.",
            (Query(f"sum({select('pointsman_backend_inflight', MODEL)})"),),
            "stat",
            "none",
            4,
            4,
        ),
        Panel(
            "Waiting in line",
            "Requests that wait in the gateways, since no backend has room.",
            (Query(f"sum({WAITING})"),),
            "stat",
            "none",
            4,
            4,
        ),
        Panel(
            "Failed attempts",
            "The share of calls to backends that failed. Retries and fallbacks hide most of these from callers; red: one in ten.",
            (Query(share(total("pointsman_attempts_total", where=FAILED), total("pointsman_attempts_total", where=MODEL))),),
            "stat",
            "percentunit",
            4,
            4,
            steps=((GREEN, None), (RED, 0.1)),
            decimals=2,
        ),
    ),
)

HEALTH = Row(
    "Health",
    (
        Panel(
            "In service",
            "Whether any gateway sends it calls.",
            (Query(UP, NAME),),
            "state-timeline",
            "none",
            12,
            states={0: ("out", RED), 1: ("up", GREEN)},
        ),
        Panel(
            "Breakers",
            "Open: no calls. Half-open: one call at a time, to see. Calls that fail open it, and so does an ejection, for longer.",
            (Query(BREAKER, NAME),),
            "state-timeline",
            "none",
            12,
            states={0: ("closed", GREEN), 1: ("half-open", ORANGE), 2: ("open", RED)},
        ),
    ),
)

CALLS = Row(
    "Calls",
    (
        Panel(
            "Attempts by outcome",
            "Calls to backends a second: ok, an HTTP status, or how the call failed. More than there are requests: retries.",
            (Query(total("pointsman_attempts_total", "outcome", MODEL), "{{outcome}}"),),
            unit="reqps",
            stacking="normal",
        ),
        Panel(
            "Attempts by backend",
            "Calls a second; how evenly the backends of a model share them.",
            (Query(total("pointsman_attempts_total", "model, backend", MODEL), NAME),),
            unit="reqps",
        ),
        Panel(
            "Failed attempts by backend",
            "The share of a backend's calls that failed.",
            (
                Query(
                    share(
                        total("pointsman_attempts_total", "model, backend", FAILED),
                        total("pointsman_attempts_total", "model, backend", MODEL),
                    ),
                    NAME,
                ),
            ),
            unit="percentunit",
            top=1,
        ),
        Panel(
            "Attempts for a request",
            "1 when every first call is answered. Requests that are refused make none, so it may be below.",
            (Query(each(total("pointsman_attempts_total"), total("pointsman_requests_total")), "attempts"),),
        ),
        Panel(
            "Openings and ejections",
            "Within 5 minutes. A breaker changes its state after failures in a row; a backend is ejected, for longer, when it does worse "
            "than it may or than its peers do.",
            (
                Query(f"sum by (model, backend) (changes({select('pointsman_breaker_state', MODEL)}[5m]))", f"breaker {NAME}"),
                Query(f"sum by (model, backend) (increase({select('pointsman_ejections_total', MODEL)}[5m]))", f"ejected {NAME}"),
            ),
        ),
        Panel(
            "First token by model",
            "Streams: 95 of 100 have their first byte by then.",
            (Query(f"histogram_quantile(0.95, {total('pointsman_time_to_first_token_seconds_bucket', 'model, le', MODEL)})", "{{model}}"),),
            unit="s",
        ),
    ),
)

LOAD = Row(
    "Load",
    (
        Panel(
            "Running",
            "Requests of the gateways that run on each backend, and how many it gets at a time, where that is bounded.",
            (
                Query(f"sum by (model, backend) ({select('pointsman_backend_inflight', MODEL)})", NAME),
                Query(f"sum by (model, backend) ({select('pointsman_backend_limit', MODEL)})", f"limit {NAME}"),
            ),
        ),
        Panel(
            "Waiting in the backend",
            "As vLLM itself says, from all its clients. More than a few for long: it gets more than it can do.",
            (Query(f"max by (model, backend) ({select('pointsman_backend_waiting', MODEL)})", NAME),),
        ),
        Panel(
            "Waiting in line",
            "Requests that wait in the gateways, by class; and those that were turned away, a second.",
            (
                Query(f"sum by (store) ({WAITING})", "{{store}}"),
                Query(
                    total("pointsman_rejections_total", "reason", 'reason=~"queue_full|wait_too_long|queue_timeout|deadline"'),
                    "turned away: {{reason}}",
                ),
            ),
        ),
    ),
)

BACKENDS = Dashboard(
    "pointsman-backends",
    "Pointsman / Backends",
    "Who is up, who is full, whose calls fail, and who was taken out of service.",
    (*JOB, Variable("model", "Model", "pointsman_backend_up", "model")),
    (NOW, HEALTH, CALLS, LOAD),
)

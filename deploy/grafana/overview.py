"""The dashboard Overview: what comes in, what goes wrong, how fast it is, what it costs and saves, and how the gateway itself is."""

from __future__ import annotations

from deploy.grafana.panels import GREEN, ORANGE, RED, Dashboard, Panel, Query, Row, Variable
from deploy.grafana.promql import CHOSEN, ROUTE, each, grown, quantile, select, share, total

JOB = (
    Variable("namespace", "Namespace", "pointsman_config_info", "namespace"),
    Variable("job", "Job", "pointsman_config_info", "job"),
)
ROUTES = Variable("route", "Route", "pointsman_requests_total", "route")
FAILED = f'{ROUTE}, code=~"5.."'


def percentiles(histogram: str, where: str = "") -> tuple[Query, ...]:
    """Half, 95 and 99 of a hundred stay below these."""
    return tuple(Query(quantile(part, histogram, where=where), f"p{part * 100:g}") for part in (0.5, 0.95, 0.99))


REQUESTS = total("pointsman_requests_total", where=ROUTE)
ERRORS = share(total("pointsman_requests_total", where=FAILED), REQUESTS)
SPENT = grown("pointsman_cost_usd_total", where=ROUTE)
DEAREST = grown("pointsman_baseline_cost_usd_total", where=ROUTE)

NOW = Row(
    "Now",
    (
        Panel("Requests", "Requests a second, of all endpoints.", (Query(REQUESTS),), "stat", "reqps", 3, 4),
        Panel(
            "Errors",
            "The share of requests that ended with a 5xx after all retries and fallbacks. Orange: above the objective of 0.5 %. Red: where "
            "an alert starts, 5 %.",
            (Query(ERRORS),),
            "stat",
            "percentunit",
            3,
            4,
            steps=((GREEN, None), (ORANGE, 0.005), (RED, 0.05)),
            decimals=2,
        ),
        Panel(
            "First token, p95",
            "Streams: 95 of 100 have their first byte by then. Waiting in line and the model's reading of the prompt are in it.",
            (Query(quantile(0.95, "pointsman_time_to_first_token_seconds", where=ROUTE)),),
            "stat",
            "s",
            4,
            4,
        ),
        Panel(
            "Overhead, p99",
            "Time in the gateway itself before a backend is asked. Orange: half of the 50 ms that a decision has by default; red: where an "
            "alert starts, 0.1 s.",
            (Query(quantile(0.99, "pointsman_overhead_seconds")),),
            "stat",
            "s",
            4,
            4,
            steps=((GREEN, None), (ORANGE, 0.025), (RED, 0.1)),
        ),
        Panel(
            "Saved against dearest",
            "In the time that is shown: what the same tokens would have cost at the dearest candidate's price, less what was paid.",
            (Query(f"{DEAREST} - {SPENT}"),),
            "stat",
            "currencyUSD",
            4,
            4,
        ),
        Panel(
            "Saved, share",
            "The same as a share of the dearest model's cost.",
            (Query(f"1 - {each(SPENT, DEAREST)}"),),
            "stat",
            "percentunit",
            3,
            4,
        ),
        Panel(
            "Alerts firing",
            "Those of deploy/prometheus/alerts.yaml; Prometheus's page of alerts has their text and what to do.",
            (Query(f'count(ALERTS{{alertname=~"Pointsman.*", alertstate="firing", {CHOSEN}}}) or vector(0)'),),
            "stat",
            "none",
            3,
            4,
            steps=((GREEN, None), (RED, 1)),
        ),
    ),
)

TRAFFIC = Row(
    "Traffic and errors",
    (
        Panel(
            "Requests by route",
            "Requests a second. The route none: requests that name a model themselves, and those refused before there was a decision.",
            (Query(total("pointsman_requests_total", "route", ROUTE), "{{route}}"),),
            unit="reqps",
            stacking="normal",
        ),
        Panel(
            "Requests by endpoint and status",
            "4xx is the caller's, 499 a caller who left, 5xx is ours or a backend's.",
            (Query(total("pointsman_requests_total", "endpoint, code", ROUTE), "{{endpoint}} {{code}}"),),
            unit="reqps",
        ),
        Panel(
            "Errors by route",
            "The share of 5xx. The lines are the objective and where an alert starts.",
            (
                Query(
                    share(total("pointsman_requests_total", "route", FAILED), total("pointsman_requests_total", "route", ROUTE)),
                    "{{route}}",
                ),
            ),
            unit="percentunit",
            steps=((GREEN, None), (ORANGE, 0.005), (RED, 0.05)),
        ),
        Panel(
            "Refused, by reason",
            "Requests that the gateway answered with an error of its own: the code of docs/http.md, or why admission had no place.",
            (Query(total("pointsman_rejections_total", "reason"), "{{reason}}"),),
            unit="reqps",
        ),
        Panel(
            "Tokens",
            "Tokens a second by model and kind, as the backends count them.",
            (Query(total("pointsman_tokens_total", "model, kind"), "{{model}} {{kind}}"),),
            unit="cps",
            stacking="normal",
        ),
        Panel(
            "Answered by",
            "Answers a second by model; a fallback counts for the model that answered.",
            (Query(total("pointsman_requests_total", "model", f'{ROUTE}, code=~"2.."'), "{{model}}"),),
            unit="reqps",
            stacking="normal",
        ),
    ),
)

SPEED = Row(
    "Speed",
    (
        Panel(
            "Time to first token",
            "Streams, from the request's head to the first byte.",
            percentiles("pointsman_time_to_first_token_seconds", ROUTE),
            unit="s",
        ),
        Panel(
            "Whole requests",
            "From the request's head to the answer's last byte.",
            percentiles("pointsman_request_duration_seconds", ROUTE),
            unit="s",
        ),
        Panel("Overhead", "In the gateway itself, before a backend is asked.", percentiles("pointsman_overhead_seconds"), unit="s"),
    ),
)

MONEY = Row(
    "Money",
    (
        Panel(
            "Spent, and the dearest model",
            "USD an hour, and what the same tokens would have cost at the dearest candidate's price. Between the lines is what is saved.",
            (
                Query(f"3600 * {total('pointsman_cost_usd_total', where=ROUTE)}", "spent"),
                Query(f"3600 * {total('pointsman_baseline_cost_usd_total', where=ROUTE)}", "dearest model"),
            ),
            unit="currencyUSD",
        ),
        Panel(
            "Spent by model",
            "USD an hour.",
            (Query(f"3600 * {total('pointsman_cost_usd_total', 'model', ROUTE)}", "{{model}}"),),
            unit="currencyUSD",
            stacking="normal",
        ),
        Panel(
            "Saved by route",
            "The share of the dearest candidate's cost that was not spent. Below 0: several calls for an answer cost more than a dear one.",
            (
                Query(
                    "1 - "
                    + each(total("pointsman_cost_usd_total", "route", ROUTE), total("pointsman_baseline_cost_usd_total", "route", ROUTE)),
                    "{{route}}",
                ),
            ),
            unit="percentunit",
            top=1,
        ),
    ),
)

ITSELF = Row(
    "The gateway itself",
    (
        Panel(
            "Event loop lag",
            "How late the loop is; the latest of a gateway's workers. The line is where an alert starts, 50 ms.",
            (Query(f"max by (instance) ({select('pointsman_event_loop_lag_seconds')})", "{{instance}}"),),
            unit="s",
            steps=((GREEN, None), (RED, 0.05)),
        ),
        Panel(
            "Redis",
            "Whether each gateway can use Redis. Without Redis in the configuration there is nothing here.",
            (Query(f"min by (instance) ({select('pointsman_redis_up')})", "{{instance}}"),),
            "state-timeline",
            "none",
            states={0: ("away", RED), 1: ("up", GREEN)},
        ),
        Panel(
            "Without Redis",
            "Calls to Redis that failed, by reason, and allowances that a process kept by itself meanwhile.",
            (
                Query(total("pointsman_redis_failures_total", "reason"), "failed: {{reason}}"),
                Query(total("pointsman_limits_local_total"), "kept locally"),
            ),
            unit="cps",
        ),
        Panel(
            "Entries in bounded stores",
            "All gateways together. waiting_…: requests in line; redis_writes and ledger: what is still to be written.",
            (Query(f"sum by (store) ({select('pointsman_size')})", "{{store}}"),),
        ),
        Panel(
            "Lost and failed",
            "Entries that a full queue has dropped, and readings and writings that failed, within 5 minutes. All should be 0.",
            (
                Query(grown("pointsman_dropped", "queue", over="5m"), "dropped: {{queue}}"),
                Query(grown("pointsman_failures", "of", over="5m"), "failed: {{of}}"),
                Query(grown("pointsman_reloads_total", where='result="failed"', over="5m"), "failed: reload"),
            ),
        ),
        Panel(
            "Configurations in force",
            "One line, but while a new one is rolled out.",
            (Query(f"count by (version, hash) ({select('pointsman_config_info')})"),),
            "table",
            "none",
        ),
    ),
)

OVERVIEW = Dashboard(
    "pointsman-overview",
    "Pointsman / Overview",
    "What comes in, what goes wrong, how fast it is, what it costs and saves.",
    (*JOB, ROUTES),
    (NOW, TRAFFIC, SPEED, MONEY, ITSELF),
)

"""The dashboard Routing: who was chosen and why, what deciding takes, how many calls an answer took, and whether that drifts."""

from __future__ import annotations

from deploy.grafana.overview import JOB, ROUTES, percentiles
from deploy.grafana.panels import GREEN, ORANGE, RED, Dashboard, Panel, Query, Row
from deploy.grafana.promql import ROUTE, each, mean, quantile, select, share, total

DECIDED = 'route!="none", ' + ROUTE
DECISIONS = total("pointsman_decisions_total", where=DECIDED)
BY_DEFAULT = f'{DECIDED}, reason=~"no_opinion|deadline|policy_error"'
FIRST = f'{ROUTE}, le="1.0"'
LOOKED_UP = total("pointsman_decision_cache_total", where='result=~"hit|miss"')

NOW = Row(
    "Now",
    (
        Panel("Decisions", "Decisions of routes, a second.", (Query(DECISIONS),), "stat", "reqps", 4, 4),
        Panel(
            "By the route's default",
            "The share of decisions that no policy took: it had no opinion, was late or broke. Red: one in twenty.",
            (Query(share(total("pointsman_decisions_total", where=BY_DEFAULT), DECISIONS)),),
            "stat",
            "percentunit",
            4,
            4,
            steps=((GREEN, None), (RED, 0.05)),
            decimals=2,
        ),
        Panel(
            "Remembered",
            "The share of look-ups that the decision cache could answer. It depends on how alike requests are; look into a sudden fall.",
            (Query(share(total("pointsman_decision_cache_total", where='result="hit"'), LOOKED_UP)),),
            "stat",
            "percentunit",
            4,
            4,
        ),
        Panel(
            "Deciding, p99",
            "Of decisions that were computed. Orange: half of the 50 ms that a route has by default; red: all of it.",
            (Query(quantile(0.99, "pointsman_decision_duration_seconds", where=ROUTE)),),
            "stat",
            "s",
            4,
            4,
            steps=((GREEN, None), (ORANGE, 0.025), (RED, 0.05)),
        ),
        Panel(
            "Calls for an answer",
            "The mean, of routes whose planner asks several models.",
            (Query(mean("pointsman_rounds", where=ROUTE)),),
            "stat",
            "short",
            4,
            4,
            decimals=2,
        ),
        Panel(
            "Drift",
            "The largest of all routes. Orange: 0.1, some change; red: 0.25, a large one, where an alert starts.",
            (Query(f"max({select('job_route:pointsman_decisions:drift_psi', ROUTE)})"),),
            "stat",
            "short",
            4,
            4,
            steps=((GREEN, None), (ORANGE, 0.1), (RED, 0.25)),
            decimals=3,
        ),
    ),
)

CHOSEN_MODELS = Row(
    "Decisions",
    (
        Panel(
            "Chosen models",
            "The share of decisions for each model.",
            (Query(total("pointsman_decisions_total", "model", DECIDED), "{{model}}"),),
            unit="reqps",
            stacking="percent",
            width=12,
        ),
        Panel(
            "Reasons",
            "best_score: a policy chose. only_candidate: filters left one. pinned: a conversation kept its model. no_opinion, deadline, "
            "policy_error: the route's default served.",
            (Query(total("pointsman_decisions_total", "reason", DECIDED), "{{reason}}"),),
            unit="reqps",
            stacking="normal",
            width=12,
        ),
        Panel(
            "Decisions by route and model",
            "Decisions a second.",
            (Query(total("pointsman_decisions_total", "route, model", DECIDED), "{{route}}: {{model}}"),),
            unit="reqps",
            width=12,
        ),
        Panel(
            "Decision cache",
            "hit: remembered. miss: computed. pin: a conversation kept its model. bypass: a policy that must not be remembered, or a model "
            "that the request named.",
            (Query(total("pointsman_decision_cache_total", "result"), "{{result}}"),),
            unit="reqps",
            stacking="normal",
            width=12,
        ),
    ),
)

TIME = Row(
    "What deciding takes",
    (
        Panel("Decisions", "Of decisions that were computed.", percentiles("pointsman_decision_duration_seconds", ROUTE), unit="s"),
        Panel(
            "Plugins, p99",
            "Scorers, filters and pickers by the time that one decision spends in them.",
            (Query(quantile(0.99, "pointsman_plugin_duration_seconds", "plugin"), "{{plugin}}"),),
            unit="s",
        ),
        Panel(
            "Plugin errors",
            "Opinions that were dropped since a plugin failed. An alert starts at 1 % of the decisions.",
            (Query(total("pointsman_plugin_errors_total", "plugin"), "{{plugin}}"),),
            unit="cps",
        ),
    ),
)

ROUNDS = Row(
    "Answers that take several calls",
    (
        Panel(
            "Calls for an answer",
            "The mean of routes whose planner asks several models: cascade, ensemble, multi-round.",
            (Query(mean("pointsman_rounds", "route", ROUTE), "{{route}}"),),
        ),
        Panel(
            "Answered by one call",
            "The share of their answers that took no second call.",
            (Query(each(total("pointsman_rounds_bucket", "route", FIRST), total("pointsman_rounds_count", "route", ROUTE)), "{{route}}"),),
            unit="percentunit",
            top=1,
        ),
        Panel(
            "Cost of 1,000 requests",
            "USD, by route, of what all calls for an answer cost.",
            (
                Query(
                    "1000 * " + each(total("pointsman_cost_usd_total", "route", ROUTE), total("pointsman_requests_total", "route", ROUTE)),
                    "{{route}}",
                ),
            ),
            unit="currencyUSD",
        ),
    ),
)

DRIFT = Row(
    "Drift",
    (
        Panel(
            "Drift by route",
            "Population stability index of the models' shares, a day against a week: 0.1 is some change, 0.25 a large one. By the rules of "
            "deploy/prometheus/rules.yaml.",
            (Query(select("job_route:pointsman_decisions:drift_psi", ROUTE), "{{route}}"),),
            steps=((GREEN, None), (ORANGE, 0.1), (RED, 0.25)),
        ),
        Panel(
            "Shares, the last day",
            "By the same rules.",
            (Query(select("job_route_model:pointsman_decisions:share1d", ROUTE), "{{route}}: {{model}}"),),
            unit="percentunit",
            top=1,
        ),
        Panel(
            "Shares, the last week",
            "By the same rules.",
            (Query(select("job_route_model:pointsman_decisions:share7d", ROUTE), "{{route}}: {{model}}"),),
            unit="percentunit",
            top=1,
        ),
    ),
)

ROUTING = Dashboard(
    "pointsman-routing",
    "Pointsman / Routing",
    "Who was chosen and why, what deciding takes, how many calls an answer took, and whether that drifts.",
    (*JOB, ROUTES),
    (NOW, CHOSEN_MODELS, TIME, ROUNDS, DRIFT),
)

"""A real Prometheus scrapes a running gateway: no panel is empty, no rule is broken, and an expert that dies is noticed."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest

from tests.deploy.expressions import gateway_series, without_variables
from tests.deploy.stage import Stage, stage
from tests.deploy.test_dashboards import NAMES, panels
from tests.deploy.visitors import ODDITIES, Visitors
from tests.metric_families import families

pytestmark = pytest.mark.deploy

EMPTY = {
    "Plugin errors": "no built-in plugin fails",
}
"""Panels that may be empty, and what a demo lacks for them."""


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A stage on which everything has happened that dashboards show."""
    with stage(tmp_path_factory.mktemp("stage")) as running:
        asyncio.run(_play(running))
        yield running


async def _play(running: Stage) -> None:
    visitors = Visitors(running.gateways, Random(7))
    await visitors.come(seconds=8, rate=12)
    for kind in ODDITIES:
        await visitors.odd(kind)
    await visitors.crowd(80)
    running.redis.stop()
    await visitors.come(seconds=4, rate=8)
    running.redis.start()
    await visitors.odd("poor")
    running.kill("medium-0")
    running.kill("large-1")
    await visitors.come(seconds=8, rate=12)
    for kind in ODDITIES:
        await visitors.odd(kind)
    assert {200, 400, 401, 402, 404, 429} <= set(visitors.statuses), visitors.statuses


def eventually(condition: Callable[[], Any], seconds: float = 40) -> Any:
    """What a condition returns once it is true, or at last."""
    end = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < end:
        time.sleep(0.5)
    return found


def queries() -> list[Any]:
    return [
        pytest.param(panel["title"], target["expr"], id=f"{name}: {panel['title']} {target['refId']}")
        for name in NAMES
        for panel in panels(name)
        for target in panel["targets"]
    ]


@pytest.mark.parametrize(("title", "expr"), queries())
def test_no_panel_is_empty(played: Stage, title: str, expr: str) -> None:
    found = eventually(lambda: played.prometheus.series(without_variables(expr), 300), 1 if title in EMPTY else 15)
    assert bool(found) != (title in EMPTY), EMPTY.get(title, expr)


def test_every_metric_of_the_gateway_was_scraped(played: Stage) -> None:
    names = set(played.prometheus.ask("/label/__name__/values"))
    assert set(gateway_series()) - names == {"pointsman_plugin_errors_total"}


def test_no_rule_is_broken(played: Stage) -> None:
    def broken() -> list[Any]:
        groups = played.prometheus.ask("/rules")["groups"]
        return [(rule["name"], rule.get("lastError")) for group in groups for rule in group["rules"] if rule["health"] != "ok"]

    eventually(lambda: not broken())
    assert broken() == []


def test_an_expert_that_died_is_noticed_and_named(played: Stage) -> None:
    def told() -> dict[str, Any]:
        return {alert["labels"]["alertname"]: alert for alert in played.prometheus.ask("/alerts")["alerts"]}

    assert eventually(lambda: {"PointsmanModelDown", "PointsmanBackendDown", "PointsmanBudgetSpent"} <= set(told())), told()
    alert = told()["PointsmanModelDown"]
    assert alert["state"] in ("pending", "firing")
    assert alert["annotations"]["summary"] == "Every backend of model medium is out of service"
    assert [name for name, one in told().items() if "error expanding" in json.dumps(one["annotations"])] == []


def test_money_was_saved(played: Stage) -> None:
    spent, dearest = (played.prometheus.value(f"sum(pointsman_{name}_usd_total)") for name in ("cost", "baseline_cost"))
    assert 0 < spent < dearest


def test_promtool_takes_the_metrics_of_several_workers(played: Stage) -> None:
    text = httpx.get(f"{played.gateways[0]}/metrics").text
    program = shutil.which("promtool")
    assert program is not None
    done = subprocess.run([program, "check", "metrics"], input=text, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    told = dict(line.removeprefix("# HELP ").split(" ", 1) for line in text.splitlines() if line.startswith("# HELP "))
    assert told == {next(iter(family.series())).removesuffix("_bucket"): family.help for family in families() if family.name in _base(told)}


def _base(names: Any) -> set[str]:
    return {name.removesuffix("_total") for name in names}


def test_the_log_of_prometheus_names_no_trouble(played: Stage) -> None:
    log = Path(played.folder / "prometheus.log").read_text(encoding="utf-8")
    assert [line for line in log.splitlines() if "level=error" in line or "many-to-many" in line] == []

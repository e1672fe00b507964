"""The rules of Prometheus: they read what exists, say what to do, and fire where they should, by Prometheus's own tool."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.expressions import DASHBOARDS, PROMETHEUS, alerts, known_series, labels_of, names, rules

CASES = sorted((PROMETHEUS / "tests").glob("*.yaml"))
KNOWN = known_series()


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_an_alert_reads_what_exists_and_its_text_names_labels_that_it_has(alert: dict[str, Any]) -> None:
    labels = labels_of(alert["expr"], KNOWN)
    assert set(re.findall(r"\$labels\.(\w+)", " ".join(alert["annotations"].values()))) <= labels


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_an_alert_says_what_it_means_why_there_and_what_to_do(alert: dict[str, Any]) -> None:
    assert set(alert["annotations"]) == {"summary", "description", "threshold", "runbook"}
    assert alert["labels"]["severity"] in ("page", "ticket")
    named = set(re.findall(r"Pointsman[A-Z]\w+", alert["annotations"]["runbook"]))
    assert named <= {other["alert"] for other in alerts()}


def test_each_recorded_series_is_read_by_somebody_and_named_after_its_labels() -> None:
    dashboards = "".join(path.read_text(encoding="utf-8") for path in DASHBOARDS.glob("*.json"))
    used = {name for rule in [*rules(), *alerts()] for name in names(rule["expr"])}
    for rule in rules():
        name = rule["record"]
        assert name in used or name in dashboards, name
        level = name.partition(":")[0].removeprefix("pointsman")
        assert labels_of(rule["expr"], KNOWN) - {"namespace"} == set(level.split("_")) - {""}, name


def test_each_alert_fires_in_a_case_and_the_page_lists_it() -> None:
    page = (PROMETHEUS.parent.parent / "docs/operations.md").read_text(encoding="utf-8")
    fired = "".join(path.read_text(encoding="utf-8") for path in CASES)
    for alert in alerts():
        assert f'alertname="{alert["alert"]}", severity="{alert["labels"]["severity"]}"' in fired
        assert f"| `{alert['alert']}` | {alert['labels']['severity']} |" in page


def test_the_scraped_job_is_the_one_that_the_alerts_watch() -> None:
    config = yaml.safe_load((PROMETHEUS / "prometheus.yaml").read_text(encoding="utf-8"))
    job = config["scrape_configs"][0]["job_name"]
    watched = re.search(r'up\{job=~"([^"]+)"\}', next(alert for alert in alerts() if alert["alert"] == "PointsmanDown")["expr"])
    assert watched is not None
    assert re.fullmatch(watched[1], job)
    assert re.fullmatch(watched[1], "release-pointsman")
    assert not re.fullmatch(watched[1], "pointsman-vllm")


def promtool(*arguments: str) -> None:
    """Runs it. Skips the test if it is not installed."""
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed (apt-get install prometheus)")
    done = subprocess.run([program, *arguments], cwd=PROMETHEUS, capture_output=True, text=True, check=False, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_takes_the_configuration_and_the_rules() -> None:
    promtool("check", "config", "prometheus.yaml")
    promtool("check", "rules", "--lint-fatal", "rules.yaml", "alerts.yaml")


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_alerts_fire_where_they_should_and_nowhere_else(case: Path) -> None:
    promtool("test", "rules", str(case))

"""The dashboards: the committed JSON is what the Python makes, and every query names series and labels that exist."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from deploy.grafana.__main__ import texts
from tests.deploy.expressions import DASHBOARDS, ROOT, TARGET, Unknown, known_series, labels_of, without_variables

NAMES = ("backends", "overview", "routing")
KNOWN = known_series()


def dashboard(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DASHBOARDS / f"{name}.json").read_text(encoding="utf-8"))
    return found


def panels(name: str) -> list[dict[str, Any]]:
    return [panel for panel in dashboard(name)["panels"] if panel["type"] != "row"]


def queries() -> list[Any]:
    return [
        pytest.param(target, id=f"{name}: {panel['title']} {target['refId']}")
        for name in NAMES
        for panel in panels(name)
        for target in panel["targets"]
    ]


def test_the_committed_dashboards_are_those_that_the_generator_writes() -> None:
    committed = {path.name: path.read_text(encoding="utf-8") for path in DASHBOARDS.glob("*.json")}
    assert committed == texts(), "run `make dashboards`"


@pytest.mark.parametrize("target", queries())
def test_a_query_reads_what_exists_and_its_legend_names_labels_of_the_result(target: dict[str, Any]) -> None:
    labels = labels_of(without_variables(target["expr"]), KNOWN)
    assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= labels


@pytest.mark.parametrize("name", NAMES)
def test_marks_and_choices_read_what_exists(name: str) -> None:
    whole = dashboard(name)
    for mark in whole["annotations"]["list"]:
        labels = labels_of(mark["expr"], KNOWN)
        assert set(re.findall(r"{{(\w+)}}", mark["textFormat"] + mark["titleFormat"])) <= labels
    choices = [choice for choice in whole["templating"]["list"] if choice["type"] == "query"]
    for choice in choices:
        found = re.fullmatch(r"label_values\((\w+), (\w+)\)", choice["definition"])
        assert found is not None
        assert found[2] in KNOWN[found[1]]
    chosen = {choice["name"] for choice in choices}
    used = {variable for panel in panels(name) for target in panel["targets"] for variable in re.findall(r"\$([a-z]+)", target["expr"])}
    assert used == chosen


@pytest.mark.parametrize("name", NAMES)
def test_panels_stand_beside_each_other_and_say_what_they_show(name: str) -> None:
    everything = dashboard(name)["panels"]
    assert len({panel["id"] for panel in everything}) == len(everything)
    taken: set[tuple[int, int]] = set()
    for panel in everything:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not taken & cells, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    for panel in panels(name):
        assert panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert [target["refId"] for target in panel["targets"]] == list("ABC"[: len(panel["targets"])])


@pytest.mark.parametrize("name", NAMES)
def test_no_data_source_is_named_but_the_one_that_is_chosen(name: str) -> None:
    text = (DASHBOARDS / f"{name}.json").read_text(encoding="utf-8")
    assert set(re.findall(r'"uid": "([^"]*)"', text)) == {"${datasource}", f"pointsman-{name}"}


def test_grafana_is_told_of_the_data_source_and_of_the_folder() -> None:
    folder = ROOT / "deploy/grafana/provisioning"
    source = yaml.safe_load((folder / "datasources/prometheus.yaml").read_text(encoding="utf-8"))["datasources"][0]
    scrape = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yaml").read_text(encoding="utf-8"))["global"]["scrape_interval"]
    assert (source["type"], source["jsonData"]["timeInterval"]) == ("prometheus", scrape)
    provider = yaml.safe_load((folder / "dashboards/pointsman.yaml").read_text(encoding="utf-8"))["providers"][0]
    assert (provider["type"], provider["allowUiUpdates"]) == ("file", False)


@pytest.mark.parametrize(
    ("expr", "complaint"),
    [
        ("rate(pointsman_request_total[5m])", "no series 'pointsman_request_total'"),
        ('pointsman_backend_up{modle="a"}', "no label \\['modle'\\]"),
        ("sum by (key) (rate(pointsman_requests_total[5m]))", "no label \\['key'\\]"),
        ("sum by (le) (sum by (route) (rate(pointsman_rounds_bucket[5m])))", "no label \\['le'\\]"),
        ("sum by (route) (pointsman_rounds_count) / sum by (job) (pointsman_rounds_count)", "other labels"),
    ],
)
def test_what_does_not_exist_is_noticed(expr: str, complaint: str) -> None:
    with pytest.raises(Unknown, match=complaint):
        labels_of(expr, KNOWN)


def test_labels_of_results() -> None:
    assert labels_of("histogram_quantile(0.5, rate(pointsman_rounds_bucket[5m]))", KNOWN) == TARGET | {"route"}
    assert labels_of("vector(1) or pointsman_redis_up", KNOWN) == TARGET
    assert labels_of("2 * sum(pointsman_redis_up)", KNOWN) == frozenset()

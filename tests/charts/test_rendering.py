"""The chart renders, for every values file and with every option, what a cluster takes."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.charts import golden
from tests.charts.kinds import KINDS
from tests.charts.rendering import CHART, ROOT, VALUES_FILES, Rendered, helm, render, render_file, values, with_changes
from tests.charts.variants import VARIANTS

judge = pytest.importorskip("kubernetes_validate", reason="needs the schemas of Kubernetes: pip install kubernetes-validate")
jsonschema = pytest.importorskip("jsonschema", reason="comes with kubernetes-validate")

OLDEST = "1.30"  # what Chart.yaml asks for
NEWEST = judge.latest_version()


def complaints(rendered: Rendered, version: str) -> list[str]:
    """What a strict API server of that version would say."""
    found = [(one, complaint(json.dumps(one), version)) for one in rendered.objects]
    return [f"{one['kind']} {one['metadata']['name']}: {said}" for one, said in found if said]


@cache
def complaint(text: str, version: str) -> str:
    """The same of one object, as JSON: most objects are in several releases, and schemas are large."""
    one = json.loads(text)
    try:
        if one["kind"] in KINDS:
            jsonschema.Draft202012Validator(KINDS[one["kind"]]).validate(one)
        else:
            judge.validate(one, version, strict=True)
    except jsonschema.ValidationError as error:
        return f"{'.'.join(map(str, error.path))}: {error.message}"
    return ""


@pytest.mark.parametrize("name", VALUES_FILES)
def test_a_values_file_makes_valid_objects(name: str) -> None:
    assert complaints(render_file(name), NEWEST) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", VALUES_FILES)
def test_a_values_file_makes_objects_that_are_valid_in_the_oldest_kubernetes_too(name: str) -> None:
    assert complaints(render_file(name), OLDEST) == []


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_option_makes_valid_objects(variant: str) -> None:
    base, changes = VARIANTS[variant]
    assert complaints(render(with_changes(values(base), changes)), NEWEST) == []


def test_what_is_wrong_would_be_seen() -> None:
    rendered = render_file("production")
    rendered.one("Deployment")["spec"]["template"]["spec"]["containers"][0]["workingDirectory"] = "/"
    rendered.one("ServiceMonitor")["spec"]["endpoints"][0]["intervall"] = "15s"
    found = complaints(rendered, NEWEST)
    assert len(found) == 2
    assert "workingDirectory" in str(found)
    assert "intervall" in str(found)


@pytest.mark.parametrize("name", VALUES_FILES)
def test_a_values_file_makes_what_it_made(name: str) -> None:
    assert golden.difference(name) == "", "is it meant? then `python -m tests.charts.golden --update`"


@pytest.mark.parametrize("name", VALUES_FILES)
def test_helm_has_nothing_to_complain_of(name: str) -> None:
    report: dict[str, Any] = helm.chart.lint(CHART, values(name), strict=True, kube_version="v1.34.0")
    assert report["errors"] == []
    assert [message for message in report["messages"] if message["severity"] > 1] == []


def test_the_chart_without_any_values_can_be_linted() -> None:
    """What is missing then is said when it is installed."""
    assert helm.chart.lint(CHART)["errors"] == []


@pytest.mark.slow
def test_names_are_unique_and_short() -> None:
    for variant in VARIANTS:
        base, changes = VARIANTS[variant]
        rendered = render(with_changes(values(base), changes), name="a-release-whose-name-has-fifty-three-characters-1234")
        names = [(one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]) for one in rendered.objects]
        assert sorted(set(names)) == sorted(names), variant
        assert [name for kind, _, name in names if kind == "Service" and len(name) > 63] == [], variant


def test_what_is_made_from_other_files_is_up_to_date() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "chart.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_package_fits_into_a_release(tmp_path: Path) -> None:
    """Helm keeps the chart and what it makes in a Secret, which may have 1 MiB."""
    archive = Path(helm.chart.package(CHART, destination=tmp_path))
    assert archive.stat().st_size < 300_000
    assert "values.source.yaml" not in {file["name"] for file in helm.Chart.load(archive).files}

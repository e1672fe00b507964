"""Planners that contradict themselves or their route: `pointsman check` names the YAML path and the line."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli import app
from routers import artifacts

CONFIGURATION = """
models:
  - {{name: small, backends: [http://127.0.0.1:8001/v1], price: {{input: 0.05, output: 0.1}}}}
  - {{name: large, backends: [http://127.0.0.1:8002/v1], price: {{input: 0.5, output: 1}}}}
routes:
  - name: auto
    models: [{models}]
    policy:
      scorers: [{{type: cost}}]
      planner: {planner}
"""
LINE = 10
BOTH = "small, large"
CASES = [
    ("small", "{type: cascade, judge: {type: agreement}}", "type: a cascade needs a route of at least two models"),
    (BOTH, "{type: cascade}", "judge: is required"),
    (BOTH, "{type: cascade, judge: agreement}", "judge: must be a judge"),
    (BOTH, "{type: cascade, judge: {type: agrement}}", "judge.type: no judge named 'agrement', did you mean 'agreement'?"),
    (BOTH, "{type: cascade, judge: {type: learned}}", "judge.artifact: is required"),
    (BOTH, "{type: cascade, judge: {type: learned, artifact: nowhere}}", "judge.artifact: nowhere: manifest.json cannot be read"),
    (BOTH, "{type: cascade, judge: {type: llm, model: huge}}", "judge.model: there is no model named 'huge'; known: large, small"),
    (BOTH, "{type: cascade, judge: {type: agreement}, order: learned}", "artifact: a learned order needs the artifact"),
    (BOTH, "{type: cascade, judge: {type: agreement}, artifact: nowhere}", "artifact: nowhere: manifest.json cannot be read"),
    (BOTH, "{type: cascade, judge: {type: agreement}, max_calls: 0}", "max_calls: a cascade needs at least 2 calls"),
    (BOTH, "{type: cascade, judge: {type: agreement}, threshold: 2}", "threshold: input should be less than or equal to 1"),
    (BOTH, "{type: ensemble}", "k: asks 3 models, and the route has 2"),
    (BOTH, "{type: ensemble, k: 1}", "k: an ensemble needs at least 2 models"),
    (BOTH, "{type: ensemble, k: 2, combine: best_of}", "judge: best_of needs a judge"),
    (BOTH, "{type: ensemble, k: 2, artifact: nowhere}", "artifact: holds weights of votes; majority does not weigh them"),
    (BOTH, "{type: ensemble, k: 2, combine: weighted, artifact: nowhere}", "artifact: nowhere: manifest.json cannot be read"),
    (BOTH, "{type: ensemble, k: 2, combine: fuse, model: huge}", "model: there is no model named 'huge'"),
    (BOTH, "{type: router_r1}", "policy_model: is required"),
    (BOTH, "{type: router_r1, policy_model: huge}", "policy_model: there is no model named 'huge'; known: large, small"),
    ("small", "{type: router_r1, policy_model: small}", "policy_model: 'small' has nobody to ask"),
    (BOTH, "{type: router_r1, policy_model: large, max_asks: 0}", "max_asks: a policy that may ask 0 times asks nobody"),
    (BOTH, "{type: rl_rounds}", "artifact: is required"),
    (BOTH, "{type: rl_rounds, artifact: nowhere}", "artifact: nowhere: manifest.json cannot be read"),
    (BOTH, "{type: rl_rounds, artifact: nowhere, max_asks: 0}", "max_asks: input should be greater than or equal to 1"),
]


@pytest.mark.parametrize(("models", "planner", "expected"), CASES, ids=[planner for _, planner, _ in CASES])
def test_check_refuses_it_with_its_path(models: str, planner: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("gateway.yaml").write_text(CONFIGURATION.format(models=models, planner=planner))
    done = CliRunner().invoke(app, ["check", "gateway.yaml"])
    assert done.exit_code == 2, done.output
    assert f"gateway.yaml:{LINE}: routes[0].policy.planner.{expected}" in done.output.replace("\n", " ")


def test_check_refuses_an_artifact_of_another_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    origin = artifacts.Origin("knn", ["small", "large"], "0" * 64, datetime(2026, 1, 1, tzinfo=UTC))
    artifacts.write(tmp_path / "other", origin, {}, {})
    for planner, path in (
        ("{type: cascade, judge: {type: learned, artifact: other}}", "judge.artifact"),
        ("{type: cascade, judge: {type: agreement}, order: learned, artifact: other}", "artifact"),
        ("{type: ensemble, k: 2, combine: weighted, artifact: other}", "artifact"),
        ("{type: rl_rounds, artifact: other}", "artifact"),
    ):
        Path("gateway.yaml").write_text(CONFIGURATION.format(models=BOTH, planner=planner))
        done = CliRunner().invoke(app, ["check", "gateway.yaml"])
        assert done.exit_code == 2, done.output
        assert f"routes[0].policy.planner.{path}: other: manifest.json: kind is 'knn'" in done.output


@pytest.mark.parametrize(
    "planner",
    [
        "{type: cascade, judge: {type: agreement}}",
        "{type: ensemble, k: 2}",
        "{type: router_r1, policy_model: large}",
    ],
)
def test_check_lets_good_ones_pass(planner: str, tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text(CONFIGURATION.format(models=BOTH, planner=planner))
    assert CliRunner().invoke(app, ["check", str(path)]).exit_code == 0

"""Learning while serving: from POST /v1/feedback to a version on disk, and back again."""

from __future__ import annotations

import json
import random
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from gateway.account.records import LEARNED
from gateway.cli import app
from gateway.config import validate
from gateway.guard.callers import ANYONE
from gateway.policies import build_routes
from gateway.source import ConfigError, Source
from routers.api import Outcome, RouteRequest
from routers.artifacts import BadArtifact, EncoderId, Origin
from routers.embedding import ENCODERS
from routers.learned import Calibration, Making, write
from routers.registry import Registry
from routers.scorers import clusters
from routers.versions import KEPT, Overtaken, Versions
from tests.gateways import Running, chat, fake, model, route, serving, until
from tests.processes import process
from tests.redis_servers import redis_server

pytest.importorskip("onnxruntime", reason="the extra `embed` is not installed")
CODE, SUM = "Write a Python function that sorts a list", "What is 17 plus 25?"
NOW = datetime(2026, 11, 1, tzinfo=UTC)


def write_clusters(folder: Path) -> Path:
    """Code and sums: the small model is a little better at both."""
    encoder = ENCODERS["static"]()
    counts = np.array([[6, 5], [6, 5]], dtype=np.float32)
    table = clusters.Table(encoder.encode([CODE, SUM]), counts, 10 - counts)
    write(folder, "clusters", table, ("small", "large"), Calibration.none(2), Making(encoder, "none", NOW, {}))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_clusters(tmp_path / "clusters")


@asynccontextmanager
async def learning(folder: Path, scorer: dict[str, Any], **config: Any) -> AsyncIterator[Running]:
    """A gateway whose only scorer learns."""
    async with fake("small") as small, fake("large") as large:
        policy = route("small", "large", scorers=[{"type": "clusters", "artifact": str(folder), **scorer}])
        whole = {
            "models": [model("small", small.url), model("large", large.url)],
            "routes": [{**policy, "decision_deadline_ms": 5000}],
            **config,
        }
        async with serving(whole) as running:
            yield running


async def ask(running: Running, text: str = CODE) -> tuple[str, str, str]:
    """The decision, the model that was chosen, and whether it was remembered."""
    answer = await running.post(**chat(content=text))
    assert answer.status_code == 200
    return answer.headers["x-router-decision-id"], answer.headers["x-router-model"], answer.headers["x-router-cache"]


async def judge(running: Running, score: float, times: int, text: str = CODE) -> None:
    """The small model answers, whatever the route would choose by now, and gets this score."""
    for _ in range(times):
        answer = await running.post(**chat(content=text, router={"models": ["small"]}))
        decision = answer.headers["x-router-decision-id"]
        found = await running.post("/v1/feedback", decision_id=decision, score=score)
        assert found.status_code == 200


def table(folder: Path) -> clusters.Table:
    """As a new start would load it."""
    found = clusters.Clusters(folder).predictor
    assert isinstance(found, clusters.Table)
    return found


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["artifacts", *(str(argument) for argument in arguments)])


async def test_feedback_moves_the_choice_and_becomes_a_version(folder: Path) -> None:
    async with learning(folder, {"learn_per_hour": 100, "snapshot_seconds": 0.2}) as running:
        assert (await ask(running))[1:] == ("small", "miss")
        assert (await ask(running))[1:] == ("small", "hit")
        await judge(running, 0.0, 8)
        assert await until(lambda: Versions(folder).serving().name != "trained", seconds=15)
        assert await until(lambda: table(folder).wrong[0, 0] == 4 + 8, seconds=15)

        async def moved() -> bool:
            return (await ask(running))[1] == "large"

        assert await until(moved, seconds=15)  # though `small` was remembered a moment ago, and would be for minutes
        assert (await ask(running, SUM))[1] == "small"
    async with learning(folder, {}) as running:
        assert (await ask(running))[1] == "large"


async def test_what_was_told_last_is_kept_at_the_end(folder: Path) -> None:
    async with learning(folder, {"learn_per_hour": 100}) as running:
        await judge(running, 0.0, 5)
        assert Versions(folder).serving().name == "trained"
    assert table(folder).wrong[0].tolist() == [9, 5]
    assert json.loads(run("list", folder, "--json").output)["versions"][1]["learned_outcomes"] == 5


async def test_a_flood_of_feedback_is_bounded(folder: Path) -> None:
    async with learning(folder, {"learn_per_hour": 3}) as running:
        await judge(running, 0.0, 40)
    assert table(folder).wrong[0].tolist() == [4 + 3, 5]


@pytest.mark.parametrize(("scorer", "kept"), [({}, False), ({"learn_per_hour": 5}, True)])
async def test_a_prompt_is_kept_for_learning_only_where_something_learns(folder: Path, scorer: dict[str, Any], kept: bool) -> None:
    async with learning(folder, scorer) as running:
        decision, _, _ = await ask(running)
        document = await running.gateway.memory.decisions.get(decision, ANYONE.id)
        assert document is not None
        assert (LEARNED in document) is kept
        await judge(running, 0.0, 3)
    assert Versions(folder).folder.exists() is kept


async def test_a_running_gateway_follows_a_rollback(folder: Path) -> None:
    async with learning(folder, {"learn_per_hour": 100, "snapshot_seconds": 0.2}) as running:
        await judge(running, 0.0, 8)

        async def chosen(name: str) -> bool:
            return (await ask(running))[1] == name

        assert await until(lambda: table(folder).wrong[0, 0] == 4 + 8, seconds=15)  # all of it is in a version
        assert await until(lambda: chosen("large"), seconds=15)
        assert run("rollback", folder, "trained").exit_code == 0
        assert await until(lambda: chosen("small"), seconds=15)
    assert Versions(folder).serving().name == "trained"


async def test_two_gateways_learn_the_same_and_one_writes(folder: Path) -> None:
    with redis_server() as server:
        shared = {"redis": {"url": server.url, "timeout_ms": 5000}, "cache": {"size": 0}}
        scorer = {"learn_per_hour": 100, "snapshot_seconds": 0.3}
        async with learning(folder, scorer, **shared) as first, learning(folder, scorer, **shared) as second:
            await judge(first, 0.0, 4)
            await judge(second, 0.0, 4)
            assert await until(lambda: table(folder).wrong[0].sum() == 9 + 8, seconds=15)

            async def follows() -> bool:
                return (await ask(second))[1] == (await ask(first))[1] == "large"

            assert await until(follows, 4)
        assert table(folder).wrong[0].sum() == 9 + 8  # not twice


async def test_a_disk_that_takes_nothing_costs_no_request(tmp_path: Path) -> None:
    folder = write_clusters(tmp_path / "clusters")
    (tmp_path / "clusters.versions").write_text("in the way")
    with pytest.raises(BadArtifact):
        clusters.Clusters(folder)
    (tmp_path / "clusters.versions").unlink()
    async with learning(folder, {"learn_per_hour": 100, "snapshot_seconds": 0.1}) as running:
        (tmp_path / "clusters.versions").write_text("in the way")
        await judge(running, 0.0, 3)
        assert await until(lambda: sum(one.failures for one in running.gateway.snapshots) > 0, seconds=15)
        await ask(running)
        assert 'pointsman_failures{of="artifacts"}' in (await running.client.get("/metrics")).text


def test_two_scorers_must_not_learn_into_one_artifact(folder: Path) -> None:
    scorers = [{"type": "clusters", "artifact": str(folder), "learn_per_hour": 5}]
    routes = [route("small", "large", name=name, scorers=scorers) for name in ("a", "b")]
    config = validate(Source("test.yaml", {"models": [model("small", "http://x/v1"), model("large", "http://y/v1")], "routes": routes}))
    with pytest.raises(ConfigError, match="another scorer learns into"):
        build_routes(config, Registry())


def learned(folder: Path, *scores: float) -> str:
    """Another version, made of these outcomes of the small model at code."""
    scorer = clusters.Clusters(folder, learn_per_hour=100_000)
    for score in scores:
        scorer.observe(Outcome(RouteRequest(text=CODE), "small", score, None, None, None, None))
    name = scorer.keep(NOW, due=True)
    scorer.close()
    assert name is not None
    return name


def test_list_shows_what_there_is(folder: Path) -> None:
    found = json.loads(run("list", folder, "--json").output)
    assert [one["version"] for one in found["versions"]] == ["trained"]
    assert found["serving"] == "trained"
    first, second = learned(folder, 1.0), learned(folder, 1.0, 0.5)
    assert run("rollback", folder).exit_code == 0
    found = json.loads(run("list", folder, "--json").output)
    assert [(one["version"], one["parent"], one["learned_outcomes"], one["serves"]) for one in found["versions"]] == [
        ("trained", None, 0, False),
        (first, "trained", 1, True),
        (second, first, 3, False),
    ]
    assert [(step["version"], step["why"]) for step in found["history"]] == [(first, "learned"), (second, "learned"), (first, "rollback")]
    shown = run("list", folder)
    assert shown.exit_code == 0
    assert second in shown.output
    assert f"rolled back to {first}" in shown.output


def test_diff_names_tensors_and_models(folder: Path) -> None:
    learned(folder, 1.0, 1.0)
    name = learned(folder, 0.0)
    found = json.loads(run("diff", folder, "--json").output)
    assert (found["from"], found["to"]) == ("trained", name)
    tensors = {one["tensor"]: one for one in found["tensors"]}
    assert set(tensors) == {"router/right", "router/wrong"}
    assert tensors["router/right"]["apart"] == {"largest": 2.0, "mean": 0.5}
    assert tensors["router/right"]["models"] == {"small": {"largest": 2.0, "mean": 1.0}}
    assert "router/wrong" in run("diff", folder, "1", "2").output
    assert "same numbers" in run("diff", folder, "2", "2").output


def test_rollback_goes_back_and_forth_and_deletes_nothing(folder: Path) -> None:
    first, second = learned(folder, 0.0, 0.0), learned(folder, 0.0)
    assert json.loads(run("rollback", folder, "--json").output) == {
        "artifact": str(folder),
        "from": second,
        "to": first,
        "changed": True,
    }
    assert table(folder).wrong[0, 0] == 6
    assert run("rollback", folder, "trained").exit_code == 0
    assert table(folder).wrong[0, 0] == 4
    assert run("rollback", folder, "2").exit_code == 0
    assert table(folder).wrong[0, 0] == 7
    assert "serves already" in run("rollback", folder, second).output
    assert Versions(folder).names() == ["trained", first, second]


def test_wrong_input_is_2_and_damage_is_1(folder: Path, tmp_path: Path) -> None:
    wrong: list[list[str | Path]] = [["list", tmp_path], ["diff", tmp_path / "no"], ["rollback", folder], ["rollback", folder, "7"]]
    wrong.append(["diff", folder, "x"])
    for arguments in wrong:
        done = run(*arguments)
        assert done.exit_code == 2, arguments
        assert done.stderr
    name = learned(folder, 0.0)
    tensors = Versions(folder).path(name) / "tensors.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-1] + b"\x00\x01")
    assert run("diff", folder).exit_code == 1
    listed = run("list", folder)
    assert listed.exit_code == 0
    assert "damaged: tensors.safetensors was changed" in listed.output
    assert run("rollback", folder, "trained").exit_code == 0
    assert run("rollback", folder, name).exit_code == 1
    assert table(folder).wrong[0, 0] == 4
    (Versions(folder).folder / "serving.json").write_text("{")
    assert run("list", folder).exit_code == 1


def test_so_many_versions_are_kept(folder: Path) -> None:
    names = [learned(folder, 0.5) for _ in range(KEPT + 3)]
    assert Versions(folder).names() == ["trained", *names[3:]]
    assert table(folder).right[0, 0] == 6 + 0.5 * (KEPT + 3)
    assert run("rollback", folder, names[3]).exit_code == 0
    done = run("rollback", folder)
    assert done.exit_code == 2
    assert "no longer kept" in done.stderr


def test_a_version_is_made_of_what_serves_or_not_at_all(folder: Path) -> None:
    versions = Versions(folder)
    before = versions.serving()
    found = versions.load("trained")
    origin = Origin("clusters", found.manifest.models, "none", NOW, EncoderId.of(ENCODERS["static"]()), {})
    versions.add(before, origin, found.tensors, found.settings, 1)
    with pytest.raises(Overtaken):
        versions.add(before, origin, found.tensors, found.settings, 1)
    assert len(versions.names()) == 2


WRITER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from routers.api import Outcome, RouteRequest
from routers.scorers.clusters import Clusters
scorer = Clusters(Path(sys.argv[1]), learn_per_hour=1_000_000)
while True:
    scorer.observe(Outcome(RouteRequest(text="What is 17 plus 25?"), "small", 1.0, None, None, None, None))
    print(scorer.keep(datetime.now(UTC), True), flush=True)
"""


def test_whoever_is_killed_while_writing_leaves_what_can_be_loaded(folder: Path, tmp_path: Path) -> None:
    seed = random.Random(7)
    log = tmp_path / "log"
    reached = 0.0
    for _ in range(5):
        with process([sys.executable, "-c", WRITER, str(folder)], log) as writer:
            end = time.monotonic() + 20
            while not log.read_bytes().count(b"\n") and writer.poll() is None and time.monotonic() < end:
                time.sleep(0.02)
            time.sleep(seed.uniform(0, 0.05))
            writer.send_signal(signal.SIGKILL)
            writer.wait()
        count = float(table(folder).right[1, 0])
        assert count > reached  # what was kept before is still there, and more
        reached = count
        assert all(one.problem is None for one in Versions(folder).all())
    learned(folder, 1.0)
    assert [path.name for path in Versions(folder).folder.iterdir() if path.name.startswith(".") and path.is_dir()] == []

"""What the chart gives to the gateway is what the gateway takes; and what it tells people to run, runs."""

from __future__ import annotations

import asyncio
import base64
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer
import yaml

from gateway.blueprint import Blueprint, read
from gateway.cli import app
from tests.charts.rendering import CHART, ROOT, VALUES_FILES, Rendered, render, values, with_changes
from tests.charts.test_agreement import RELEASES, release
from tests.gateways import Running, pair

SOMETHING = {"REDIS_PASSWORD": "pass", "VLLM_KEY": "key", "HF_TOKEN": "token"}


def checked(rendered: Rendered, folder: Path) -> Blueprint:
    """As `pointsman check` would find the configuration in the pod. Raises ConfigError."""
    (folder / "gateway.yaml").write_text(rendered.gateway_yaml, encoding="utf-8")
    config = yaml.safe_load(rendered.gateway_yaml)
    if keys := config.get("auth", {}).get("keys"):
        given = [one["data"]["keys.yaml"] for one in rendered.of("Secret") if "keys.yaml" in one["data"]]
        text = base64.b64decode(given[0]) if given else b"keys: []"
        (folder / keys).write_bytes(text)
    return read(folder / "gateway.yaml", SOMETHING)


@RELEASES
def test_the_configuration_is_good(name: str, tmp_path: Path) -> None:
    blueprint = checked(release(name), tmp_path)
    assert blueprint.routes
    assert blueprint.config.models


def test_numbers_and_texts_stay_what_they_are(tmp_path: Path) -> None:
    """Helm reads numbers as floats, and large ones would come out as 1e+07."""
    config = {
        "server": {"max_body_bytes": 10485760, "drain_seconds": 0.5},
        "routes": [
            {
                "name": "auto",
                "models": ["my-model"],
                "text_cap": 1000000,
                "policy": {"scorers": [{"type": "rules", "rules": [{"when": {"pattern": r"\d\s*[*×]\s*\d"}, "prefer": {"my-model": 1}}]}]},
            }
        ],
        "limits": {"hold_seconds": "${HOLD:-900}"},
    }
    rendered = render(with_changes(values("minimal"), {"config": config}))
    assert yaml.safe_load(rendered.gateway_yaml)["routes"] == config["routes"]
    found = checked(rendered, tmp_path).config
    assert (found.server.max_body_bytes, found.server.drain_seconds, found.limits.hold_seconds) == (10485760, 0.5, 900)


def test_a_key_of_the_values_is_in_the_keys_file(tmp_path: Path) -> None:
    keys = checked(release("keys and secrets of its own"), tmp_path).keys
    assert keys is not None
    assert len(keys.ring) == 1


def test_allowances_are_shared_out_among_as_many_gateways_as_there_may_be(tmp_path: Path) -> None:
    assert checked(release("production"), tmp_path).config.limits.expected_replicas == 12
    assert checked(release("fake"), tmp_path).config.limits.expected_replicas == 2
    given = with_changes(values("production"), {"config": {"limits": {"expected_replicas": 4}}})
    assert checked(render(given), tmp_path).config.limits.expected_replicas == 4


@pytest.mark.parametrize("name", [*VALUES_FILES, "workers", "turns by sleep"])
def test_the_command_line_is_one_that_the_gateway_has(name: str) -> None:
    command: Any = typer.main.get_command(app)
    for container in release(name).containers():
        if container["name"] in ("gateway", "fake"):
            words = [re.sub(r"\$\((\w+)\)", r"\1", word) for word in container["args"]]
            with command.commands[words[0]].make_context(words[0], words[1:]) as context:
                assert context.params["port"] in (8080, 8000)


def test_the_image_is_as_the_chart_thinks() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    gateway = release("minimal").one("Deployment")["spec"]["template"]["spec"]
    ask = release("minimal").one("Pod", "pointsman-test")["spec"]["containers"][0]
    assert re.search(r'^ENTRYPOINT \["\S+/pointsman"\]$', text, re.MULTILINE)
    assert f"USER {gateway['securityContext']['runAsUser']}:" in text
    assert f"WORKDIR {gateway['containers'][0]['workingDir']}" in text
    assert f'CMD ["{ask["command"][0]}", "-I", "-c"' in text


def test_compose_and_the_chart_take_the_same_images() -> None:
    services = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text(encoding="utf-8"))["services"]
    theirs = {service["image"] for service in services.values() if "image" in service}
    ours = {container["image"] for name in ("fake", "gpu") for container in release(name).containers()}
    assert {image for image in ours if not image.startswith("pointsman:")} <= theirs


def request_in(notes: str) -> tuple[str, Mapping[str, str], bytes]:
    """The path, the headers and the body of the request that may be pasted."""
    (command,) = re.findall(r"^  (curl .*?\}')$", notes, re.MULTILINE | re.DOTALL)
    words = shlex.split(command)
    headers = [words[index + 1].split(": ", 1) for index, word in enumerate(words) if word == "-H"]
    return httpx.URL(words[2]).path, dict(headers), words[words.index("-d") + 1].encode()


@pytest.mark.parametrize("name", VALUES_FILES)
async def test_the_request_in_the_notes_is_answered(name: str) -> None:
    path, headers, body = request_in(release(name).notes)
    assert ("authorization" in headers) == ("insecure=true" not in release(name).notes)
    async with pair() as running:
        answer = await running.client.post(path, content=body, headers=headers)
    assert (answer.status_code, answer.json()["object"]) == (200, "chat.completion")


def blocks(document: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", document.read_text(encoding="utf-8"), re.DOTALL)


def test_a_configuration_that_is_there_becomes_a_values_file_as_the_readme_says(tmp_path: Path) -> None:
    (tmp_path / "gateway.yaml").write_text(blocks(ROOT / "README.md", "yaml")[0], encoding="utf-8")
    command = next(text for text in blocks(CHART / "README.md", "sh") if text.startswith("sed"))
    subprocess.run(command, shell=True, cwd=tmp_path, check=True)
    given = yaml.safe_load((tmp_path / "config-values.yaml").read_text(encoding="utf-8"))
    assert given["config"]["models"][0]["name"] == "small"
    assert checked(render({**given, "insecure": True}), tmp_path).config.models[1].name == "large"


def test_the_examples_in_the_readme_are_good(tmp_path: Path) -> None:
    for text in blocks(CHART / "README.md", "yaml"):
        assert checked(render(with_changes(values("fake"), {"redis": {"enabled": False}, **yaml.safe_load(text)})), tmp_path).routes


def test_every_values_file_is_installed_by_one_command_that_stands_in_it_or_in_the_readme() -> None:
    for name in VALUES_FILES:
        text = (CHART / f"values-{name}.yaml").read_text(encoding="utf-8")
        (command,) = [line[1:].strip() for line in text.splitlines() if line.startswith("#") and " install " in line]
        words = shlex.split(command)
        assert words[words.index("-f") + 1] == f"helm/pointsman/values-{name}.yaml"


async def ask(running: Running, environment: Mapping[str, str]) -> tuple[int, str]:
    """Runs what `helm test` runs. Returns its exit code and what it said."""
    rendered = release("fake").one("Pod", "pointsman-test")["spec"]["containers"][0]
    code = rendered["args"][0]
    env = {"GATEWAY": running.url, "PATIENCE": "1", **environment}
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-c", code, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await started.communicate()
    assert started.returncode is not None
    return started.returncode, said.decode()


async def test_helm_test_asks_for_a_whole_answer_and_a_stream() -> None:
    async with pair() as running:
        code, said = await ask(running, environment={"MODEL": "auto", "OPEN": "true"})
    assert code == 0, said
    assert "42" in said
    assert "a stream came through to its end" in said


async def test_helm_test_fails_where_the_gateway_fails() -> None:
    async with pair(["status:500"], ["status:500"]) as running:
        code, said = await ask(running, environment={"MODEL": "auto", "OPEN": "true"})
    assert (code, "/v1/chat/completions: 50" in said) == (1, True)


async def test_helm_test_without_a_key_wants_to_be_refused(tmp_path: Path) -> None:
    keys = tmp_path / "keys.yaml"
    keys.write_text("keys: []", encoding="utf-8")
    async with pair(auth={"keys": str(keys)}) as running:
        assert (await ask(running, environment={"MODEL": "auto", "OPEN": "false"}))[0] == 0
    async with pair() as running:
        assert (await ask(running, environment={"MODEL": "auto", "OPEN": "false"}))[0] == 1


def test_the_test_pod_runs_the_script_as_it_is() -> None:
    container = release("fake").one("Pod", "pointsman-test")["spec"]["containers"][0]
    assert container["args"] == [(CHART / "scripts/ask.py").read_text(encoding="utf-8")]

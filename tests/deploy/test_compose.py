"""deploy/compose.yaml: judged by Docker's own program, held against the files beside it, and run as processes."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.clients.environments import environment
from tests.deploy.images import ROOT

DEPLOY = ROOT / "deploy"
CONFIGURATIONS = {"fake": "gateway.yaml", "cpu": "gateway-cpu.yaml", "gpu": "gateway-gpu.yaml"}
PROFILES = sorted(CONFIGURATIONS)
REST_SECONDS = 15  # of an ending, beside what the configuration says


@pytest.fixture(scope="module")
def docker_compose() -> Path:
    return environment(".venv-image-tools", "image-tools.txt").parent / "docker-compose"


def compose(program: Path, *words: str, **variables: str) -> str:
    """Runs Docker's program from another folder, as one would who reads the README. `variables`: of the shell."""
    shell = {name: value for name, value in os.environ.items() if not name.startswith(("COMPOSE_", "POINTSMAN_"))}
    command = [str(program), "--file", str(DEPLOY / "compose.yaml"), *words]
    done = subprocess.run(command, cwd="/", env={**shell, **variables}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "level=warn" not in done.stderr, done.stderr
    return done.stdout


def services(program: Path, profile: str, **variables: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads(compose(program, "--profile", profile, "config", "--format", "json", **variables))[
        "services"
    ]
    return found


def seconds(text: str) -> int:
    return sum(int(number) * {"s": 1, "m": 60, "h": 3600}[unit] for number, unit in re.findall(r"(\d+)([smh])", text))


def configuration(profile: str) -> dict[str, Any]:
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", (DEPLOY / CONFIGURATIONS[profile]).read_text(encoding="utf-8"))
    found: dict[str, Any] = yaml.safe_load(text)
    return found


@pytest.mark.parametrize("profile", PROFILES)
def test_the_configuration_of_each_profile_is_good(profile: str, tmp_path: Path) -> None:
    text = (DEPLOY / CONFIGURATIONS[profile]).read_text(encoding="utf-8")
    keys = DEPLOY / "secrets" / "trial" / "keys.yaml"
    assert "/run/secrets/keys.yaml" in text
    (tmp_path / "gateway.yaml").write_text(text.replace("/run/secrets/keys.yaml", str(keys)), encoding="utf-8")
    command = [sys.executable, "-m", "gateway", "check", str(tmp_path / "gateway.yaml")]
    given = {**os.environ, "REDIS_PASSWORD_FILE": str(keys.with_name("redis-password"))}
    done = subprocess.run(command, cwd=ROOT, env=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_trial_keys_are_those_that_the_file_names() -> None:
    text = (DEPLOY / "secrets" / "trial" / "keys.yaml").read_text(encoding="utf-8")
    named = re.findall(r"# (pm_trial-\S+)", text)
    assert len(named) == 2
    assert [entry["sha256"] for entry in yaml.safe_load(text)["keys"]] == [hashlib.sha256(key.encode()).hexdigest() for key in named]


def test_redis_and_the_gateways_have_the_same_password() -> None:
    trial = DEPLOY / "secrets" / "trial"
    password = (trial / "redis-password").read_text(encoding="utf-8").strip()
    assert (trial / "redis.conf").read_text(encoding="utf-8") == f"requirepass {password}\n"


@pytest.mark.deploy
class TestByDockerCompose:
    @pytest.mark.parametrize("profile", PROFILES)
    def test_every_profile_is_valid(self, docker_compose: Path, profile: str) -> None:
        assert compose(docker_compose, "--profile", profile, "config", "--quiet") == ""

    def test_without_a_profile_it_is_the_one_that_needs_nothing(self, docker_compose: Path) -> None:
        names = set(compose(docker_compose, "config", "--services").split())
        assert names == set(services(docker_compose, "fake"))
        experts, gateways = ({name for name in names if name.startswith(kind)} for kind in ("fake-", "gateway-"))
        assert (len(experts), len(gateways)) == (3, 2)
        assert names - experts - gateways == {"balancer", "redis", "prometheus", "grafana"}

    @pytest.mark.parametrize("profile", PROFILES)
    def test_every_service_is_kept_small_and_watched(self, docker_compose: Path, profile: str) -> None:
        for name, service in services(docker_compose, profile).items():
            assert service["read_only"], name
            assert service["cap_drop"] == ["ALL"], name
            assert service["security_opt"] == ["no-new-privileges:true"], name
            assert service["restart"] == "unless-stopped", name
            assert service["logging"]["options"] == {"max-file": "3", "max-size": "10m"}, name
            assert service["healthcheck"]["test"][0] == "CMD", name
            limits = service["deploy"]["resources"]["limits"]
            assert limits["memory"], name
            assert limits["pids"], name
            assert re.search(r":v?\d+\.\d+\.\d+[\w.-]*$", service["image"]), f"{name}: {service['image']} should name a version"
            assert "privileged" not in service, name
            assert {how["condition"] for how in service.get("depends_on", {}).values()} <= {"service_healthy", "service_started"}, name

    @pytest.mark.parametrize("profile", PROFILES)
    def test_only_this_machine_reaches_what_is_published(self, docker_compose: Path, profile: str) -> None:
        published = {name: service["ports"] for name, service in services(docker_compose, profile).items() if service.get("ports")}
        assert set(published) == {"balancer", "prometheus", "grafana"}
        assert {port["host_ip"] for ports in published.values() for port in ports} == {"127.0.0.1"}

    @pytest.mark.parametrize("profile", PROFILES)
    def test_secrets_are_files_and_what_is_mounted_exists(self, docker_compose: Path, profile: str) -> None:
        document = json.loads(compose(docker_compose, "--profile", profile, "config", "--format", "json"))
        for name, service in document["services"].items():
            for variable in service.get("environment", {}):
                assert not re.search(r"(KEY|PASSWORD|SECRET|TOKEN)$", variable), f"{name}: {variable} should come by a file"
            for mount in service.get("volumes", []):
                assert mount["type"] == "volume" or Path(mount["source"]).exists(), f"{name}: {mount['source']}"
        files = {name: Path(secret["file"]) for name, secret in document["secrets"].items()}
        # The last one is for whoever uses the profile `gpu` to make: without it the engine refuses to start, and names the path.
        assert {name for name, path in files.items() if not path.exists()} - {"keys"} == set()

    @pytest.mark.parametrize("profile", PROFILES)
    def test_names_and_ports_agree_with_the_files_beside_it(self, docker_compose: Path, profile: str) -> None:
        chosen = services(docker_compose, profile)
        ports = {(name, int(port)) for name, service in chosen.items() for port in service["expose"]}
        aliases = {
            (alias, int(port))
            for service in chosen.values()
            for alias in (service["networks"].get("inside") or {}).get("aliases", [])
            for port in service["expose"]
        }
        for model in configuration(profile)["models"]:
            for host, port in re.findall(r"http://([\w-]+):(\d+)/v1", " ".join(model["backends"])):
                assert (host, int(port)) in ports, model["name"]
        balanced = re.findall(r"^    server \S+ ([\w-]+):(\d+)$", (DEPLOY / "haproxy.cfg").read_text(encoding="utf-8"), re.MULTILINE)
        assert balanced == [("gateway-0", "8080"), ("gateway-1", "8080")]
        assert {(host, int(port)) for host, port in balanced} <= aliases
        scraped = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yaml").read_text(encoding="utf-8"))["scrape_configs"]
        asked = {(name, job["port"]) for scrape in scraped for job in scrape.get("dns_sd_configs", []) for name in job["names"]}
        assert ("gateway", 8080) in asked
        assert {place for place in asked if place[0].startswith("gateway")} <= aliases

    @pytest.mark.parametrize("profile", PROFILES)
    def test_a_gateway_has_the_time_to_end_in_order(self, docker_compose: Path, profile: str) -> None:
        server = configuration(profile)["server"]
        for name, service in services(docker_compose, profile).items():
            if name.startswith("gateway-"):
                assert seconds(service["stop_grace_period"]) >= server["pre_stop_seconds"] + server["drain_seconds"] + REST_SECONDS, name

    @pytest.mark.parametrize("profile", ["cpu", "gpu"])
    def test_real_experts_serve_what_the_configuration_says(self, docker_compose: Path, profile: str) -> None:
        chosen = services(docker_compose, profile)
        for model in configuration(profile)["models"]:
            (host,) = re.findall(r"http://([\w-]+):", model["backends"][0])
            command = chosen[host]["command"]
            assert command[0] == model["served_as"]
            assert f"--max-model-len={model['context_window']}" in command

    def test_gpus_are_reserved_and_tensor_parallelism_is_a_variable(self, docker_compose: Path) -> None:
        def large(**variables: str) -> tuple[int, list[str]]:
            service = services(docker_compose, "gpu", **variables)["vllm-large"]
            (device,) = service["deploy"]["resources"]["reservations"]["devices"]
            assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
            return device["count"], [word for word in service["command"] if word.startswith("--tensor-parallel-size=")]

        assert large() == (1, ["--tensor-parallel-size=1"])
        assert large(POINTSMAN_TENSOR_PARALLEL="4") == (4, ["--tensor-parallel-size=4"])

    def test_another_model_is_named_to_the_server_and_to_the_gateway(self, docker_compose: Path) -> None:
        chosen = services(docker_compose, "gpu", POINTSMAN_LARGE_MODEL="Qwen/Qwen2.5-32B-Instruct")
        assert chosen["vllm-large"]["command"][0] == "Qwen/Qwen2.5-32B-Instruct"
        assert chosen["gateway-gpu-1"]["environment"]["POINTSMAN_LARGE_MODEL"] == "Qwen/Qwen2.5-32B-Instruct"


@pytest.mark.deploy
@pytest.mark.timeout(900)
def test_the_services_work_together_as_processes() -> None:
    done = subprocess.run([sys.executable, "scripts/compose_e2e.py"], cwd=ROOT, capture_output=True, text=True, timeout=840, check=False)
    if done.returncode == 3:
        pytest.skip(f"{done.stdout.strip().splitlines()[-1]} (scripts/system-packages.sh --deploy)")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all held" in done.stdout

"""The image: really built, and its root file system really answers. Without root or Debian's `buildah` it is skipped, and says so."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.clients.environments import environment
from tests.deploy.images import ROOT, Image, built, first_child, skip_unless_buildable
from tests.processes import free_port, process, wait_until_ready

LIMIT_MB = 250
KEY = "pm_trial-user-key"
BOOT_SECONDS = 120


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    skip_unless_buildable()
    with built(tmp_path_factory.mktemp("image")) as made:
        yield made


@contextmanager
def running(image: Image, folder: Path, *options: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The image's gateway, started by its own command, before an expert that pretends, from the same image. Yields its address."""
    expert, port = free_port(), free_port()
    config = folder / "config"
    config.mkdir()
    (config / "gateway.yaml").write_text(
        f"models:\n  - {{name: small, backends: ['http://127.0.0.1:{expert}/v1'], price: {{input: 1, output: 2}}}}\n"
        "routes:\n  - {name: auto, models: [small]}\n"
        "auth: {keys: keys.yaml}\nledger: {path: /tmp/ledger.jsonl}\nserver: {drain_seconds: 20}\n",
        encoding="utf-8",
    )
    keys = ROOT / "deploy" / "secrets" / "trial" / "keys.yaml"
    (config / "keys.yaml").write_text(keys.read_text(encoding="utf-8"), encoding="utf-8")
    for path in [config, *config.iterdir()]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    pretender = image.command(image.entry("fake-vllm", "--model", "small", "--port", str(expert)))
    # The last of several --host and --port counts.
    own = image.entry(*image.config["Cmd"], "--host", "127.0.0.1", "--port", str(port), *options)
    with (
        process(pretender, folder / "expert.log") as first,
        process(image.command(own, {config: "/etc/pointsman"}), folder / "gateway.log") as gateway,
    ):
        wait_until_ready(f"http://127.0.0.1:{expert}/health", first, folder / "expert.log", BOOT_SECONDS)
        wait_until_ready(f"http://127.0.0.1:{port}/readyz", gateway, folder / "gateway.log", BOOT_SECONDS)
        yield f"http://127.0.0.1:{port}", gateway


def ask(address: str, stream: bool = False) -> httpx.Response:
    body = {"model": "auto", "stream": stream, "messages": [{"role": "user", "content": "What is 17 + 25?"}]}
    return httpx.post(f"{address}/v1/chat/completions", json=body, headers={"authorization": f"Bearer {KEY}"}, timeout=60)


def in_the_image(image: Image, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(image.command(command), capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.deploy
def test_hadolint_has_nothing_to_say() -> None:
    hadolint = environment(".venv-image-tools", "image-tools.txt").parent / "hadolint"
    done = subprocess.run([str(hadolint), "Dockerfile"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_list_of_parts_names_what_pip_lists(tmp_path: Path) -> None:
    folder = Path(sys.prefix)
    done = subprocess.run([sys.executable, "scripts/sbom.py", str(folder), "--out", str(tmp_path / "s")], cwd=ROOT, check=False)
    assert done.returncode == 0
    document = json.loads((tmp_path / "s").read_text(encoding="utf-8"))
    (packages,) = folder.glob("lib/python3*/site-packages")
    assert named(document) == listed(packages)
    assert document["metadata"]["component"]["name"] == "pointsman"


def named(document: dict) -> set[tuple[str, str]]:
    parts = [document["metadata"]["component"], *document["components"]]
    return {(part["name"], part["version"]) for part in parts if part["purl"].startswith("pkg:pypi/")}


def listed(*folders: Path) -> set[tuple[str, str]]:
    """What pip finds in folders of packages."""
    paths = [word for folder in folders for word in ("--path", str(folder))]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "list", "--format", "json", *paths]
    done = subprocess.run(pip, capture_output=True, text=True, check=True)
    return {(re.sub(r"[-_.]+", "-", entry["name"]).lower(), entry["version"]) for entry in json.loads(done.stdout)}


@pytest.mark.deploy
@pytest.mark.timeout(2400)
class TestBuilt:
    def test_it_says_what_it_is_and_runs_as_nobody_special(self, image: Image) -> None:
        config = image.config
        assert config["User"] == "10001:10001"
        assert config["Entrypoint"] == ["/opt/pointsman/bin/pointsman"]
        assert config["Cmd"][:3] == ["serve", "--config", "/etc/pointsman/gateway.yaml"]
        assert config["Healthcheck"]["Test"][0] == "CMD"
        assert "ORT_DISABLE_TELEMETRY=1" in config["Env"]
        assert list(config["ExposedPorts"]) == ["8080/tcp"]
        assert {"title", "description", "version", "licenses", "revision", "created"} <= {
            name.removeprefix("org.opencontainers.image.") for name in config["Labels"]
        }

    def test_it_adds_less_than_250_MB(self, image: Image) -> None:
        size = sum(path.lstat().st_size for path in (image.root / "opt/pointsman").rglob("*") if path.is_symlink() or path.is_file()) / 1e6
        print(f"\nthe image adds {size:.0f} MB to its base")
        assert size < LIMIT_MB

    def test_nothing_stands_in_it_but_the_product(self, image: Image) -> None:
        before = {path.relative_to(image.base) for path in image.base.rglob("*")}
        added = {path.relative_to(image.root) for path in image.root.rglob("*")} - before
        strangers = [str(path) for path in added if not str(path).startswith(("opt/pointsman/", "var/lib/pointsman"))]
        assert sorted(set(strangers) - {"opt/pointsman", "etc/pointsman"}) == []
        names = {path.name for path in added}
        assert names & {".git", ".env", "keys.yaml", "Makefile", "Dockerfile", "pip", ".cache"} == set()
        (packages,) = (image.root / "opt/pointsman").glob("lib/python3*/site-packages")
        assert not (packages / "tests").exists()
        assert not [path for path in added if path.suffix in (".pem", ".key") and "certifi" not in str(path)]

    def test_its_list_of_parts_names_what_pip_lists_and_what_dpkg_lists(self, image: Image) -> None:
        document = json.loads((image.root / "opt/pointsman/sbom.cdx.json").read_text(encoding="utf-8"))
        (packages,) = (image.root / "opt/pointsman").glob("lib/python3*/site-packages")
        base = [path for path in (image.root / "usr").rglob("*-packages") if path.parent.name.startswith("python3")]
        assert named(document) == listed(packages, *base)
        locked = set(re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / "requirements/image.lock").read_text(encoding="utf-8"), re.MULTILINE))
        assert listed(packages) - locked == {("pointsman", "0.1.0")}
        system = {part["name"] for part in document["components"] if part["purl"].startswith("pkg:deb/debian/")}
        status = (image.root / "var/lib/dpkg/status").read_text(encoding="utf-8")
        assert system == set(re.findall(r"^Package: (\S+)$", status, re.MULTILINE))

    def test_what_was_taken_out_is_missed_by_nobody(self, image: Image) -> None:
        code = (
            "import dns.resolver, uvloop, httptools, msgspec, onnxruntime\n"
            "from routers.embedding import MiniLM\n"
            "print(MiniLM().encode(['What is 17 + 25?']).shape)"
        )
        done = in_the_image(image, "/opt/pointsman/bin/python", "-c", code)
        assert (done.returncode, done.stdout) == (0, "(1, 384)\n"), done.stderr
        assert "telemetry" not in done.stderr  # onnxruntime's is off

    @pytest.mark.parametrize("workers", [1, 2])
    def test_its_root_file_system_answers_read_only_and_without_a_shell(self, image: Image, tmp_path: Path, workers: int) -> None:
        with running(image, tmp_path, "--workers", str(workers)) as (address, gateway):
            whole, stream = ask(address), ask(address, stream=True)
            assert whole.status_code == 200, whole.text
            assert "42" in whole.json()["choices"][0]["message"]["content"]
            assert stream.text.endswith("data: [DONE]\n\n")
            health = [word.replace(":8080", f":{address.rsplit(':', 1)[1]}") for word in image.config["Healthcheck"]["Test"][1:]]
            assert in_the_image(image, *health).returncode == 0
            with urllib.request.urlopen(f"{address}/metrics", timeout=10) as metrics:
                assert b'code="200"' in metrics.read()
            inside = first_child(gateway.pid)
            status = Path(f"/proc/{inside}/status").read_text()
            assert re.search(r"^Uid:\s+10001\s", status, re.MULTILINE)
            assert re.search(r"^NSpid:\s+\d+\s+1$", status, re.MULTILINE), "it should be the first process, with no shell before it"
            # A signal reaches it though it is process 1, and it ends in order.
            subprocess.run(["kill", f"-{signal.SIGTERM.value}", str(inside)], check=True)
            assert gateway.wait(60) == 0
            assert in_the_image(image, *health).returncode != 0

    def test_without_a_configuration_it_says_which_file_is_missing(self, image: Image) -> None:
        done = in_the_image(image, *image.entry(*image.config["Cmd"]))
        assert done.returncode == 2
        assert "/etc/pointsman/gateway.yaml" in done.stderr

"""The image built from the Dockerfile without a container engine's daemon, and programs in its root file system."""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
BASE = ROOT / ".cache" / "image-base.tar"
SUITE = "bookworm"  # whose Python is 3.11, as that of the Dockerfile's own base image
NEEDED = ("buildah", "mmdebstrap", "unshare", "mount")
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"

ENTER = """
import ctypes, json, os, subprocess, sys
root, given = sys.argv[1], json.loads(sys.argv[2])
def mount(*words): subprocess.run(["mount", *words], check=True)
mount("--bind", root, root)
mount("-t", "proc", "proc", root + "/proc")
mount("--rbind", "/dev", root + "/dev")
mount("-t", "tmpfs", "-o", "mode=1777,noexec,nosuid,nodev", "tmpfs", root + "/tmp")
for source, target in given["mounts"].items():
    mount("--bind", source, root + target)
for shell in ("sh", "dash", "bash"):
    if os.path.exists(root + "/bin/" + shell):
        mount("--bind", "/dev/null", os.path.realpath(root + "/bin/" + shell))
mount("-o", "remount,ro,bind", root)
os.chroot(root)
os.chdir(given["folder"])
user, group = given["user"]
os.setgroups([])
os.setgid(group)
os.setuid(user)
ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
os.execve(given["command"][0], given["command"], given["environment"])
"""
"""Run in namespaces of its own: the root read-only but for /tmp, no shell, the image's user, process 1."""


@dataclass(frozen=True)
class Image:
    """`root` and `base`: root file systems of the image and of its base image. `config`: what it says of itself, as Docker has it."""

    root: Path
    base: Path
    config: dict[str, Any]

    def command(self, command: Sequence[str], mounts: dict[Path, str] | None = None) -> list[str]:
        """A command of this machine that runs one of the image's, as its user, in its folder, with its environment alone."""
        user, group = (int(number) for number in self.config["User"].split(":"))
        given = {
            "user": [user, group],
            "folder": self.config["WorkingDir"],
            "environment": dict(entry.split("=", 1) for entry in self.config["Env"]),
            "mounts": {str(source): target for source, target in (mounts or {}).items()},
            "command": list(command),
        }
        # The child is in the new pid namespace; if this process is ended, so is that.
        spaces = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"]
        return [*spaces, "--", sys.executable, "-c", ENTER, str(self.root), json.dumps(given)]

    def entry(self, *arguments: str) -> list[str]:
        """The image's program with other arguments than its own."""
        return [*self.config["Entrypoint"], *arguments]


def first_child(pid: int) -> int:
    """The process that `unshare --fork` has started."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def skip_unless_buildable() -> None:
    if os.geteuid() != 0:
        pytest.skip("building the image needs root")
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)} (scripts/system-packages.sh --deploy)")


@contextmanager
def built(folder: Path) -> Iterator[Image]:
    """The image, built on a base of Debian's packages. `folder`: for everything that is needed meanwhile; emptied at the end."""
    store = ["buildah", "--storage-driver", "vfs", "--root", str(folder / "root"), "--runroot", str(folder / "run")]

    def buildah(*words: str) -> str:
        done = subprocess.run([*store, *words], capture_output=True, text=True, check=False, cwd=ROOT)
        assert done.returncode == 0, f"buildah {' '.join(words)}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
        return done.stdout.strip()

    try:
        scratch = buildah("from", "scratch")
        buildah("add", "--quiet", scratch, str(base()), "/")
        buildah("commit", "--quiet", "--format", "docker", scratch, "localhost/base:1")
        options = ["--isolation", "chroot", "--format", "docker", "--build-arg", "BASE_IMAGE=localhost/base:1"]
        buildah("bud", *options, *mounted(folder), "--tag", "localhost/pointsman:1", ".")
        inspected = json.loads(buildah("inspect", "--type", "image", "localhost/pointsman:1"))
        roots = [Path(buildah("mount", name)) for name in (buildah("from", "localhost/pointsman:1"), scratch)]
        (roots[0] / "etc" / "pointsman").mkdir()  # a container engine makes what it mounts on
        yield Image(roots[0], roots[1], inspected["Docker"]["config"])
    finally:
        subprocess.run([*store, "rm", "--all"], capture_output=True, check=False)
        shutil.rmtree(folder, ignore_errors=True)


def base() -> Path:
    """A root file system of Debian's packages with Python; made once, in some minutes."""
    if not BASE.exists():
        BASE.parent.mkdir(exist_ok=True)
        fresh = BASE.with_suffix(f".{os.getpid()}.tar")
        lean = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "info", "locale", "man")]
        packages = "--include=ca-certificates,python3,python3-venv"
        done = subprocess.run(
            ["mmdebstrap", "--variant=minbase", *lean, packages, SUITE, str(fresh)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-4000:]
        fresh.rename(BASE)
    return BASE


def mounted(folder: Path) -> list[str]:
    """Options that let pip inside reach the package index as pip here does: its certificates, and its index if it has one of its own."""
    given = subprocess.run([sys.executable, "-m", "pip", "config", "get", "global.index-url"], capture_output=True, text=True, check=False)
    index = f"index-url = {given.stdout.strip()}\n" if given.returncode == 0 else ""
    settings = folder / "pip.conf"
    settings.write_text(f"[global]\ncert = {CERTIFICATES}\n{index}", encoding="utf-8")
    here = os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().openssl_cafile
    return ["--volume", f"{settings}:/etc/pip.conf:ro", "--volume", f"{os.path.realpath(here)}:{CERTIFICATES}:ro"]

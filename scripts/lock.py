"""Writes the lock files: every package that an environment gets, by version and hash, for every platform and Python from 3.11 on.

Needs the package index, and nothing installed: uv comes into a folder that is thrown away. `--upgrade` takes the newest versions
that pyproject.toml allows; without it what is locked stays where it can.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements"
IMAGE_EXTRAS = ("dns", "embed", "otel")
HEADER = "# Written by `make lock` from {}. Do not edit.\n"


def compile_lock(uv: Path, source: str, lock: str, *options: str) -> None:
    """Resolves `source` into `requirements/lock`, whose own pins are kept where they still fit."""
    target = REQUIREMENTS / lock
    command = [uv, "pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--fork-strategy", "fewest"]
    command += ["--generate-hashes", "--no-header", "--no-annotate", *options, source, "--output-file", target]
    subprocess.run([str(part) for part in command], cwd=ROOT, check=True)
    target.write_text(HEADER.format(source) + target.read_text())


def main() -> None:
    upgrade = ["--upgrade"] if "--upgrade" in sys.argv[1:] else []
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        scripts = Path(folder) / ("Scripts" if sys.platform == "win32" else "bin")
        subprocess.run([scripts / "python", "-m", "pip", "install", "--quiet", "uv"], check=True)
        uv = scripts / "uv"
        # Each lock is bound by the one before it, so that they can share an environment.
        compile_lock(uv, "pyproject.toml", "runtime.lock", *upgrade)
        compile_lock(uv, "pyproject.toml", "dev.lock", "--extra", "dev", "-c", "requirements/runtime.lock", *upgrade)
        compile_lock(uv, "requirements/build.in", "build.lock", "-c", "requirements/dev.lock", *upgrade)
        compile_lock(uv, "pyproject.toml", "charts.lock", "--extra", "charts", "-c", "requirements/dev.lock", *upgrade)
        extras = [part for extra in IMAGE_EXTRAS for part in ("--extra", extra)]
        compile_lock(uv, "pyproject.toml", "image.lock", *extras, "-c", "requirements/dev.lock", *upgrade)


if __name__ == "__main__":
    main()

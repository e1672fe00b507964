"""Environments of their own for what the tests drive from outside: made once, kept beside the gateway's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def environment(name: str, requirements: str) -> Path:
    """The Python of the environment `name`, with what a requirements file lists."""
    folder = ROOT / name
    listed = (ROOT / "requirements" / requirements).read_text(encoding="utf-8")
    stamp = folder / ".installed"
    python = folder / "bin" / "python"
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != listed:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
        subprocess.run([*pip, "--no-deps", "-r", str(ROOT / "requirements" / requirements)], check=True)
        stamp.write_text(listed, encoding="utf-8")
    return python


def sdk_tests() -> Path:
    """OpenAI's own tests, unpacked from the source distribution of its SDK."""
    cache = ROOT / ".cache"
    folder = cache / "openai-3.54.0"
    if not (folder / "tests").is_dir():
        cache.mkdir(exist_ok=True)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-binary=:all:", "--no-deps"]
        subprocess.run([*pip, "--disable-pip-version-check", "--dest", str(cache), "openai==3.54.0"], check=True)
        subprocess.run(["tar", "xzf", str(cache / "openai-3.54.0.tar.gz"), "-C", str(cache)], check=True)
    return folder

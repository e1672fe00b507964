"""ONNX runtime sends nothing to anybody."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("onnxruntime", reason="the extra `embed` is not installed")
LOOK = (
    "import os, pathlib, sys; from routers.embedding import MiniLM; MiniLM().encode(['a']); "
    "print(os.environ['ORT_DISABLE_TELEMETRY'], [p.name for p in pathlib.Path(sys.argv[1]).rglob('*') if p.is_file()])"
)


def test_it_is_told_so_before_it_starts_and_keeps_no_files(tmp_path):
    env = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", LOOK, str(tmp_path)], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1 []"


def test_whoever_wants_it_may_have_it(tmp_path):
    env = {"HOME": str(tmp_path), "PATH": "", "ORT_DISABLE_TELEMETRY": "0"}
    look = "import os; from routers.onnx import runtime; runtime(); print(os.environ['ORT_DISABLE_TELEMETRY'])"
    done = subprocess.run([sys.executable, "-c", look], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0"

"""The clients of Node: OpenAI's own SDK, and the AI SDK. One call makes an answer, or a cascade does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

NODE = Path(__file__).parent / "node"


@pytest.fixture(scope="session")
def packages() -> Path:
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not here; scripts/system-packages.sh installs them")
    if not (NODE / "node_modules" / ".package-lock.json").exists():
        subprocess.run(["npm", "ci", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=NODE, check=True, timeout=180)
    return NODE


@pytest.mark.parametrize("gateway", ["base_url", "cascade_url"])
@pytest.mark.parametrize("script", ["openai.mjs", "ai.mjs"])
def test_a_whole_a_streamed_and_a_tool_calling_exchange(script: str, gateway: str, request: pytest.FixtureRequest, packages: Path) -> None:
    env = {**os.environ, "BASE_URL": request.getfixturevalue(gateway)}
    done = subprocess.run(["node", script], cwd=packages, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    found = json.loads(done.stdout.strip().splitlines()[-1])
    print(found)
    assert "42" in found["whole"]
    assert "42" in found["streamed"]
    assert "Oslo" in json.dumps(found["tool"])

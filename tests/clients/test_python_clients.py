"""Clients as people use them: a whole answer, a streamed one, and a tool call each. One call makes an answer, or a cascade does."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.clients.environments import environment

SCRIPTS = Path(__file__).parent / "scripts"


@pytest.mark.parametrize("gateway", ["base_url", "cascade_url"])
@pytest.mark.parametrize(
    "name", ["openai_sdk", "langchain", "llama_index_client", "pydantic_ai_client", "instructor_client", "llm_command"]
)
def test_a_whole_a_streamed_and_a_tool_calling_exchange(name: str, gateway: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    base_url: str = request.getfixturevalue(gateway)
    own = name == "llama_index_client"
    python = environment(".venv-llama-index", "llama-index.txt") if own else environment(".venv-clients", "clients.txt")
    env = {
        **os.environ,
        "BASE_URL": base_url,
        "OPENAI_API_KEY": "none",
        "HOME": str(tmp_path),
        "LLM_USER_PATH": str(tmp_path),
    }
    done = subprocess.run([str(python), str(SCRIPTS / f"{name}.py")], env=env, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    found = json.loads(done.stdout.strip().splitlines()[-1])
    print(found)
    assert "42" in found["whole"]
    assert "42" in found["streamed"]
    assert "Oslo" in json.dumps(found["tool"])

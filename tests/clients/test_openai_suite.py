"""OpenAI's own test suite for its SDK, against the gateway: every documented parameter, half of it with strict validation."""

from __future__ import annotations

import os
import re
import subprocess

import httpx
import pytest

from tests.clients.conftest import SUITE
from tests.clients.environments import environment, sdk_tests

FILES = ["chat/test_completions.py", "test_models.py", "test_embeddings.py", "test_completions.py"]
CASES = 108


@pytest.mark.parametrize("gateway", ["base_url", "cascade_url"])
def test_all_108_cases_pass(gateway: str, request: pytest.FixtureRequest) -> None:
    base_url: str = request.getfixturevalue(gateway)
    python = environment(".venv-openai", "openai-suite.txt")
    command = [str(python), "-m", "pytest", "-o", "addopts=", "-q", "-p", "no:cacheprovider", "--tb=short"]
    command += [f"tests/api_resources/{file}" for file in FILES]
    command += ["-k", "(create or Models) and not aiohttp and not delete and not update"]
    env = {**os.environ, "TEST_API_BASE_URL": base_url}
    done = subprocess.run(command, cwd=sdk_tests(), env=env, capture_output=True, text=True, timeout=300)
    last = done.stdout.strip().splitlines()[-1]
    print(last)
    passed = re.search(r"(\d+) passed", last)
    assert passed is not None, done.stdout[-4000:] + done.stderr[-2000:]
    assert (int(passed[1]), "failed" in last, "error" in last) == (CASES, False, False), done.stdout[-6000:]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("model", "relayed"), [(SUITE[0], False), ("auto", True)])
def test_a_cascade_asks_several_for_what_the_suite_sends(model: str, relayed: bool, stream: bool, cascade_url: str) -> None:
    """In its plainest case: no two experts agree, so three are asked, and the last one's answer is given: put together, or relayed."""
    body = {"model": model, "messages": [{"role": "developer", "content": "string"}], "stream": stream}
    answer = httpx.post(f"{cascade_url}/chat/completions", json=body, timeout=30)
    assert answer.status_code == 200, answer.text
    found = httpx.get(f"{cascade_url}/decisions/{answer.headers['x-router-decision-id']}", timeout=10).json()
    assert [one["model"] for one in found["rounds"]] == (["small", "medium"] if relayed else ["small", "medium", "large"])
    assert (found["answered_by"], found["usage"] is not None) == ("large", relayed)

"""OpenAI's own test suite for its SDK, against the gateway: every documented parameter, half of it with strict validation."""

from __future__ import annotations

import os
import re
import subprocess

from tests.clients.environments import environment, sdk_tests

FILES = ["chat/test_completions.py", "test_models.py", "test_embeddings.py", "test_completions.py"]
CASES = 108


def test_all_108_cases_pass(base_url: str) -> None:
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

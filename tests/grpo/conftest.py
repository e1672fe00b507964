"""A real small LLM learns for a step or two. `make test-grpo` runs this in `.venv-grpo`; elsewhere it is skipped."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

SMOLLM = Path(__file__).resolve().parent.parent.parent / ".models" / "smollm2-135m"
MISSING = [name for name in ("torch", "transformers", "trl", "peft") if importlib.util.find_spec(name) is None]
collect_ignore_glob = ["test_*.py"] if MISSING else []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.grpo)


@pytest.fixture(scope="session")
def smollm() -> str:
    """The folder of SmolLM2-135M-Instruct."""
    if not (SMOLLM / "config.json").exists():
        pytest.skip(f"run scripts/grpo-environment.sh first: {SMOLLM} is not here")
    return str(SMOLLM)

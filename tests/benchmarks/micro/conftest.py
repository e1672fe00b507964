"""Without pytest-benchmark, which `make bench-micro` turns on, there is nothing here to collect."""

from __future__ import annotations

from pathlib import Path

import pytest


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return None if config.pluginmanager.has_plugin("benchmark") else True

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from routers.learning.rounds.train import Trained, keep, train
from tests.unit.routers.rounds.recordings import QUICK, Recording, recording


@pytest.fixture(scope="session")
def made() -> Recording:
    return recording()


@pytest.fixture(scope="session")
def trained(made: Recording) -> Trained:
    return train(made.recorded, made.vectors, 0, lambda _: None, QUICK)


@pytest.fixture(scope="session")
def folder(trained: Trained, made: Recording, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact."""
    found = tmp_path_factory.mktemp("rounds") / "rl"
    keep(found, trained, made.encoder, "sha", datetime(2026, 1, 1, tzinfo=UTC))
    return found

"""Trees as arrays say what LightGBM says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest

from routers.artifacts import BadArtifact
from routers.learned import Stored
from routers.trees import Trees, read

OPTIONS = {"objective": "binary", "num_leaves": 7, "min_data_in_leaf": 5, "num_threads": 1, "verbose": -1}


@pytest.fixture(scope="module")
def rows() -> Any:
    return np.random.default_rng(0).normal(size=(400, 6)).astype(np.float32)


def boosters(rows: Any) -> list[Any]:
    right = (rows[:, 0] * rows[:, 1] + rows[:, 2] > 0).astype(float)
    return [
        lightgbm.train({**OPTIONS, "seed": seed, "bagging_fraction": 0.5, "bagging_freq": 1}, lightgbm.Dataset(rows, right), 20)
        for seed in (0, 1)
    ]


def test_they_say_the_mean_of_what_the_boosters_say(rows: Any) -> None:
    fitted = boosters(rows)
    found = Trees.of(fitted, 6)
    said = np.mean([booster.predict(rows, raw_score=True) for booster in fitted], axis=0)
    np.testing.assert_allclose(found.apply(rows), said, atol=1e-5)
    assert found.apply(rows[:0]).shape == (0,)
    np.testing.assert_array_equal(found.apply(np.tile(rows, (7, 1)))[:400], found.apply(rows))


def test_they_come_back_from_an_artifact_and_broken_ones_do_not(rows: Any) -> None:
    found = Trees.of(boosters(rows), 6)

    def stored(**changed: Any) -> Stored:
        arrays = {**found.tensors("trees"), **{f"trees/{name}": array for name, array in changed.items()}}
        return Stored(Path("x"), ("a",), arrays, {})

    np.testing.assert_array_equal(read(stored(), "trees", 6).apply(rows), found.apply(rows))
    for change in ({"left": np.zeros_like(found.left)}, {"right": found.right + 1}, {"feature": found.feature + 6}):
        with pytest.raises(BadArtifact, match="leads nowhere"):
            read(stored(**change), "trees", 6)
    with pytest.raises(BadArtifact, match="leads nowhere"):
        read(stored(), "trees", 1)

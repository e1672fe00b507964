"""Writes an artifact of `knn` or `mlp` for the benchmark's two models, of 100,000 made-up rows, with the static encoder.

python -m tests.benchmarks.learned FOLDER [FAMILY]. Its figures are of time alone. `targets-more.toml` has gateways that decide by it.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from routers.api import Model, Price
from routers.embedding import ENCODERS
from routers.families import FAMILIES
from routers.features import reading
from routers.learned import Calibration, Lessons, Making, Prompts, write
from tests.benchmarks.routers import ROWS, texts
from tests.trained import WHEN

CARDS = (Model("small", Price(0.05, 0.10)), Model("large", Price(0.50, 1.00)))


def lessons(rows: int, size: int) -> Lessons:
    """Outcomes of two models that depend on vectors of `size` numbers, in 300 clouds."""
    rng = np.random.default_rng(5)
    clouds = rng.normal(size=(300, size)).astype(np.float32)
    vectors = clouds[rng.integers(300, size=rows)] + 0.7 * rng.normal(size=(rows, size)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = (rng.random((rows, 2)) < 0.3 + 0.5 * (vectors[:, :2] > 0)).astype(np.float32)
    names = tuple(card.name for card in CARDS)
    return Lessons(Prompts(vectors, texts(rows, 80, rng)), scores, scores, names, tuple(f"d{n % 12}" for n in range(rows)), CARDS)


def main() -> None:
    folder, name = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "knn"
    encoder, family = ENCODERS["static"](), FAMILIES[name]
    found = lessons(ROWS, encoder.encode(["size"]).shape[1])
    found = replace(found, reading=reading(found.take(np.arange(5000)), 0))
    made = family.fit(found, family.knobs[len(family.knobs) // 2], 0)
    write(folder, name, made, found.models, Calibration.none(2), Making(encoder, "made up", WHEN, {}))


if __name__ == "__main__":
    main()

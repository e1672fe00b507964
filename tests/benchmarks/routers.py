"""How long a decision of each learned router takes beyond the embedding: 20 models, 100,000 training rows. `make bench-routers`.

The artifacts are made up: their figures are of time alone. The plainest scorer, `weights`, runs beside them for scale.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from routers.api import Candidate, Model, Price, RouteRequest
from routers.embedding import ENCODERS
from routers.families import FAMILIES
from routers.features import reading
from routers.learned import Calibration, Lessons, Making, Prompts, write
from routers.scorers.weights import Weights
from tests.trained import WHEN

ROWS, MODELS, ASKED = 100_000, 20, 300
SLOW_TO_TRAIN = 5_000
"""Rows that those families are trained on whose artifacts do not grow with the rows."""
GROWING = ("knn", "prior", "graph")


def lessons(rows: int) -> Lessons:
    """Prompts of random words, their vectors in 300 clouds as those of real prompts are; outcomes that depend on the vectors."""
    rng = np.random.default_rng(3)
    words = np.array([f"word{n}" for n in range(3000)])
    texts = tuple(" ".join(rng.choice(words, size=12)) for _ in range(rows))
    clouds = rng.normal(size=(300, 384)).astype(np.float32)
    vectors = clouds[rng.integers(300, size=rows)] + 0.7 * rng.normal(size=(rows, 384)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = (rng.random((rows, MODELS)) < 0.3 + 0.5 * (vectors[:, :MODELS] > 0)).astype(np.float32)
    names = tuple(f"model-{n}" for n in range(MODELS))
    cards = tuple(Model(name, Price(0.1 + n, 0.1 + n)) for n, name in enumerate(names))
    return Lessons(Prompts(vectors, texts), scores, scores, names, tuple(f"d{n % 12}" for n in range(rows)), cards)


def microseconds(ask: Callable[[int], object]) -> tuple[float, float]:
    taken = []
    for row in range(ASKED):
        started = time.perf_counter()
        ask(row)
        taken.append(time.perf_counter() - started)
    middle, late = np.percentile(taken[20:], [50, 99]).tolist()
    return middle * 1e6, late * 1e6


def main() -> int:
    whole = lessons(ROWS)
    few = whole.take(np.arange(SLOW_TO_TRAIN))
    settled = reading(few, 0)
    encoder = ENCODERS["minilm"]()
    fleet = [Candidate(card) for card in whole.cards]
    requests = [RouteRequest(text=text, embedding=vector) for text, vector in zip(few.prompts.texts, few.prompts.vectors, strict=True)]
    table = Weights(dict.fromkeys(whole.models, 0.5))
    print(f"{'weights':22} p50 {microseconds(lambda row: table.score(requests[row], fleet))[0]:7.0f} µs")
    slow = []
    for name in sys.argv[1:] or FAMILIES:
        family = FAMILIES[name]
        data = replace(whole if name in GROWING else few, reading=settled)
        with tempfile.TemporaryDirectory() as folder:
            fitted = family.fit(data, family.knobs[len(family.knobs) // 2], 0)
            write(Path(folder) / name, name, fitted, whole.models, Calibration.none(MODELS), Making(encoder, "made up", WHEN, {}))
            scorer = family.scorer(Path(folder) / name)
            middle, late = microseconds(lambda row, scorer=scorer: scorer.score(requests[row], fleet))  # type: ignore[misc]
        print(f"{name:22} p50 {middle:7.0f} µs   p99 {late:7.0f} µs", flush=True)
        slow += [name] if middle > 1000 else []
    print(f"above 1 ms: {', '.join(slow) or 'none'}")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())

"""How long a decision of each learned router takes beyond the embedding: 20 models, 100,000 training rows. `make bench-routers`.

Asked are prompts of about 200 and of about 900 characters, in several rounds; the calmest counts, as others on the machine take its caches.
Printed are the time of the processor and that on the wall. The artifacts are made up: their figures are of time alone. The plainest scorer,
`weights`, runs beside them for scale.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from routers.api import Candidate, Model, Price, RouteRequest, Scorer
from routers.embedding import ENCODERS
from routers.families import FAMILIES
from routers.features import reading
from routers.learned import Calibration, Lessons, Making, Predictor, Prompts, write
from routers.scorers import graph
from routers.scorers.blend import Blend
from routers.scorers.weights import Weights
from tests.trained import WHEN

ROWS, MODELS = 100_000, 20
ASKED, WARM, ROUNDS = 300, 20, 9
SLOW_TO_TRAIN = 5_000
"""Rows that those families are trained on whose artifacts do not grow with the rows."""
GROWING = ("knn", "prior")
SHORT, LONG = 200, 900
"""Characters of a prompt."""


def lessons(rows: int) -> Lessons:
    """Prompts of random words, their vectors in 300 clouds as those of real prompts are; outcomes that depend on the vectors."""
    rng = np.random.default_rng(3)
    clouds = rng.normal(size=(300, 384)).astype(np.float32)
    vectors = clouds[rng.integers(300, size=rows)] + 0.7 * rng.normal(size=(rows, 384)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = (rng.random((rows, MODELS)) < 0.3 + 0.5 * (vectors[:, :MODELS] > 0)).astype(np.float32)
    names = tuple(f"model-{n}" for n in range(MODELS))
    cards = tuple(Model(name, Price(0.1 + n, 0.1 + n)) for n, name in enumerate(names))
    return Lessons(Prompts(vectors, texts(rows, 80, rng)), scores, scores, names, tuple(f"d{n % 12}" for n in range(rows)), cards)


def texts(count: int, size: int, rng: np.random.Generator) -> tuple[str, ...]:
    """Sentences of `size` characters, of 3,000 words as long as English ones are."""
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = ["".join(rng.choice(letters, size=length)) for length in rng.integers(2, 9, size=3000).tolist()]
    rows = rng.integers(3000, size=(count, size // 3)).tolist()
    return tuple(" ".join(words[word] + "," * (word % 9 == 0) for word in row)[: size - 1] + "." for row in rows)


def fitted(name: str, whole: Lessons, few: Lessons) -> Predictor:
    """A router that knows all rows if its kind keeps rows."""
    family = FAMILIES[name]
    found = family.fit(whole if name in GROWING else few, family.knobs[len(family.knobs) // 2], 0)
    if isinstance(found, graph.Graph):
        return replace(found, known=graph.attached(whole))
    if isinstance(found, Blend):
        members = {
            name: replace(one, known=graph.attached(whole)) if isinstance(one, graph.Graph) else one for name, one in found.members.items()
        }
        return replace(found, members=members)
    return found


def microseconds(scorer: Scorer, requests: Sequence[RouteRequest], fleet: Sequence[Candidate]) -> Any:
    """p50 and p99 of a decision in the calmest of the rounds, (2, 2): of the processor, and on the wall."""
    rounds = []
    for _ in range(ROUNDS):
        taken = []
        for request in requests:
            before = time.thread_time(), time.perf_counter()
            scorer.score(request, fleet)
            taken.append((time.thread_time() - before[0], time.perf_counter() - before[1]))
        rounds.append(np.percentile(np.array(taken[WARM:]) * 1e6, [50, 99], axis=0).T)
    return min(rounds, key=lambda found: float(found[0, 0]))


def report(name: str, scorer: Scorer, asked: Sequence[Sequence[RouteRequest]], fleet: Sequence[Candidate]) -> bool:
    """Prints a line; is it below a millisecond?"""
    cells, worst = [], 0.0
    for size, requests in zip((SHORT, LONG), asked, strict=True):
        (busy, busy_late), (wall, wall_late) = microseconds(scorer, requests, fleet).tolist()
        cells.append(f"{size} characters: p50 {busy:5.0f} µs (wall {wall:5.0f})  p99 {busy_late:5.0f} µs (wall {wall_late:5.0f})")
        worst = max(worst, busy)
    print(f"{name:22} {'   '.join(cells)}", flush=True)
    return worst < 1000


def main() -> int:
    whole = lessons(ROWS)
    few = whole.take(np.arange(SLOW_TO_TRAIN))
    settled = reading(few, 0)
    whole, few = replace(whole, reading=settled), replace(few, reading=settled)
    encoder = ENCODERS["minilm"]()
    fleet = [Candidate(card) for card in whole.cards]
    rng = np.random.default_rng(4)
    vectors = few.prompts.vectors[:ASKED] + 0.3 / 384**0.5 * rng.normal(size=(ASKED, 384)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    asked = [
        [RouteRequest(text=text, embedding=vector) for text, vector in zip(texts(ASKED, size, rng), vectors, strict=True)]
        for size in (SHORT, LONG)
    ]
    report("weights", Weights(dict.fromkeys(whole.models, 0.5)), asked, fleet)
    slow = []
    for name in sys.argv[1:] or FAMILIES:
        with tempfile.TemporaryDirectory() as folder:
            made = fitted(name, whole, few)
            write(Path(folder) / name, name, made, whole.models, Calibration.none(MODELS), Making(encoder, "made up", WHEN, {}))
            if not report(name, FAMILIES[name].scorer(Path(folder) / name), asked, fleet):
                slow.append(name)
    print(f"above 1 ms: {', '.join(slow) or 'none'}")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())

"""A model of which little is known, on recorded outcomes: Llama-3.1-70B-Instruct held back from the pool mmlupro-ladder8."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from routers.embedding import ENCODERS
from routers.learned import Lessons, Prompts
from routers.learning import vectors
from routers.learning.cards import load as load_cards
from routers.learning.evaluate import Pool
from routers.learning.figures import aiq, curve, picks
from routers.learning.outcomes import load
from routers.scorers import knn, prior
from scripts.figures import LADDER
from tests.outcome_tables import table

pytest.importorskip("onnxruntime", reason="the extra `embed` is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
NEWCOMER = "Llama-3.1-70B-Instruct"
DRAWS = int(os.environ.get("POINTSMAN_DRAWS", "15"))
"""Fifty take two minutes."""


@dataclass(frozen=True)
class Ladder:
    """The pool's train questions and its test questions, with AIQ of kNN with all outcomes of the newcomer, and without it."""

    lessons: Lessons
    pool: Pool
    asked: Prompts
    full: float
    without: float

    def worth(self, expected: Any, names: tuple[str, ...]) -> float:
        """AIQ on the whole axis of costs; models that are not named are never chosen."""
        places = [names.index(name) if name in names else None for name in self.pool.models]
        columns = [np.full(len(self.pool.rows), -1.0) if place is None else expected[:, place] for place in places]
        return aiq(
            curve(picks(np.stack(columns, axis=1), self.pool.scale), self.pool.scores, self.pool.costs), self.pool.scores, self.pool.costs
        )


def without_outcomes(lessons: Lessons, kept: Any = ()) -> Lessons:
    """The lessons with only these of the newcomer's outcomes."""
    from dataclasses import replace

    scores = lessons.scores.copy()
    column = lessons.models.index(NEWCOMER)
    scores[np.setdiff1d(np.arange(len(scores)), kept), column] = np.nan
    return replace(lessons, scores=scores)


@pytest.fixture(scope="module")
def ladder() -> Ladder:
    path = table("mmlupro")
    outcomes = load(path).of(LADDER)
    cards = load_cards(path.with_name("models.jsonl"), "mmlupro")
    encoder = ENCODERS[os.environ.get("POINTSMAN_ENCODER", "static")]()
    kept = os.environ.get("POINTSMAN_VECTORS")
    found = vectors.encode(list(outcomes.prompts), encoder, 2, lambda _: None, Path(kept) if kept else None)
    prompts = Prompts(found, outcomes.prompts)
    pool, train = Pool.of(outcomes, "test"), Pool.of(outcomes, "train")
    lessons = Lessons(
        prompts.take(train.rows),
        train.scores.astype(np.float32),
        train.costs.astype(np.float32),
        outcomes.models,
        ("mmlupro",) * len(train.rows),
        tuple(cards[name] for name in outcomes.models),
    )
    asked = prompts.take(pool.rows)
    made = Ladder(lessons, pool, asked, 0, 0)
    expected = knn.fit(lessons, 200).expect(asked).mean
    others = tuple(name for name in outcomes.models if name != NEWCOMER)
    full = made.worth(expected, outcomes.models)
    return Ladder(lessons, pool, asked, full, made.worth(expected[:, [outcomes.models.index(name) for name in others]], others))


def test_fifty_outcomes_give_much_of_what_all_of_them_would(ladder: Ladder) -> None:
    rng = np.random.default_rng(11)
    worths = []
    for _ in range(DRAWS):
        drawn = without_outcomes(ladder.lessons, rng.choice(len(ladder.lessons), 50, replace=False))
        worths.append(ladder.worth(prior.fit(drawn, 200).expect(ladder.asked).mean, drawn.models))
    share = (np.mean(worths) - ladder.without) / (ladder.full - ladder.without)
    print(f"full {ladder.full:.4f}, without {ladder.without:.4f}, 50 outcomes {np.mean(worths):.4f} (sd {np.std(worths):.4f}): {share:.1%}")
    assert share >= 0.4


def test_a_card_alone_does_no_harm(ladder: Ladder) -> None:
    nothing = without_outcomes(ladder.lessons)
    found = ladder.worth(prior.fit(nothing, 200).expect(ladder.asked).mean, nothing.models)
    share = (found - ladder.without) / (ladder.full - ladder.without)
    print(f"no outcome: {found:.4f}, {share:.1%} of the gain")
    assert found >= ladder.without - 1e-9

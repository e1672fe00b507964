"""A model of which little is known, on recorded outcomes: Llama-3.1-70B-Instruct held back from the pool mmlupro-ladder8.

What cards say is learned from all other models of the table, as `pointsman train prior --models` does it; once more from the pool's alone.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from routers.learned import Rows

pytest.importorskip("onnxruntime", reason="the extra `embed` is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
NEWCOMER = "Llama-3.1-70B-Instruct"
NEIGHBOURS = 200
DRAWS = int(os.environ.get("POINTSMAN_DRAWS", "15"))
"""Fifty take some minutes."""


@dataclass(frozen=True)
class Ladder:
    """The pool's train questions, and those of another split, on which is judged."""

    lessons: Lessons
    pool: Pool
    asked: Prompts

    def worth(self, expected: Any, never: str = "") -> float:
        """AIQ on the whole axis of costs. `never`: a model that is not chosen."""
        pool = self.pool
        found = np.where([name == never for name in pool.models], -1.0, expected.astype(np.float64))
        return aiq(curve(picks(found, pool.scale), pool.scores, pool.costs), pool.scores, pool.costs)

    def told(self, newcomer: str, kept: Rows | None) -> Any:
        """What `prior` expects who knows these of the newcomer's outcomes; None: all."""
        scores = self.lessons.scores.copy()
        if kept is not None:
            scores[np.setdiff1d(np.arange(len(scores)), kept), self.lessons.models.index(newcomer)] = np.nan
        return prior.fit(replace(self.lessons, scores=scores), NEIGHBOURS).expect(self.asked).mean

    def untold(self, newcomer: str) -> tuple[float, float]:
        """AIQ of `prior` without any outcome of the newcomer: if it may choose it, and if not."""
        expected = self.told(newcomer, np.array([], dtype=np.int64))
        return self.worth(expected), self.worth(expected, never=newcomer)

    def alone(self) -> Ladder:
        """As if the table had no other models than the pool's."""
        return replace(self, lessons=replace(self.lessons, aside=None, aside_cards=()))


def ladder(split: str) -> Ladder:
    path = table("mmlupro")
    whole = load(path)
    outcomes = whole.of(LADDER)
    cards = load_cards(path.with_name("models.jsonl"), "mmlupro")
    encoder = ENCODERS[os.environ.get("POINTSMAN_ENCODER", "static")]()
    kept = os.environ.get("POINTSMAN_VECTORS")
    found = vectors.encode(list(outcomes.prompts), encoder, 2, lambda _: None, Path(kept) if kept else None)
    prompts = Prompts(found, outcomes.prompts)
    pool, train = Pool.of(outcomes, split), Pool.of(outcomes, "train")
    others = whole.of([name for name in whole.models if name not in LADDER])
    lessons = Lessons(
        prompts.take(train.rows),
        train.scores.astype(np.float32),
        train.costs.astype(np.float32),
        outcomes.models,
        ("mmlupro",) * len(train.rows),
        tuple(cards[name] for name in outcomes.models),
        aside=others.scores[train.rows].astype(np.float32),
        aside_cards=tuple(cards[name] for name in others.models),
    )
    return Ladder(lessons, pool, prompts.take(pool.rows))


@pytest.fixture(scope="module")
def judged() -> Ladder:
    return ladder("test")


@pytest.mark.parametrize(("taught_by", "least"), [("table", 0.6), ("pool", 0.45)])
def test_fifty_outcomes_give_much_of_what_all_of_them_would(judged: Ladder, taught_by: str, least: float) -> None:
    told = judged if taught_by == "table" else judged.alone()
    full, (_, without) = told.worth(told.told(NEWCOMER, None)), told.untold(NEWCOMER)
    rng = np.random.default_rng(11)
    worths = [told.worth(told.told(NEWCOMER, rng.choice(len(told.lessons), 50, replace=False))) for _ in range(DRAWS)]
    neighbours = knn.fit(told.lessons, NEIGHBOURS).expect(told.asked).mean
    for name, best, least_of_all in (
        ("prior", full, without),
        ("knn", told.worth(neighbours), told.worth(neighbours, never=NEWCOMER)),
    ):
        share = (np.mean(worths) - least_of_all) / (best - least_of_all)
        print(f"taught by the {taught_by}: of what {name} gains from all outcomes ({least_of_all:.4f} to {best:.4f}): {share:.1%}")
    print(f"AIQ {np.mean(worths):.4f} (sd {np.std(worths):.4f})")
    assert (np.mean(worths) - without) / (full - without) >= least


def test_a_card_alone_gains_if_the_table_has_more_models(judged: Ladder) -> None:
    found, without = judged.untold(NEWCOMER)
    print(f"no outcome: {without:.4f} to {found:.4f}, {(found - without) / (judged.worth(judged.told(NEWCOMER, None)) - without):.1%}")
    assert found > without


@pytest.mark.parametrize("taught_by", ["table", "pool"])
def test_a_card_alone_does_no_harm(taught_by: str) -> None:
    """Whoever of the pool is new; on validation. A difference of 0.003 is well within the noise of such a split."""
    told = ladder("validation") if taught_by == "table" else ladder("validation").alone()
    gains = {name: found - without for name in LADDER for found, without in [told.untold(name)]}
    print(f"taught by the {taught_by}: " + ", ".join(f"{name} {gain:+.4f}" for name, gain in gains.items()))
    assert min(gains.values()) >= -0.003

"""Fits a router to outcomes: on the train split; its knobs and its calibration on the validation split. Test is never looked at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from routers.api import Model
from routers.families import Family
from routers.learned import Calibration, Expected, Lessons, Making, Predictor, Prompts, write
from routers.learning.evaluate import Pool
from routers.learning.figures import aiq, curve, picks
from routers.learning.platt import calibrate
from routers.learning.promise import Held

if TYPE_CHECKING:
    from routers.api import Embeddings, Encoder
    from routers.artifacts import Tensor
    from routers.learned import Floats, Rows
    from routers.learning.outcomes import Outcomes

FEWEST = 10
"""Questions with outcomes that a train split must have."""


@dataclass(frozen=True, slots=True)
class School:
    """A table made ready: what is learned from, and the questions of validation that all models answered (None: there are none)."""

    lessons: Lessons
    validation: Pool | None
    asked: Prompts


def school(
    outcomes: Outcomes,
    vectors: Embeddings,
    cards: Mapping[str, Model],
    newcomers: Sequence[str] = (),
    aside: Outcomes | None = None,
) -> School:
    """`vectors` (n, d): of the table's n prompts. `cards`: what is known of models, by name. `newcomers`: models without any outcome.
    `aside`: the same questions with models that are not to be chosen among; they help to tell hard prompts from easy ones.

    Raises ValueError if train has too few questions.
    """
    names = (*outcomes.models, *newcomers)
    unknown = np.full((len(outcomes), len(newcomers)), np.nan)
    scores, costs = np.hstack([outcomes.scores, unknown]), np.hstack([outcomes.costs, unknown])
    everything = Prompts(vectors, outcomes.prompts)
    train = np.flatnonzero((np.array(outcomes.splits) == "train") & ~np.isnan(scores).all(axis=1))
    if len(train) < FEWEST:
        raise ValueError(f"the train split has {len(train)} questions with outcomes; at least {FEWEST} are needed")
    lessons = Lessons(
        everything.take(train),
        scores[train].astype(np.float32),
        costs[train].astype(np.float32),
        names,
        tuple(outcomes.datasets[row] for row in train.tolist()),
        tuple(cards.get(name, Model(name)) for name in names),
    )
    if aside is not None and aside.models:
        others = tuple(cards.get(name, Model(name)) for name in aside.models)
        lessons = replace(lessons, aside=aside.scores[train].astype(np.float32), aside_cards=others)
    try:
        pool = Pool.of(outcomes, "validation")
    except ValueError:
        return School(lessons, None, everything.take(train[:0]))
    return School(lessons, pool, everything.take(pool.rows))


@dataclass(frozen=True, slots=True)
class Fitted:
    """A router, how its expectations are mended, the knob that was chosen, and figures on validation by name.

    `held`: arrays of the questions that nothing was chosen on, by which the picker `threshold` keeps its promise; none if too few.
    """

    predictor: Predictor
    calibration: Calibration
    knob: float
    metrics: Mapping[str, float]
    held: Mapping[str, Tensor]


def train(family: Family, school: School, seed: int, say: Callable[[str], None]) -> Fitted:
    """Fits on train; the knob that is best on validation is taken. Half of validation, drawn by the seed, mends what the router expects;
    the other half is left for promises. `say` hears what is being done.

    Raises ValueError if there is more than one knob and no question of validation to choose by.
    """
    pool = school.validation
    if pool is None and len(family.knobs) > 1:
        raise ValueError("the validation split has no question that all models answered at a known cost; the knobs are chosen on it")
    best: tuple[float, Predictor, float] | None = None
    for knob in family.knobs:
        say(f"fitting with knob {knob:g}")
        fitted = family.fit(school.lessons, knob, seed)
        found = 0.0 if pool is None else _aiq(pool, fitted.expect(school.asked))
        if best is None or found > best[0]:
            best = (found, fitted, knob)
    if best is None:
        raise ValueError("a family has at least one knob")
    worth, fitted, knob = best
    models = len(school.lessons.models)
    if pool is None:
        return Fitted(fitted, Calibration.none(models), knob, {}, {})
    expected = fitted.expect(school.asked)
    order = np.random.default_rng(seed).permutation(len(pool.rows))
    mends, held = np.sort(order[::2]), np.sort(order[1::2])
    calibration = calibrate(Expected(expected.mean[mends], expected.spread[mends]), _padded(pool, models)[mends])
    metrics = {"validation_aiq": worth, "validation_queries": float(len(pool.rows))}
    return Fitted(fitted, calibration, knob, metrics, _held(pool, calibration.apply(expected), held, models))


def keep(folder: Path, kind: str, school: School, fitted: Fitted, encoder: Encoder, data_hash: str, created: datetime) -> str:
    """Writes the artifact and returns its hash. Raises what artifacts.write raises."""
    making = Making(encoder, data_hash, created, fitted.metrics, fitted.held)
    return write(folder, kind, fitted.predictor, school.lessons.models, fitted.calibration, making)


def _held(pool: Pool, expected: Expected, rows: Rows, models: int) -> Mapping[str, Tensor]:
    known = len(pool.models)
    mean, spread = expected.mean[rows, :known], expected.spread[rows, :known]
    if not len(rows) or np.isnan(mean).any():
        return {}
    return Held(mean.astype(np.float64), spread.astype(np.float64), pool.scores[rows], pool.scale.costs).tensors(models=models)


def _aiq(pool: Pool, found: Expected) -> float:
    expected = found.mean[:, : len(pool.models)].astype(np.float64)
    return aiq(curve(picks(np.nan_to_num(expected, nan=-1.0), pool.scale), pool.scores, pool.costs), pool.scores, pool.costs)


def _padded(pool: Pool, models: int) -> Floats:
    """Scores of validation, with unknown ones for newcomers: (n, m)."""
    found = np.full((len(pool.scores), models), np.nan, dtype=np.float32)
    found[:, : len(pool.models)] = pool.scores
    return found

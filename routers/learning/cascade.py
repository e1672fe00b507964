"""Fits what cascades and votes need to recorded answers: how likely each answer is right, whom to ask in which order, and when to stop.

Everything is fitted on train and validation together. What is chosen (calibration, orders, thresholds) is chosen on chances from trees that
never saw the question: the questions are halved, and each half is judged by trees of the other. Validation alone would be too small to tell
so many orders apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from routers import artifacts, record
from routers.credence import Claims, Credence, Lengths, Said, claims, inputs
from routers.learned import Lessons, Prompts, gathered, sigmoid
from routers.learning.stopping import Ways, choose, ways
from routers.looks import LOOKS, UNKNOWN, Options
from routers.stages import KIND
from routers.trees import Trees

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from routers.api import Embeddings, Encoder
    from routers.learned import Floats
    from routers.learning.answers import Recorded
    from routers.learning.stopping import Target, Way

    Rows = NDArray[np.int64]
    Flags = NDArray[np.bool_]

DRAWS = 6
"""Sets of models by whom each question is taken to have been answered."""
MEMBERS = 6
"""Forests that are averaged, each with sets of its own."""
HALF_MEMBERS = 2
TREES = 150
FEWEST = 20
"""Questions that there must be."""
FOLDS = 5
MOST_MODELS = 8
"""Every set of models is looked at, of which there are 2 to the power of this."""
_OPTIONS = {
    "objective": "binary",
    "num_leaves": 15,
    "learning_rate": 0.05,
    "lambda_l2": 5.0,
    "feature_fraction": 0.6,
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "verbose": -1,
}
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Fitted:
    """What was found. `way`: the order and the threshold that were chosen; `ways`: the frontier that it was chosen from.

    `metrics`: figures on questions that the trees behind them never saw, by name. `data_hash`: of the outcomes.
    """

    credence: Credence
    way: Way
    ways: tuple[Way, ...]
    metrics: dict[str, float]
    data_hash: str


def fit(recorded: Recorded, vectors: Embeddings, target: Target, seed: int = 0, say: Say | None = None) -> Fitted:
    """`recorded`: answers of two to MOST_MODELS models; `vectors` (n, d): of its prompts. Deterministic from the seed; takes less than
    a minute for 5,000 questions.

    Raises ValueError as `check` does, and for a target that nothing reaches; ImportError without LightGBM or scikit-learn.
    """
    rows = check(recorded)
    pool = recorded.take(rows)
    scores, costs = pool.scores.astype(np.float32), pool.costs.astype(np.float32)
    lessons = Lessons(Prompts(vectors[rows], pool.prompts), scores, costs, pool.models, pool.datasets)
    say = say or _say_nothing
    say("what is expected of models on questions that nobody looked at")
    learner = _Learner(pool, record.expect_unseen(lessons, FOLDS, seed).mean, usual_lengths(pool), seed)
    say("halves that judge each other, for calibration, orders and thresholds")
    halves = learner.halves()
    slope, shift = learner.calibrate(halves)
    chosen, frontier = _stages(learner, halves, (slope, shift), target)
    say("trees that say how likely an answer is right")
    boosters = [learner.fit(np.arange(len(pool)), member) for member in range(MEMBERS)]
    trees = Trees.of(boosters, inputs(len(pool.models)))
    credence = Credence(pool.models, record.fit(lessons, seed), trees, learner.lengths, slope, shift)
    metrics = {"held_accuracy": chosen.score, "held_cost_usd": chosen.cost, "held_calls": chosen.calls, "questions": float(len(pool))}
    return Fitted(credence, chosen, frontier, metrics, recorded.data_hash)


def check(recorded: Recorded) -> Rows:
    """The places of the questions that are learned from. Raises ValueError for too few or too many models, and too few questions."""
    if not 2 <= len(recorded.models) <= MOST_MODELS:
        raise ValueError(f"a cascade is fitted to 2 to {MOST_MODELS} models, not {len(recorded.models)}; name them")
    rows = np.flatnonzero(np.isin(np.array(recorded.splits), ("train", "validation")))
    if len(rows) < FEWEST:
        raise ValueError(f"{len(rows)} questions of train and validation have been answered by all models; at least {FEWEST} are needed")
    return rows


def keep(folder: Path, fitted: Fitted, encoder: Encoder, created: datetime) -> str:
    """Writes the artifact, which serves the judge `learned`, the planner `cascade` and the planner `ensemble`, and returns its hash.

    Raises what artifacts.write raises.
    """
    credence, order = fitted.credence, fitted.way.order
    names = [credence.models[column] for column in order]
    if len(names) < 2:  # one call is best: the next dearer way stands in, whose threshold is 0, so that it never gets there
        names = [*names, *(name for name in credence.models if name not in names)][:2]
    threshold = fitted.way.threshold if len(order) > 1 else 0.0
    frontier = [
        {"order": [credence.models[column] for column in way.order], "threshold": way.threshold, "score": way.score, "cost_usd": way.cost}
        for way in fitted.ways
    ]
    kept = replace(credence, question=record.indexed(credence.question))
    settings = {"order": names, "thresholds": [threshold] * len(names), "frontier": frontier, "credence": dict(kept.settings())}
    tensors = gathered({"credence": kept.tensors()})
    origin = artifacts.Origin(KIND, credence.models, fitted.data_hash, created, artifacts.EncoderId.of(encoder), fitted.metrics)
    return artifacts.write(folder, origin, tensors, settings)


@dataclass(frozen=True, slots=True)
class _Judged:
    """Questions, and trees that never saw them."""

    rows: Rows
    boosters: Sequence[Any]


class _Learner:
    """Fits trees to some of a pool's questions and applies them to others. `expected` (n, m)."""

    def __init__(self, pool: Recorded, expected: Floats, lengths: Lengths, seed: int) -> None:
        self.pool = pool
        self._looks = looks(pool)
        self.lengths = lengths
        self._expected = expected
        self._seed = seed

    def halves(self) -> tuple[_Judged, ...]:
        half = np.random.default_rng([self._seed, 7]).permutation(len(self.pool)) % 2
        places = [np.flatnonzero(half == part) for part in (0, 1)]
        return tuple(_Judged(places[part], [self.fit(places[1 - part], member) for member in range(HALF_MEMBERS)]) for part in (0, 1))

    def fit(self, rows: Rows, member: int) -> Any:
        import lightgbm

        many, seen = self._drawn(rows, member)
        options = {**_OPTIONS, "seed": self._seed + member, "min_data_in_leaf": min(40, max(1, len(many) // 50))}
        right = self._right(many, seen.owner, seen.backers)
        return lightgbm.train(options, lightgbm.Dataset(seen.rows, right, free_raw_data=True), TREES)

    def calibrate(self, judged: Sequence[_Judged]) -> tuple[float, float]:
        """Slope and shift of the logistic that makes chances come true on questions that the trees never saw."""
        sums, right = [], []
        for part in judged:
            many, seen = self._drawn(part.rows, MEMBERS)
            sums.append(_sums(part.boosters, seen.rows))
            right.append(self._right(many, seen.owner, seen.backers))
        return logistic(np.concatenate(sums), np.concatenate(right))

    def best(self, judged: _Judged, line: tuple[float, float], columns: Sequence[int]) -> tuple[Floats, Floats]:
        """(n,), (n,): the chance and the score of the likeliest answer when these models were asked; 0 where nobody settled on one."""
        rows = judged.rows
        asked = np.zeros((len(rows), len(self.pool.models)), dtype=bool)
        asked[:, columns] = True
        seen = claims(self._said(rows, asked), self.lengths)
        chances = sigmoid(line[0] * _sums(judged.boosters, seen.rows) + line[1])
        order = np.lexsort((-chances, seen.owner))
        owner, first = np.unique(seen.owner[order], return_index=True)
        best = order[first]
        chance, score = np.zeros((2, len(rows)), dtype=np.float32)
        chance[owner], score[owner] = chances[best], self._right(rows, owner, seen.backers[best])
        return chance, score

    def _drawn(self, rows: Rows, member: int) -> tuple[Rows, Claims]:
        """Each question several times, answered by random sets of models."""
        many = np.repeat(rows, DRAWS)
        asked = drawn_sets(np.random.default_rng([self._seed, member]), len(many), len(self.pool.models))
        return many, claims(self._said(many, asked), self.lengths)

    def _said(self, rows: Rows, asked: Flags) -> Said:
        pool = self.pool
        return Said(pool.votes[rows], asked, pool.lengths[rows].astype(np.float32), self._expected[rows], self._looks[rows])

    def _right(self, rows: Rows, owner: Rows, backers: Flags) -> Floats:
        """How good each answer is: its backers' mean score."""
        scores = self.pool.scores[rows[owner]]
        found: Floats = ((scores * backers).sum(axis=1) / backers.sum(axis=1)).astype(np.float32)
        return found


def _stages(learner: _Learner, judged: Sequence[_Judged], line: tuple[float, float], target: Target) -> tuple[Way, tuple[Way, ...]]:
    """The order and the threshold for the target, and the frontier."""
    rows = np.concatenate([part.rows for part in judged])
    costs, scores = learner.pool.costs[rows], learner.pool.scores[rows]

    def look(columns: Sequence[int]) -> tuple[Floats, Floats]:
        found = [learner.best(part, line, columns) for part in judged]
        return np.concatenate([chance for chance, _ in found]), np.concatenate([score for _, score in found])

    frontier = ways(Ways(costs, scores, look))
    return choose(frontier, target, costs, scores), frontier


def looks(pool: Recorded) -> Floats:
    """(n, v, LOOKS): how the options look that answers name, by the answers' numbers."""
    found = np.full((len(pool), max(1, *map(len, pool.said)), LOOKS), UNKNOWN, dtype=np.float32)
    for row, (prompt, said) in enumerate(zip(pool.prompts, pool.said, strict=True)):
        found[row, : len(said)] = Options.of(prompt).named(said)
    return found


def drawn_sets(rng: np.random.Generator, count: int, models: int) -> Flags:
    """Sets of models (count, m) of 1 to m members; each size is as likely."""
    sizes = rng.integers(1, models + 1, count)
    found: Flags = rng.random((count, models)).argsort(axis=1).argsort(axis=1) < sizes[:, None]
    return found


def logistic(sums: Floats, right: Floats) -> tuple[float, float]:
    """Slope and shift, by Newton's method, with a slight pull to 1 and 0."""
    design = np.stack([sums.astype(np.float64), np.ones(len(sums))], axis=1)
    values = np.array([1.0, 0.0])
    for _ in range(20):
        chance = sigmoid(design @ values).astype(np.float64)
        gradient = design.T @ (chance - right) + (values - (1, 0))
        hessian = (design * (chance * (1 - chance))[:, None]).T @ design + np.eye(2)
        values = values - np.linalg.solve(hessian, gradient)
    return max(0.05, float(values[0])), float(values[1])


def _say_nothing(what: str) -> None:
    pass


def _sums(boosters: Sequence[Any], rows: Floats) -> Floats:
    if not len(rows):
        return np.zeros(0, dtype=np.float32)
    found: Floats = np.mean([booster.predict(rows, raw_score=True) for booster in boosters], axis=0).astype(np.float32)
    return found


def usual_lengths(pool: Recorded) -> Lengths:
    """Of the answers in a pool, tokens; 1/10 is the least spread."""
    logs = np.log1p(pool.lengths)
    known = ~np.isnan(logs)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, logs, 0).sum(axis=0) / count
    spread = np.sqrt(np.where(known, (logs - mean) ** 2, 0).sum(axis=0) / count)
    return Lengths(mean.astype(np.float32), np.maximum(spread, 0.1).astype(np.float32))

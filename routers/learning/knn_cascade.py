"""A cascade that learns nothing but who was right on like questions: the measure for those that learn more.

Each letter that was heard makes that letter more likely, by the share of like questions that its model got right, and all others less. Who
errs together counts for too much then; a power below or above 1 allows for that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from routers.credence import NO_VOTE
from routers.learning.figures import Scale, hull
from routers.learning.points import Points
from routers.learning.stopping import THRESHOLDS, Ways, walk, ways

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from routers.api import Embeddings
    from routers.learned import Floats
    from routers.learning.answers import Recorded
    from routers.learning.figures import Floats as Doubles
    from routers.learning.stopping import Way

    Flags = NDArray[np.bool_]
    Rows = NDArray[np.int64]
    Votes = NDArray[np.int32]

OPTIONS = 10
"""Answers that are taken to be possible, at the least."""
MOST_MODELS = 8
"""Sets of more are not looked at."""
NEIGHBOURS = (200, 400, 800)
POWERS = (1.0, 1.4)
LEAST, MOST = 0.02, 0.98
PRICES: tuple[float, ...] = (*np.logspace(-3, 0.5, 29).tolist(), float("inf"))
"""What a call must raise the chance of the likeliest answer by, for each part of the best single model's cost."""


@dataclass(frozen=True, slots=True)
class Table:
    """n questions. `votes`, `scores`, `costs` (n, m): as recorded. `chance` (n, m): shares of like questions that models got right.
    `scale`: of the models on train. `power`: by which each word counts.
    """

    votes: Votes
    scores: Doubles
    costs: Doubles
    chance: Floats
    scale: Scale
    power: float

    def take(self, rows: Rows) -> Table:
        return replace(self, votes=self.votes[rows], scores=self.scores[rows], costs=self.costs[rows], chance=self.chance[rows])

    @property
    def weight(self) -> Doubles:
        """(m,): mean costs on train, in shares of the best single model's."""
        found: Doubles = self.scale.costs / max(float(self.scale.costs[self.scale.best_single]), 1e-12)
        return found

    def heard(self, asked: Flags) -> Doubles:
        """(n, o): the chance of each answer, by its number, when these models (n, m) were asked."""
        logs = np.zeros((len(self.votes), max(OPTIONS, self.votes.shape[1])))
        right, wrong = np.log(self.chance), np.log((1 - self.chance) / (OPTIONS - 1))
        rows = np.arange(len(logs))
        for column in range(self.chance.shape[1]):
            votes = self.votes[:, column]
            counts = asked[:, column] & (votes != NO_VOTE)
            logs += np.where(counts, self.power * wrong[:, column], 0)[:, None]
            logs[rows, np.maximum(votes, 0)] += np.where(counts, self.power * (right - wrong)[:, column], 0)
        found = np.exp(logs - logs.max(axis=1, keepdims=True))
        return np.asarray(found / found.sum(axis=1, keepdims=True))

    def given(self, chances: Doubles, asked: Flags) -> tuple[Floats, Floats]:
        """(n,), (n,): chance and score of the likeliest answer; 0 where nobody settled on one."""
        best, rows = chances.argmax(axis=1), np.arange(len(chances))
        backed = asked & (self.votes == best[:, None])
        score = np.where(backed.any(axis=1), self.scores[rows, backed.argmax(axis=1)], 0)
        return chances[rows, best].astype(np.float32), score.astype(np.float32)

    def look(self, columns: Sequence[int]) -> tuple[Floats, Floats]:
        asked = np.zeros(self.chance.shape, dtype=bool)
        asked[:, list(columns)] = True
        return self.given(self.heard(asked), asked)


def knn_cascades(recorded: Recorded, vectors: Embeddings, split: str) -> Mapping[str, Points]:
    """On the questions of a split: `knn_cascade_ladder`, which asks from the cheapest up; `knn_cascade_best_orders`, the sets of up to
    MOST_MODELS models and the thresholds that were best on validation; `knn_cascade_adaptive`, which asks whoever makes the likeliest
    answer likelier by the most. The shares are of train; neighbours and power are those that are best on validation. `vectors` (n, d): of
    the recorded prompts.

    Raises ValueError if a split has no questions.
    """
    splits = np.array(recorded.splits)
    places = {name: np.flatnonzero(splits == name) for name in ("train", "validation", split)}
    lesson = recorded.split("train")
    scale = Scale(lesson.scores.mean(axis=0), lesson.costs.mean(axis=0))
    near = {name: _shares(vectors[places[name]], vectors[places["train"]], lesson.scores) for name in ("validation", split)}

    def tables(name: str) -> dict[tuple[int, float], Table]:
        pool = recorded.split(name)
        said = (pool.votes, pool.scores, pool.costs)
        return {(k, power): Table(*said, near[name][k], scale, power) for k, power in product(NEIGHBOURS, POWERS)}

    known, held = tables("validation"), tables(split)
    found = {}
    for name, played in (("knn_cascade_ladder", _ladder), ("knn_cascade_adaptive", _adaptive)):
        worth = {knob: _aiq(table, played(table, recorded.models)) for knob, table in known.items()}
        best = max(worth, key=lambda knob: worth[knob])
        found[name] = played(held[best], recorded.models)
        if name == "knn_cascade_ladder" and len(recorded.models) <= MOST_MODELS:
            chosen = ways(Ways(known[best].costs, known[best].scores, known[best].look))
            found["knn_cascade_best_orders"] = _walked(held[best], chosen, recorded.models)
    return found


def _shares(asked: Embeddings, known: Embeddings, scores: Doubles) -> dict[int, Floats]:
    """For each number of neighbours (n, m): mean scores of the nearest of the known questions, away from certainty."""
    alike = asked @ known.T
    found = {}
    for k in NEIGHBOURS:
        nearest = np.argpartition(-alike, min(k, len(known)) - 1, axis=1)[:, :k]
        found[k] = np.clip(scores[nearest].mean(axis=1), LEAST, MOST).astype(np.float32)
    return found


def _aiq(table: Table, points: Points) -> float:
    means = table.costs.mean(axis=0)
    least, most = float(means.min()), float(means.max())
    return hull(points.costs.mean(axis=1), points.scores.mean(axis=1), least).area(least, most)


def _ladder(table: Table, models: Sequence[str]) -> Points:
    order = tuple(np.argsort(table.scale.costs, kind="stable").tolist())
    looks = [table.look(order[:place]) for place in range(1, len(order) + 1)]
    names = [models[column] for column in order]
    played = [walk(order, threshold, table.costs, looks) for threshold in THRESHOLDS]
    return _points([{"order": names, "threshold": threshold} for threshold in THRESHOLDS], played)


def _walked(table: Table, chosen: Sequence[Way], models: Sequence[str]) -> Points:
    looks = [[table.look(way.order[: place + 1]) for place in range(len(way.order))] for way in chosen]
    played = [walk(way.order, way.threshold, table.costs, seen) for way, seen in zip(chosen, looks, strict=True)]
    return _points([{"order": [models[column] for column in way.order], "threshold": way.threshold} for way in chosen], played)


def _adaptive(table: Table, models: Sequence[str]) -> Points:
    played = [_asked_by_price(table, price) for price in PRICES]
    return _points([{"price": None if np.isinf(price) else price} for price in PRICES], played)


def _asked_by_price(table: Table, price: float) -> tuple[Floats, Floats, Floats]:
    """(n,) each: score, cost, calls. The first is always asked: at an infinite price the cheapest."""
    count, models = table.chance.shape
    asked, running = np.zeros((count, models), dtype=bool), np.arange(count)
    toll = np.where(table.weight > table.weight.min(), np.inf, 0) if np.isinf(price) else price * table.weight
    for turn in range(models):
        gain = np.where(asked[running], -np.inf, _rise(table.take(running), asked[running]) - toll)
        goes_on = gain.max(axis=1) > 0 if turn else np.ones(len(running), dtype=bool)
        if np.isinf(price) and turn:
            break
        running, gain = running[goes_on], gain[goes_on]
        if not len(running):
            break
        asked[running, gain.argmax(axis=1)] = True
    _, score = table.given(table.heard(asked), asked)
    return score, (table.costs * asked).sum(axis=1), asked.sum(axis=1).astype(float)


def _rise(table: Table, asked: Flags) -> Doubles:
    """(n, m): by how much the chance of the likeliest answer is expected to rise if a model is asked."""
    now = table.heard(asked)
    count, models = table.chance.shape
    found: Doubles = np.empty((count, models))
    for column in range(models):
        right = table.chance[:, [column]]
        wrong = (1 - right) / (OPTIONS - 1)
        raised, kept = now * right**table.power, now * wrong**table.power
        total = kept.sum(axis=1, keepdims=True) - kept + raised  # of all answers, if the model says this one
        others = np.sort(kept, axis=1)
        top = np.where(kept == others[:, -1:], others[:, -2:-1], others[:, -1:])
        best = np.maximum(raised, top) / total
        says = now * right + (1 - now) * wrong
        found[:, column] = (says * best).sum(axis=1) / says.sum(axis=1) - now.max(axis=1)
    return found


def _points(settings: Sequence[Mapping[str, object]], played: Sequence[tuple[Floats, Floats, Floats]]) -> Points:
    scores, costs, calls = (np.stack(part).astype(np.float64) for part in zip(*played, strict=True))
    return Points(tuple(settings), scores, costs, calls)

"""A model of which little or nothing is known: what its card says, mended by each outcome that comes.

The outcomes of all models of a table say how easy each question is. A model's logit at a question is `strength + slope * ease + manner`,
where its manner is one number for each kind of question. What the other models' cards and strengths say of a newcomer's strength, how much
slopes and manners usually differ: that is its Gaussian prior, which its own outcomes update by Bayes' rule (Laplace's approximation). So 50
outcomes say more than their mean: it is known whether these were 50 hard or 50 easy questions. Of a new prompt, the mean over its nearest
questions is expected; of a model with many outcomes, as much by what it is like as by its outcomes there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from routers.api import Model
from routers.artifacts import TENSORS, BadArtifact
from routers.index import index_of
from routers.learned import Expected, Lessons, Prompts, Stored, sigmoid
from routers.learning.centroids import centroids
from routers.learning.ease import Judges
from routers.learning.foresight import foresee
from routers.online import LearningScorer
from routers.scorers.knn import Neighbours, among
from routers.scorers.knn import read as read_knn

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from routers.artifacts import Tensor
    from routers.learned import Floats, Rows

    Doubles: TypeAlias = NDArray[np.float64]
    Numbers: TypeAlias = NDArray[np.floating[Any]]

KNOBS = (100.0,)
"""Neighbours that say how hard a prompt is."""
SETTLED = 0.3
"""A model with this share of the best known model's outcomes is known."""
CAUTION = 0.5
"""Standard deviations that a newcomer without any outcome is taken to be weaker than foreseen: it must not do harm unseen."""
DOUBT = 3.0
"""Of a foreseen strength: its variance, in square logits, is at least this over how many models taught what cards say."""
LEAST_SLOPE_SD = 0.2
KINDS, OF_A_KIND = 16, 50
"""Kinds of questions at most; questions that there are of a kind on average at least."""
SORTED, ASKED = 1_000, 4_000
"""Questions, evenly from all, that say which kinds there are, and what models are like: more take longer and hardly say it better."""
ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Newcomers:
    """`known`: neighbours of the o known models. `places`: int64 (o,), where these stand among all m; the others are newcomers.

    `ease`: float32 (n,), of the known questions, and `kinds`: int64 (n,), of which kind they are, of t. `means`: (m, 2 + t) of strength,
    slope and manners; `covariance`: (m, 2 + t, 2 + t); `heard`: int64 (m,), outcomes that these were learned from. `chances`: float32
    (n, m), what answers to the known questions are expected to be worth; follows from all that (`_chances`).
    """

    known: Neighbours
    places: Tensor
    ease: Floats
    kinds: Tensor
    means: Floats
    covariance: Floats
    heard: Tensor
    chances: Floats

    def expect(self, prompts: Prompts) -> Expected:
        near = [self.known.near(vector) for vector in prompts.vectors]
        known = self.known.expect_near([self.known.scores.take(rows, axis=0) for rows in near])
        mean, spread = np.empty((2, len(near), len(self.means)), dtype=np.float32)
        for row, rows in enumerate(near):
            asked = self._row(rows)
            mean[row] = self.chances.take(rows, axis=0).mean(axis=0)
            spread[row] = np.sqrt(np.maximum(self.covariance @ asked @ asked, 0)) * mean[row] * (1 - mean[row])
        mean[:, self.places] = (mean[:, self.places] + known.mean) / 2
        spread[:, self.places] = known.spread
        return Expected(mean, spread)

    def _row(self, rows: Rows) -> Floats:
        """What strength, slope and manners are multiplied by at a prompt with these neighbours: (2 + t,)."""
        found = np.empty(self.means.shape[1], dtype=np.float32)
        found[0], found[1] = 1, self.ease.take(rows).mean()
        found[2:] = np.bincount(self.kinds.take(rows), minlength=len(found) - 2) / len(rows)
        return found

    def open_to(self, column: int) -> bool:
        """Newcomers alone learn: what is known of the others are neighbours, and these are chosen at training."""
        return column not in self.places

    def learn(self, prompts: Prompts, column: int, score: float) -> Newcomers:
        """Bayes' rule for one outcome of a newcomer; the first one ends the caution."""
        rows = np.stack([self._row(self.known.near(vector)) for vector in prompts.vectors])
        means, covariance, heard, chances = self.means.copy(), self.covariance.copy(), self.heard.copy(), self.chances.copy()
        means[column], covariance[column] = posterior(means[column], covariance[column], rows, np.full(len(rows), score))
        heard[column] += 1
        chances[:, [column]] = _chances(self.ease, self.kinds, means[[column]], covariance[[column]], heard[[column]])
        return replace(self, means=means, covariance=covariance, heard=heard, chances=chances)

    def tensors(self) -> Mapping[str, Tensor]:
        questions = {"places": self.places, "ease": self.ease, "kinds": self.kinds}
        beliefs = {"means": self.means, "covariance": self.covariance, "heard": self.heard}
        return {**questions, **beliefs, **{f"known/{name}": array for name, array in self.known.tensors().items()}}

    def settings(self) -> Mapping[str, object]:
        return {"known": dict(self.known.settings())}


def _chances(ease: Floats, kinds: Tensor, means: Floats, covariance: Floats, heard: Tensor) -> Floats:
    """What the answers of m models to n questions are expected to be worth, (n, m); one of whom nothing was heard is taken with care."""
    found = np.empty((len(ease), len(means)), dtype=np.float32)
    for model, (mean, apart) in enumerate(zip(means, covariance, strict=True)):
        caution = 0.0 if heard[model] else CAUTION * math.sqrt(max(apart[0, 0], 0))
        logits = mean[0] - caution + mean[1] * ease + mean[2:][kinds]
        of_kinds = apart[0, 0] + 2 * apart[0, 2:] + np.diag(apart)[2:]
        variance = of_kinds[kinds] + 2 * ease * (apart[0, 1] + apart[1, 2:][kinds]) + ease**2 * apart[1, 1]
        found[:, model] = sigmoid(logits / np.sqrt(1 + math.pi / 8 * np.maximum(variance, 0)))  # the mean over all logits (MacKay 1992)
    return found


def fit(lessons: Lessons, knob: float, seed: int = 0) -> Newcomers:
    """Raises ValueError if no model, or of all that the lessons speak of fewer than two, are known."""
    scores = lessons.scores if lessons.aside is None else np.concatenate([lessons.scores, lessons.aside], axis=1)
    counts, models = (~np.isnan(scores)).sum(axis=0), len(lessons.models)
    teachers = np.flatnonzero((counts >= SETTLED * counts.max()) & (counts > 0))
    places = teachers[teachers < models]
    if not len(places) or len(teachers) < 2:
        raise ValueError("a prior for new models needs at least two models with outcomes")
    judges, kinds = Judges.of(scores[:, teachers]), _kinds(lessons.prompts.vectors, seed)
    ease = judges.ease(scores[:, teachers])
    alike, variance = _manners(judges, scores[:, teachers], kinds)
    means, covariance = _foreseen(lessons, teachers, alike, variance, np.bincount(kinds) / len(kinds))
    for model in np.flatnonzero(counts[:models]).tolist():
        if model in places:
            means[model], covariance[model] = alike[teachers.tolist().index(model)]
        else:
            asked = np.flatnonzero(~np.isnan(scores[:, model]))
            rows = _rows(ease[asked], kinds[asked], means.shape[1] - 2)
            means[model], covariance[model] = posterior(means[model], covariance[model], rows, scores[asked, model])
    kept = np.flatnonzero((~np.isnan(scores[:, places])).any(axis=1))
    index = index_of(lessons.prompts.vectors[kept])
    kept = kept if index is None else kept[index.order]
    own, names = scores[np.ix_(kept, places)], tuple(lessons.models[place] for place in places.tolist())
    known = among(Lessons(lessons.prompts.take(kept), own, own, names, ()), int(knob), index)
    found = ease[kept].astype(np.float32), kinds[kept], means.astype(np.float32), covariance.astype(np.float32), counts[:models]
    return Newcomers(known, places, *found, _chances(*found))


def posterior(mean: Numbers, covariance: Numbers, rows: Numbers, scores: Numbers) -> tuple[Doubles, Doubles]:
    """What a model is like, (f,), and how sure that is, (f, f), after scores (n,) where its logit is `rows` (n, f) times that; by Newton's
    method.
    """
    before, design, precision = mean.astype(np.float64), rows.astype(np.float64), np.linalg.inv(covariance.astype(np.float64))
    value, curvature = before.copy(), precision.copy()
    for _ in range(20):
        chances = 0.5 * (1 + np.tanh(0.5 * (design @ value)))
        curvature[:] = precision + (design * (chances * (1 - chances))[:, None]).T @ design
        step = np.linalg.solve(curvature, design.T @ (scores - chances) - precision @ (value - before))
        value += step
        if np.abs(step).max() < 1e-6:
            break
    return value, np.asarray(np.linalg.inv(curvature), dtype=np.float64)


def _rows(ease: Doubles, kinds: Tensor, count: int) -> Doubles:
    """What strength, slope and manners are multiplied by at questions: (n, 2 + count)."""
    return np.concatenate([np.ones((len(ease), 1)), ease[:, None], np.eye(count)[kinds]], axis=1)


def _kinds(vectors: Floats, seed: int) -> Tensor:
    """Of which kind each question is: (n,)."""
    count = max(1, min(KINDS, len(vectors) // OF_A_KIND))
    centres = centroids(vectors[_some(len(vectors), SORTED)], count, seed)
    found: Tensor = np.argmax(vectors @ centres.T, axis=1).astype(np.int64)
    return found


def _some(count: int, most: int) -> Rows:
    """At most so many places of `count`, evenly."""
    return np.linspace(0, count - 1, min(count, most)).astype(np.int64)


def _manners(judges: Judges, scores: Floats, kinds: Tensor) -> tuple[list[tuple[Doubles, Doubles]], float]:
    """What each of the models is like whose scores (n, o) these are, and how sure that is; and the variance of manners.

    How easy a question is, the others say. The variance is found by expectation and maximization.
    """
    count, some = int(kinds.max()) + 1, _some(len(scores), ASKED)
    scores, kinds = scores[some], kinds[some]
    known = [np.flatnonzero(~np.isnan(own)) for own in scores.T]
    rows = [_rows(judges.ease(scores, without=model)[asked], kinds[asked], count) for model, asked in enumerate(known)]
    variance, found = 0.1, []
    for _ in range(ROUNDS):
        before = np.zeros(2 + count), np.diag([100.0, 10.0, *[variance] * count])
        found = [posterior(*before, rows[model], scores[asked, model]) for model, asked in enumerate(known)]
        variance = max(1e-3, float(np.mean([np.square(mean[2:]) + np.diag(apart)[2:] for mean, apart in found])))
    return found, variance


def _foreseen(
    lessons: Lessons, teachers: Rows, alike: Sequence[tuple[Doubles, Doubles]], variance: float, shares: Doubles
) -> tuple[Doubles, Doubles]:
    """What is thought of each model before its own outcomes, (m, 2 + t), and how sure that is, (m, 2 + t, 2 + t), from what the teachers
    are like and their cards. `shares` (t,): of the questions, by kind. A strength is that at all of them, so that it hardly depends on how
    they are sorted.
    """
    taught, models = np.array([mean for mean, _ in alike]), len(lessons.models)
    cards = (*(lessons.cards or tuple(Model(name) for name in lessons.models)), *lessons.aside_cards)
    described = teachers < len(cards)
    strengths, sd = foresee(cards, teachers[described].tolist(), (taught[:, 0] + taught[:, 2:] @ shares)[described])
    means, covariance = np.zeros((models, taught.shape[1])), np.zeros((models, taught.shape[1], taught.shape[1]))
    means[:, 0], means[:, 1] = strengths[:models], taught[:, 1].mean()
    variances = np.maximum(np.square(sd[:models]), DOUBT / np.count_nonzero(described))
    slopes = max(LEAST_SLOPE_SD, float(taught[:, 1].std())) ** 2
    for model in range(models):
        covariance[model] = np.diag([variances[model], slopes, *[variance] * (taught.shape[1] - 2)])
    return means, covariance


def read(stored: Stored) -> Newcomers:
    """Raises BadArtifact."""
    places, models = stored.array("places", None), len(stored.models)
    if len(set(places.tolist())) != len(places) or not ((places >= 0) & (places < models)).all():
        raise BadArtifact(stored.folder, f"{TENSORS}: tensor 'places' must name some of the {models} models, each once")
    known = read_knn(stored.part("known", tuple(stored.models[place] for place in places.tolist())))
    means = stored.array("means", models, None)
    width = means.shape[1]
    covariance, heard = stored.array("covariance", models, width, width), stored.array("heard", models)
    ease, kinds = stored.array("ease", len(known.vectors)), stored.array("kinds", len(known.vectors)).astype(np.int64)
    if not ((kinds >= 0) & (kinds < width - 2)).all():
        raise BadArtifact(stored.folder, f"{TENSORS}: tensor 'kinds' must name some of the {width - 2} kinds that 'means' speaks of")
    return Newcomers(known, places, ease, kinds, means, covariance, heard, _chances(ease, kinds, means, covariance, heard))


class Prior(LearningScorer):
    """Models with few or no outcomes: what their cards promise, mended by what came. `artifact`: of `pointsman train prior`.

    With `learn_per_hour`, feedback on these models counts as further outcomes.
    """

    kind = "prior"
    learned = MappingProxyType({"means": 0, "covariance": 0, "heard": 0})

    @classmethod
    def read(cls, stored: Stored) -> Newcomers:
        return read(stored)

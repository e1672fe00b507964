"""A model of which little or nothing is known: what its card says, mended by each outcome that comes.

Size, price, date and family say how strong a model probably is, learned from the models whose outcomes are known; their outcomes also say
which questions are hard. A newcomer's logit at a question is `strength + slope * (how much better than usual models like it did there)`,
both with Gaussian priors that its own outcomes update by Bayes' rule (Laplace's approximation). So 50 outcomes say more than their mean: it
is known whether these were 50 hard or 50 easy questions. Of a new prompt, the mean over its nearest questions is expected.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from routers.artifacts import TENSORS, BadArtifact
from routers.learned import Expected, Lessons, Prompts, Stored, logit, sigmoid
from routers.learning.assignment import billions
from routers.online import LearningScorer
from routers.scorers.knn import Neighbours, nearest
from routers.scorers.knn import fit as fit_knn
from routers.scorers.knn import read as read_knn

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from routers.api import Model
    from routers.artifacts import Tensor
    from routers.learned import Floats

    Doubles: TypeAlias = NDArray[np.float64]

KNOBS = (100.0,)
"""Neighbours that say how hard a prompt is."""
SETTLED = 0.3
"""A model with this share of the best known model's outcomes is known."""
LEAST_SLOPE_SD = 0.5
FAMILY_SD, TREND_SD = 0.5, 1.0
LEAST_SD = 1.2
"""Nobody's strength is foreseen better than this, in logits: cards say little, and few models teach what they say."""
MOST_SD = 1.5
CAUTION = 0.1
"""Standard deviations that a newcomer without any outcome is taken to be weaker than foreseen: it must not do harm unseen."""

_WORDS = re.compile(r"[a-z]+|\d+(?:\.\d+)?")
_MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split()
_MONTH = re.compile(r"\b(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.? (20\d\d)\b", re.IGNORECASE)
_PLAIN = frozenset(("instruct", "chat", "it", "base", "hf", "v", "pro", "flash", "mini", "large", "small", "preview", "turbo", "b", "x"))


@dataclass(frozen=True, slots=True)
class Newcomers:
    """`known`: neighbours of the o known models. `places`: int64 (o,), where these stand among all m; the others are newcomers.

    `likeness`: float32 (m, o), how much each known model says of each model. `means`: (m, 2) of strength and
    slope; `covariance`: (m, 2, 2).
    """

    known: Neighbours
    places: Tensor
    likeness: Floats
    means: Floats
    covariance: Floats

    def expect(self, prompts: Prompts) -> Expected:
        found = [self._expect(vector) for vector in prompts.vectors]
        near = self.known.expect(prompts)
        mean, spread = np.stack([mean for mean, _ in found]), np.stack([spread for _, spread in found])
        mean[:, self.places], spread[:, self.places] = near.mean, near.spread
        return Expected(mean, spread)

    def _expect(self, vector: Floats) -> tuple[Floats, Floats]:
        easy = self._ease(vector) @ self.likeness.T
        chances = sigmoid(self.means[:, 0] + easy * self.means[:, 1])
        row = np.stack([np.ones(len(self.means)), easy.mean(axis=0)], axis=1)
        variance = np.maximum(np.einsum("mf,mfg,mg->m", row, self.covariance, row), 0)
        mean = chances.mean(axis=0)
        return mean, (np.sqrt(variance) * mean * (1 - mean)).astype(np.float32)

    def _ease(self, vector: Floats) -> Floats:
        """(k, o): how much better than usual each known model did at the nearest questions."""
        scores = self.known.scores[nearest(self.known.vectors, self.known.index, vector, self.known.k)]
        return ease(scores, self.known.means)

    def open_to(self, column: int) -> bool:
        """Newcomers alone learn: what is known of the others are neighbours, and these are chosen at training."""
        return column not in self.places

    def learn(self, prompts: Prompts, column: int, score: float) -> Newcomers:
        """Bayes' rule for one outcome of a newcomer; the first one ends the caution, as in `fit`."""
        mean, covariance = self.means[column].astype(np.float64), self.covariance[column].astype(np.float64)
        if covariance[0, 0] == self.covariance[self.places[0], 0, 0]:  # as foreseen, like the known ones: nothing came yet
            mean[0] += CAUTION * math.sqrt(covariance[0, 0])
        easy = np.stack([self._ease(vector).mean(axis=0) for vector in prompts.vectors]) @ self.likeness[column]
        means, covariances = self.means.copy(), self.covariance.copy()
        means[column], covariances[column] = posterior(mean, covariance, easy, np.array([score], dtype=np.float32))
        return replace(self, means=means, covariance=covariances)

    def tensors(self) -> Mapping[str, Tensor]:
        own = {"places": self.places, "likeness": self.likeness, "means": self.means, "covariance": self.covariance}
        return {**own, **{f"known/{name}": array for name, array in self.known.tensors().items()}}

    def settings(self) -> Mapping[str, object]:
        return {"known": dict(self.known.settings())}


def ease(scores: Floats, means: Floats) -> Floats:
    """How much better than usual o models did at n questions, (n, o); 0 where that is not known."""
    found: Floats = np.nan_to_num(scores - means)
    return found


def fit(lessons: Lessons, knob: float, seed: int = 0) -> Newcomers:
    """Raises ValueError if fewer than two models are known."""
    counts = (~np.isnan(lessons.scores)).sum(axis=0)
    settled = (counts >= SETTLED * counts.max()) & (counts > 0)
    places = np.flatnonzero(settled)
    if len(places) < 2:
        raise ValueError("a prior for new models needs at least two models with outcomes")
    names = tuple(lessons.models[place] for place in places.tolist())
    rows = np.flatnonzero((~np.isnan(lessons.scores[:, places])).any(axis=1))
    scores = lessons.scores[np.ix_(rows, places)]
    old = Lessons(lessons.prompts.take(rows), scores, scores, names, ())
    known = fit_knn(old, knob)
    likeness = _likeness(lessons.cards, places)
    strength, sd = _strengths(lessons.cards, places, logit(known.means))
    slope, slope_sd = _slopes(known, likeness[places])
    means, covariance = np.zeros((len(counts), 2)), np.zeros((len(counts), 2, 2))
    for model in range(len(counts)):
        prior = np.array([strength[model], slope]), np.diag([sd**2, slope_sd**2])
        asked = np.flatnonzero(~np.isnan(lessons.scores[:, model])) if not settled[model] else np.array([], dtype=np.int64)
        if settled[model]:
            means[model], covariance[model] = prior
        elif not len(asked):
            means[model], covariance[model] = prior[0] - [CAUTION * sd, 0], prior[1]
        else:
            easy = ease(lessons.scores[np.ix_(asked, places)], known.means) @ likeness[model]
            means[model], covariance[model] = posterior(*prior, easy, lessons.scores[asked, model])
    return Newcomers(known, places, likeness, means.astype(np.float32), covariance.astype(np.float32))


def posterior(mean: Doubles, covariance: Doubles, easy: Floats, scores: Floats) -> tuple[Doubles, Doubles]:
    """Strength and slope (2,) and their covariance after n outcomes on prompts of this ease (n,), by Newton's method."""
    rows = np.stack([np.ones_like(easy), easy], axis=1).astype(np.float64)
    precision = np.linalg.inv(covariance).astype(np.float64)
    value = np.array(mean, dtype=np.float64)
    for _ in range(20):
        chances = 1 / (1 + np.exp(-rows @ value))
        curvature = precision + (rows * (chances * (1 - chances))[:, None]).T @ rows
        step = np.linalg.solve(curvature, rows.T @ (scores - chances) - precision @ (value - mean))
        value += step.astype(np.float64)
        if np.abs(step).max() < 1e-8:
            break
    return value, np.linalg.inv(curvature).astype(np.float64)


def _slopes(known: Neighbours, likeness: Floats) -> tuple[float, float]:
    """How much the known models' outcomes at a question tell of each other's there: the mean slope, and how much it differs."""
    slopes = []
    for model in range(len(known.means)):
        others = likeness[model].copy()
        others[model] = 0
        rows = np.flatnonzero(~np.isnan(known.scores[:, model]))
        easy = ease(known.scores[rows], known.means) @ (others / max(float(others.sum()), 1e-9))
        wide = np.array([0.0, 0.0]), np.diag([10.0**2, 10.0**2])
        slopes.append(float(posterior(*wide, easy, known.scores[rows, model])[0][1]))
    return float(np.mean(slopes)), max(LEAST_SLOPE_SD, float(np.std(slopes)))


def family(name: str) -> str:
    """What a model is called without its size and manner: "Llama-3.1-70B-Instruct" is "llama 3.1"."""
    before = re.split(r"[-_ ]?(?:\d+x)?\d+(?:\.\d+)?b\b", name.rsplit("/", 1)[-1].lower(), maxsplit=1)[0]
    words = [word for word in _WORDS.findall(before) if word not in _PLAIN]
    return " ".join(words[:2])


def _traits(cards: Sequence[Model]) -> Floats:
    """(m, 5): a 1, the logarithms of price and size and the date (years) about their means, and whether the size is known."""
    prices = [card.price.output if card.price is not None and card.price.output > 0 else None for card in cards]
    sizes = [billions(card) for card in cards]
    dates = [_date(card.description) for card in cards]
    settled = [date for date in dates if date is not None]
    when = [0.0 if date is None else date - sum(settled) / len(settled) for date in dates]
    columns = []
    for values in (prices, sizes):
        logs = [math.log10(value) for value in values if value]
        middle = sum(logs) / len(logs) if logs else 0.0
        columns.append([math.log10(value) - middle if value else 0.0 for value in values])
    rows = zip(*columns, when, sizes, strict=True)
    found: Floats = np.array([[1.0, price, size, date, float(bool(known))] for price, size, date, known in rows])
    return found


def _date(description: str) -> float | None:
    """The year, with months as its parts, if a description says when the model came out ("July 2024")."""
    found = _MONTH.search(description)
    return None if found is None else int(found[2]) + _MONTHS.index(found[1].lower()[:3]) / 12


def _strengths(cards: Sequence[Model], places: Tensor, levels: Floats) -> tuple[Floats, float]:
    """Foreseen strength of every model in logits (m,), from the known ones' (o,), and how far off that is (standard deviation)."""
    traits = _traits(cards)
    names = [family(card.name) for card in cards]
    families = sorted(set(names))
    kin = np.eye(len(families))[[families.index(name) for name in names]]
    design = np.hstack([traits, kin])
    prior = np.diag([1e-4, *[1 / TREND_SD**2] * (traits.shape[1] - 1), *[1 / FAMILY_SD**2] * len(families)])
    noise = 0.1

    def foresee(rows: Tensor) -> Floats:
        known = design[places[rows]]
        weights = np.linalg.solve(known.T @ known / noise + prior, known.T @ levels[rows] / noise)
        found: Floats = design @ weights
        return found

    every = np.arange(len(places))
    off = [levels[one] - foresee(every[every != one])[places[one]] for one in every]
    return foresee(every), float(np.clip(np.sqrt(np.mean(np.square(off))), LEAST_SD, MOST_SD))


def _likeness(cards: Sequence[Model], places: Tensor) -> Floats:
    """(m, o), rows add up to 1: nearer in price and size, and of the same family, says more."""
    traits = _traits(cards)
    names = [family(card.name) for card in cards]
    apart = np.abs(traits[:, None, 1:3] - traits[None, places, 1:3]).sum(axis=2)
    kin = np.array([[name == names[place] for place in places.tolist()] for name in names])
    weights = np.exp(-apart) * np.where(kin, 2.0, 1.0)
    found: Floats = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return found


def read(stored: Stored) -> Newcomers:
    """Raises BadArtifact."""
    places, models = stored.array("places", None), len(stored.models)
    if len(set(places.tolist())) != len(places) or not ((places >= 0) & (places < models)).all():
        raise BadArtifact(stored.folder, f"{TENSORS}: tensor 'places' must name some of the {models} models, each once")
    known = read_knn(stored.part("known", tuple(stored.models[place] for place in places.tolist())))
    likeness = stored.array("likeness", models, len(places))
    return Newcomers(known, places, likeness, stored.array("means", models, 2), stored.array("covariance", models, 2, 2))


class Prior(LearningScorer):
    """Models with few or no outcomes: what size, price and family promise, mended by what came. `artifact`: of `pointsman train prior`.

    With `learn_per_hour`, feedback on these models counts as further outcomes.
    """

    kind = "prior"
    learned = MappingProxyType({"means": 0, "covariance": 0})

    @classmethod
    def read(cls, stored: Stored) -> Newcomers:
        return read(stored)

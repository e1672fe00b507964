"""A model of which little or nothing is known: what its card says, mended by each outcome that comes.

Size, price and family say how strong a model probably is, learned from the models whose outcomes are known; these, by kNN, also say which
prompts are hard. A newcomer's logit is `strength + slope * (how easy the prompt is for models like it)`, both with Gaussian
priors that outcomes update by Bayes' rule (Laplace's approximation).
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
from routers.scorers.knn import Neighbours
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
SLOPE_SD = 0.4
FAMILY_SD, TREND_SD = 0.5, 1.0
LEAST_SD = 0.25
"""Nobody's strength is foreseen better than this, in logits."""
MOST_SD = 1.5
CAUTION = 0.5
"""Standard deviations that a newcomer without any outcome is taken to be weaker than foreseen: it must not do harm unseen."""

_WORDS = re.compile(r"[a-z]+|\d+(?:\.\d+)?")
_PLAIN = frozenset(("instruct", "chat", "it", "base", "hf", "v", "pro", "flash", "mini", "large", "small", "preview", "turbo", "b", "x"))


@dataclass(frozen=True, slots=True)
class Newcomers:
    """`known`: neighbours of the o known models. `places`: int64 (o,), where these stand among all m; the others are newcomers.

    `likeness`: float32 (m, o), how much each known model says of each model. `level`: (o,), the known models' mean logits. `means`: (m, 2)
    of strength and slope; `covariance`: (m, 2, 2).
    """

    known: Neighbours
    places: Tensor
    likeness: Floats
    level: Floats
    means: Floats
    covariance: Floats

    def expect(self, prompts: Prompts) -> Expected:
        near = self.known.expect(prompts)
        easy = ease(near.mean, self.level) @ self.likeness.T
        rows = np.stack([np.ones_like(easy), easy], axis=2)
        mean = sigmoid(np.einsum("nmf,mf->nm", rows, self.means).astype(np.float32))
        variance = np.einsum("nmf,mfg,nmg->nm", rows, self.covariance, rows)
        spread = (np.sqrt(np.maximum(variance, 0)) * mean * (1 - mean)).astype(np.float32)
        mean[:, self.places], spread[:, self.places] = near.mean, near.spread
        return Expected(mean, spread)

    def open_to(self, column: int) -> bool:
        """Newcomers alone learn: what is known of the others are neighbours, and these are chosen at training."""
        return column not in self.places

    def learn(self, prompts: Prompts, column: int, score: float) -> Newcomers:
        """Bayes' rule for one outcome of a newcomer; the first one ends the caution, as in `fit`."""
        mean, covariance = self.means[column].astype(np.float64), self.covariance[column].astype(np.float64)
        if covariance[0, 0] == self.covariance[self.places[0], 0, 0]:  # as foreseen, like the known ones: nothing came yet
            mean[0] += CAUTION * math.sqrt(covariance[0, 0])
        easy = ease(self.known.expect(prompts).mean, self.level) @ self.likeness[column]
        means, covariances = self.means.copy(), self.covariance.copy()
        means[column], covariances[column] = posterior(mean, covariance, easy, np.array([score], dtype=np.float32))
        return replace(self, means=means, covariance=covariances)

    def tensors(self) -> Mapping[str, Tensor]:
        own = {"places": self.places, "likeness": self.likeness, "level": self.level, "means": self.means, "covariance": self.covariance}
        return {**own, **{f"known/{name}": array for name, array in self.known.tensors().items()}}

    def settings(self) -> Mapping[str, object]:
        return {"known": dict(self.known.settings())}


def ease(expected: Floats, level: Floats) -> Floats:
    """How much easier than usual n prompts are for o models, in logits: (n, o)."""
    found: Floats = logit(expected) - level
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
    means, covariance = np.zeros((len(counts), 2)), np.zeros((len(counts), 2, 2))
    for model in range(len(counts)):
        prior = np.array([strength[model], 1.0]), np.diag([sd**2, SLOPE_SD**2])
        asked = np.flatnonzero(~np.isnan(lessons.scores[:, model])) if not settled[model] else np.array([], dtype=np.int64)
        if settled[model]:
            means[model], covariance[model] = prior
        elif not len(asked):
            means[model], covariance[model] = prior[0] - [CAUTION * sd, 0], prior[1]
        else:
            near = _without_itself(known, lessons, asked, places)
            easy = ease(near, logit(known.means)) @ likeness[model]
            means[model], covariance[model] = posterior(*prior, easy, lessons.scores[asked, model])
    return Newcomers(known, places, likeness, logit(known.means), means.astype(np.float32), covariance.astype(np.float32))


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


def _without_itself(known: Neighbours, lessons: Lessons, asked: Tensor, places: Tensor) -> Floats:
    """What the known models' neighbours say of prompts that may be among them, each without its own outcomes: (n, o)."""
    near = known.expect(lessons.prompts.take(asked)).mean
    own = lessons.scores[np.ix_(asked, places)]
    found: Floats = np.where(np.isnan(own), near, (near * known.k - np.nan_to_num(own)) / max(1, known.k - 1))
    return np.clip(found, 0, 1)


def family(name: str) -> str:
    """What a model is called without its size and manner: "Llama-3.1-70B-Instruct" is "llama 3.1"."""
    before = re.split(r"[-_ ]?(?:\d+x)?\d+(?:\.\d+)?b\b", name.rsplit("/", 1)[-1].lower(), maxsplit=1)[0]
    words = [word for word in _WORDS.findall(before) if word not in _PLAIN]
    return " ".join(words[:2])


def _traits(cards: Sequence[Model]) -> Floats:
    """(m, 4): a 1, the logarithms of price and size about their means, and whether the size is known."""
    prices = [card.price.output if card.price is not None and card.price.output > 0 else None for card in cards]
    sizes = [billions(card) for card in cards]
    columns = []
    for values in (prices, sizes):
        logs = [math.log10(value) for value in values if value]
        middle = sum(logs) / len(logs) if logs else 0.0
        columns.append([math.log10(value) - middle if value else 0.0 for value in values])
    found: Floats = np.array([[1.0, price, size, float(bool(known))] for price, size, known in zip(*columns, sizes, strict=True)])
    return found


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
    likeness, level = stored.array("likeness", models, len(places)), stored.array("level", len(places))
    return Newcomers(known, places, likeness, level, stored.array("means", models, 2), stored.array("covariance", models, 2, 2))


class Prior(LearningScorer):
    """Models with few or no outcomes: what size, price and family promise, mended by what came. `artifact`: of `pointsman train prior`.

    With `learn_per_hour`, feedback on these models counts as further outcomes.
    """

    kind = "prior"
    learned = MappingProxyType({"means": 0, "covariance": 0})

    @classmethod
    def read(cls, stored: Stored) -> Newcomers:
        return read(stored)

"""How strong is a model of which only the card is known? What price, size, date, family and description are worth, learned from others.

Strengths are a Gaussian process over the models (Rasmussen and Williams 2006): where cards are alike, strengths are, and beyond the known
cards trends go on, with less and less certainty. How much each trait says comes from the known models: the weights under which their
strengths are most probable.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from routers.learning.assignment import billions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from routers.api import Model

    Doubles: TypeAlias = NDArray[np.float64]

LEVEL_SD = 1.0
"""Of the strength that a table's models have on average, in logits: nearly nothing is known of it beforehand."""
USUAL, WIDE = 0.3, 1.0
"""What a trait is worth before anything was seen, in logits: usually so much, give or take this much in the logarithm."""
ROUNDS, STEP, FINER = 12, 1.0, 1.6
"""Of the search for the most probable weights: how often each is tried, by what factor at first (logarithm), how much finer each time."""

_WORDS = re.compile(r"[a-z]+|\d+(?:\.\d+)?")
_LETTERS = re.compile(r"[^\W\d_]{3,}")
_MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split()
_MONTH = re.compile(r"\b(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.? (20\d\d)\b", re.IGNORECASE)
_PLAIN = frozenset(("instruct", "chat", "it", "base", "hf", "v", "pro", "flash", "mini", "large", "small", "preview", "turbo", "b", "x"))


def foresee(cards: Sequence[Model], known: Sequence[int], strengths: Doubles) -> tuple[Doubles, Doubles]:
    """What strength to expect of each of m models by its card, and how far off that may be (standard deviation): (m,), (m,), in logits.

    `known`: the places of the o models whose `strengths` (o,) are known; at least one. Of these, what their cards alone would say is
    returned as well, with themselves among the models that it is learned from.
    """
    alike = _alike(cards)
    places = np.asarray(known, dtype=np.int64)
    weights = _weights(alike[:, places[:, None], places], strengths)
    every = _covariance(alike, weights[:-1])
    seen = every[np.ix_(places, places)] + np.exp(2 * weights[-1]) * np.eye(len(places))
    says = np.linalg.solve(seen, every[places]).T
    mean, variance = says @ strengths, np.diag(every) - np.einsum("mo,om->m", says, every[places]) + np.exp(2 * weights[-1])
    return mean, np.sqrt(np.maximum(variance, 0))


def family(name: str) -> str:
    """What a model is called without its size and manner: "Llama-3.1-70B-Instruct" is "llama 3.1"."""
    before = re.split(r"[-_ ]?(?:\d+x)?\d+(?:\.\d+)?b\b", name.rsplit("/", 1)[-1].lower(), maxsplit=1)[0]
    words = [word for word in _WORDS.findall(before) if word not in _PLAIN]
    return " ".join(words[:2])


def _weights(alike: Doubles, strengths: Doubles) -> Doubles:
    """Logarithms of what each of t traits (t, o, o) is worth, and last of what no trait says: the most probable ones, (t + 1,)."""

    def cost(weights: Doubles) -> float:
        """Minus the logarithm of how probable weights and strengths are together, but for a constant."""
        root = np.linalg.cholesky(_covariance(alike, weights[:-1]) + np.exp(2 * weights[-1]) * np.eye(len(strengths)))
        off = np.linalg.solve(root, strengths)
        return float(off @ off / 2 + np.log(np.diag(root)).sum() + np.square((weights - math.log(USUAL)) / WIDE).sum() / 2)

    weights = np.full(len(alike) + 1, math.log(USUAL))
    best, step = cost(weights), STEP
    for _ in range(ROUNDS):
        for trait in range(len(weights)):
            for way in (step, -step):
                tried = weights.copy()
                tried[trait] += way
                while (found := cost(tried)) < best - 1e-6:
                    weights, best = tried.copy(), found
                    tried[trait] += way
        step /= FINER
    return weights


def _covariance(alike: Doubles, weights: Doubles) -> Doubles:
    """Of strengths, in square logits, (m, m): what each trait is worth times how alike models are in it, and the common level."""
    found: Doubles = np.einsum("t,tmo->mo", np.exp(2 * weights), alike) + LEVEL_SD**2
    return found


def _alike(cards: Sequence[Model]) -> Doubles:
    """(5, m, m): how alike the models are in price, size and date (products of distances from the mean), in family, in words."""
    prices = [math.log10(card.price.output) if card.price is not None and card.price.output > 0 else None for card in cards]
    sizes = [math.log10(size) if (size := billions(card)) else None for card in cards]
    numbers = np.stack([_centred(values) for values in (prices, sizes, [_date(card.description) for card in cards])])
    names = np.array([family(card.name) for card in cards])
    words = _words(cards)
    return np.concatenate([numbers[:, :, None] * numbers[:, None], [names[:, None] == names], [words @ words.T]])


def _centred(values: Sequence[float | None]) -> Doubles:
    """Distances from the mean in standard deviations, (m,); 0 where the value is unknown."""
    known = [value for value in values if value is not None]
    middle, width = (float(np.mean(known)), float(np.std(known))) if known else (0.0, 0.0)
    return np.array([0.0 if value is None or width < 1e-9 else (value - middle) / width for value in values])


def _words(cards: Sequence[Model]) -> Doubles:
    """(m, w), rows of unit length or 0: the words of names and descriptions that some cards share; the rarer, the more they count."""
    found = [set(_LETTERS.findall(f"{card.name} {card.description}".lower())) for card in cards]
    words = sorted(set().union(*found))
    table = np.array([[word in own for word in words] for own in found], dtype=np.float64).reshape(len(cards), len(words))
    counts = table.sum(axis=0)
    table *= np.where(counts > 1, np.log(len(cards) / np.maximum(counts, 1)), 0.0)
    return np.asarray(table / np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-9), dtype=np.float64)


def _date(description: str) -> float | None:
    """The year, with months as its parts, if a description says when the model came out ("July 2024")."""
    found = _MONTH.search(description)
    return None if found is None else int(found[2]) + _MONTHS.index(found[1].lower()[:3]) / 12

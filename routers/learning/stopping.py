"""Orders in which models may be asked, thresholds at which to stop, and what they came to on recorded answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.floating]
    Look: TypeAlias = Callable[[Sequence[int]], tuple[NDArray[np.float32], NDArray[np.float32]]]

FREE_ORDERS = 5
"""Up to so many models are tried in every order; more of them from the cheapest up, in every selection."""
THRESHOLDS: tuple[float, ...] = tuple(np.round(np.concatenate([np.arange(0.2, 0.9, 0.05), np.arange(0.9, 1.0, 0.02), [1.01]]), 3).tolist())
"""Above 1: never before the end."""


@dataclass(frozen=True, slots=True)
class Way:
    """An order of columns and a threshold, and what it came to: mean score, mean cost in USD, mean number of calls."""

    order: tuple[int, ...]
    threshold: float
    score: float
    cost: float
    calls: float


@dataclass(frozen=True, slots=True)
class Target:
    """What a cascade is fitted for: the best within a mean cost, or the cheapest that reaches a mean quality; neither: the best within the
    cost of the best single model.
    """

    max_mean_usd: float | None = None
    min_quality: float | None = None

    def __post_init__(self) -> None:
        """Raises ValueError where both are given."""
        if self.max_mean_usd is not None and self.min_quality is not None:
            raise ValueError("a cascade is fitted for a cost or for a quality, not for both")


@dataclass(frozen=True, slots=True)
class Ways:
    """`costs`, `scores` (n, m): of the answers. `look`: a set of columns -> the chance and the score (n,) of what one would answer then."""

    costs: Floats
    scores: Floats
    look: Look


def ways(of: Ways) -> tuple[Way, ...]:
    """Those that nothing cheaper is better than, from the cheapest up."""
    seen: dict[frozenset[int], tuple[NDArray[np.float32], NDArray[np.float32]]] = {}
    found: list[Way] = []
    for order in orders(of.costs.mean(axis=0)):
        for place in range(1, len(order) + 1):
            asked = frozenset(order[:place])
            if asked not in seen:
                seen[asked] = of.look(sorted(asked))
        found += _swept(order, of, [seen[frozenset(order[:place])] for place in range(1, len(order) + 1)])
    return frontier(found)


def orders(costs: Floats) -> Iterator[tuple[int, ...]]:
    """`costs` (m,): mean costs of the models."""
    columns = np.argsort(costs, kind="stable").tolist()
    for count in range(1, len(columns) + 1):
        for chosen in combinations(columns, count):
            if len(columns) <= FREE_ORDERS:
                yield from permutations(chosen)
            else:
                yield chosen


def frontier(found: Sequence[Way]) -> tuple[Way, ...]:
    kept: list[Way] = []
    for way in sorted(found, key=lambda one: (one.cost, -one.score, len(one.order))):
        if not kept or way.score > kept[-1].score:
            kept.append(way)
    return tuple(kept)


def walk(order: tuple[int, ...], threshold: float, costs: Floats, looks: Sequence[tuple[Floats, Floats]]) -> tuple[Floats, Floats, Floats]:
    """(n,) each: score, cost and calls of an order that stops where the chance reaches the threshold. `looks`: for each place in it, as
    `Ways.look` gives them.
    """
    chances = np.stack([chance for chance, _ in looks])
    scores = np.stack([score for _, score in looks])
    paid = np.cumsum(costs[:, list(order)].T, axis=0)
    reached = chances >= threshold
    reached[-1] = True
    stop = reached.argmax(axis=0)
    rows = np.arange(len(costs))
    return scores[stop, rows], paid[stop, rows], stop + 1.0


def choose(found: Sequence[Way], target: Target, costs: Floats, scores: Floats) -> Way:
    """The way of a frontier that meets the target. Raises ValueError where none does."""
    if target.min_quality is not None:
        good = [way for way in found if way.score >= target.min_quality]
        if not good:
            raise ValueError(f"no cascade reaches a mean quality of {target.min_quality:g}; the best comes to {found[-1].score:.4f}")
        return good[0]
    most = target.max_mean_usd
    if most is None:
        most = float(costs.mean(axis=0)[scores.mean(axis=0).argmax()])
    able = [way for way in found if way.cost <= most]
    if not able:
        raise ValueError(f"no cascade costs at most {most:g} USD a question; the cheapest costs {found[0].cost:g}")
    return able[-1]


def _swept(order: tuple[int, ...], of: Ways, looks: Sequence[tuple[Floats, Floats]]) -> list[Way]:
    found = []
    for threshold in THRESHOLDS if len(order) > 1 else THRESHOLDS[-1:]:
        score, cost, calls = walk(order, threshold, of.costs, looks)
        found.append(Way(order, threshold, float(score.mean()), float(cost.mean()), float(calls.mean())))
    return found

"""Plugins and candidates made by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Literal

from routers.api import Candidate, Filter, Model, Need, Picker, Price, RouteRequest, Scored, Scorer
from routers.filters import AllowList, Capability, ContextWindow, Health, MaxCost
from routers.pickers import Best
from routers.pipeline import Policy, Weighted
from routers.planners.single import Single

NEVER = float("inf")


def candidate(name: str, price: float | None = 1.0, **more: Any) -> Candidate:
    """A model whose input and output cost `price` USD per million tokens. `more`: fields of Model or Candidate."""
    state = {key: more.pop(key) for key in ("healthy", "load", "answer_tokens") if key in more}
    return Candidate(Model(name, Price(price, price) if price is not None else None, **more), **state)


@dataclass
class Says:
    """A scorer that returns what it is given, or calls it with the request and the candidates."""

    opinion: Any
    needs: frozenset[Need] = frozenset()
    instant: bool = True
    predicts: Literal["quality", "cost", "preference"] = "preference"
    quick: bool = False

    def score(self, request: RouteRequest, candidates: Sequence[Candidate]) -> Mapping[str, float]:
        found: Mapping[str, float] = self.opinion(request, candidates) if callable(self.opinion) else self.opinion
        return found


@dataclass
class Picks:
    """A picker that does what it is told."""

    way: Callable[[Sequence[Scored]], Any]
    deterministic: bool = True

    def pick(self, request: RouteRequest, ranked: Sequence[Scored], rng: Random) -> Sequence[Scored]:
        found: Sequence[Scored] = self.way(ranked)
        return found


@dataclass
class Rejects:
    """A filter with a rule of its own."""

    rule: Callable[[Candidate], Any]

    def reject(self, request: RouteRequest, candidate: Candidate) -> str | None:
        found: str | None = self.rule(candidate)
        return found


FILTERS: tuple[tuple[str, Filter], ...] = (
    ("allow_list", AllowList()),
    ("capability", Capability()),
    ("context_window", ContextWindow()),
    ("max_cost", MaxCost()),
    ("health", Health()),
)


def policy(
    *scorers: Scorer,
    weights: Sequence[float] | None = None,
    picker: Picker | None = None,
    filters: Sequence[tuple[str, Filter]] = FILTERS,
    default: str = "a",
) -> Policy:
    """A policy whose scorers are called s0, s1, …"""
    counted = zip(scorers, weights or [1.0] * len(scorers), strict=True)
    weighted = [Weighted(f"s{index}", scorer, weight) for index, (scorer, weight) in enumerate(counted)]
    return Policy("test", filters, weighted, picker or Best(), Single(), default)


class Clock:
    """A clock that goes on by `step` seconds at each look."""

    def __init__(self, step: float = 0.0) -> None:
        self.now = 0.0
        self._step = step

    def __call__(self) -> float:
        self.now += self._step
        return self.now

"""What is expected of each model on a question before anyone is asked: its record on like questions and on that kind of question, heard
together. Trees that judge answers read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from routers.index import Index
from routers.learned import Expected, Lessons, Prompts, Stored, gathered, logit, sigmoid, unseen
from routers.scorers import knn, two_step
from routers.scorers.knn import Neighbours
from routers.scorers.two_step import Plan

if TYPE_CHECKING:
    from routers.artifacts import Tensor

NEIGHBOURS = 100
FREEDOM = 10.0
LITTLE_KNOWN = 4.0
"""So many neighbours of a model's mean score are added to those that are found."""


@dataclass(frozen=True, slots=True)
class Record:
    """`near`: outcomes on like questions. `kinds`: outcomes by kind of question."""

    near: Neighbours
    kinds: Plan

    def expect(self, prompts: Prompts) -> Expected:
        near, kind = self.near.expect(prompts), self.kinds.expect(prompts)
        return Expected(sigmoid((logit(near.mean) + logit(kind.mean)) / 2), near.spread)

    def tensors(self) -> Mapping[str, Tensor]:
        parts = {"near": self.near.tensors(), "kinds": self.kinds.tensors()}
        return gathered(parts)

    def settings(self) -> Mapping[str, object]:
        return {"near": dict(self.near.settings()), "kinds": dict(self.kinds.settings())}


def fit(lessons: Lessons, seed: int) -> Record:
    """From the scores of lessons. Raises ValueError if a model has no outcome at all."""
    near = replace(knn.fit(lessons, NEIGHBOURS, seed), shrink=LITTLE_KNOWN)
    return Record(near, two_step.fit(lessons, FREEDOM, seed))


def indexed(found: Record) -> Record:
    """The same with an index of its neighbours, which finds nearly all of them in a fraction of the time."""
    near = found.near
    return found if near.index is not None else replace(found, near=replace(near, index=Index.of(near.vectors)))


def expect_unseen(lessons: Lessons, folds: int, seed: int) -> Expected:
    """Of each lesson, what is expected by whoever was fitted on the other folds: as little sure of it as of a new question."""
    mean, spread = np.empty_like(lessons.scores), np.empty_like(lessons.scores)
    for held, others in unseen(len(lessons), folds, seed):
        found = fit(lessons.take(others), seed).expect(lessons.prompts.take(held))
        mean[held], spread[held] = found.mean, found.spread
    return Expected(mean, spread)


def read(stored: Stored) -> Record:
    """Raises BadArtifact."""
    return Record(knn.read(stored.part("near")), two_step.read(stored.part("kinds")))

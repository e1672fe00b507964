"""What is expected of each model on a question before anyone is asked: its record on that kind of question and a small net, heard together;
and what it will cost.

Which two are heard was chosen on recorded answers of mmlupro (train and validation): neighbours and a graph add nothing to these, and
looking them up would take longer than all the rest of a round.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from routers.learned import Expected, Lessons, Prompts, Stored, gathered, logit, sigmoid, unseen
from routers.rounds import bill, kin
from routers.rounds.bill import Bill
from routers.rounds.kin import Kin
from routers.scorers import mlp, two_step
from routers.scorers.mlp import Mlps
from routers.scorers.two_step import Plan

if TYPE_CHECKING:
    from routers.artifacts import Tensor
    from routers.learned import Floats

FREEDOM = 10.0
WIDTH = 64.0
NET = 2.0
"""The net's word counts for so many of the kinds'."""


@dataclass(frozen=True, slots=True)
class Question:
    """`kinds`: outcomes by kind of question. `net`: learned from all of them. `bill`: what answers cost. `kin`: models that came later,
    whose columns are last.
    """

    kinds: Plan
    net: Mlps
    bill: Bill
    kin: Kin | None = None

    def expect(self, prompts: Prompts) -> Expected:
        found = self.known(prompts)
        if self.kin is None:
            return found
        new = self.kin.expect(found)
        return Expected(np.concatenate([found.mean, new.mean], axis=1), np.concatenate([found.spread, new.spread], axis=1))

    def known(self, prompts: Prompts) -> Expected:
        """Of those models alone that it was fitted to."""
        kinds, net = self.kinds.expect(prompts), self.net.expect(prompts)
        return Expected(sigmoid((logit(kinds.mean) + NET * logit(net.mean)) / (1 + NET)), net.spread)

    def tensors(self) -> Mapping[str, Tensor]:
        parts = {"kinds": self.kinds.tensors(), "net": self.net.tensors(), "bill": self.bill.tensors()}
        parts |= {"kin": self.kin.tensors()} if self.kin is not None else {}
        return gathered(parts)

    def settings(self) -> Mapping[str, object]:
        return {"kinds": dict(self.kinds.settings()), "net": dict(self.net.settings()), "bill": {}, "kin": {}}


def fit(lessons: Lessons, seed: int) -> Question:
    """From the scores of lessons. Raises ValueError if a model has no outcome at all."""
    return Question(two_step.fit(lessons, FREEDOM, seed), mlp.fit(lessons, WIDTH, seed), bill.fit(lessons))


def expect_unseen(lessons: Lessons, folds: int, seed: int) -> tuple[Expected, Floats]:
    """What is expected on each of the lessons by a question's model that was fitted without it, and what an answer would cost (USD)."""
    mean, spread, costs = np.empty_like(lessons.scores), np.empty_like(lessons.scores), np.empty_like(lessons.scores)
    for held, rest in unseen(len(lessons), folds, seed):
        others, prompts = lessons.take(rest), lessons.prompts.take(held)
        asked = fit(others, seed)
        found = asked.expect(prompts)
        mean[held], spread[held] = found.mean, found.spread
        costs[held] = asked.bill.costs(prompts, others.costs.mean(axis=0))
    return Expected(mean, spread), costs


def read(stored: Stored, newcomers: int = 0) -> Question:
    """Raises BadArtifact. `newcomers`: how many of the models, the last ones, came later."""
    known = stored.models[: len(stored.models) - newcomers]
    kinds, net, paid = (stored.part(name, known) for name in ("kinds", "net", "bill"))
    later = kin.read(stored.part("kin", known), newcomers) if newcomers else None
    return Question(two_step.read(kinds), mlp.read(net), bill.read(paid), later)

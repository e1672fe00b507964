"""First what kind of prompt it is, then who serves that kind. (Composition of Experts, arXiv 2412.01868)

The kinds are the datasets of the outcomes table; a logistic classifier over meaning and wording tells them. Which models are kept at all,
and who serves which kind, is an integer programme: the greatest expected score under a bound on the mean cost of a question or on the
models' size. Without a bound every model is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from routers import wording
from routers.features import SCALE, softmax, sparse
from routers.learned import Expected, LearnedScorer, Lessons, Prompts, Stored
from routers.learning.assignment import assign
from routers.learning.centroids import centroids

if TYPE_CHECKING:
    from routers.artifacts import Tensor
    from routers.learned import Floats

KNOBS = (3.0, 30.0)
"""How freely the classifier fits: scikit-learn's C."""
PRIOR = 10.0
"""Questions that a model's overall mean counts for in each kind."""
FEWEST_KINDS = 5
"""With fewer datasets, the kinds are groups of like prompts instead."""
GROUPS = 24
LEAST_VARIANCE = 1e-6
"""Rounding may bring it below 0."""
MANY_KINDS = 80


@dataclass(frozen=True, slots=True)
class Plan:
    """c kinds, m models. `meaning`: float32 (d, c), `worded`: float32 (wording.DIMENSIONS, c), `shift`: float32 (c,): the classifier.

    `table`, `spread`: float32 (c, m), mean scores by kind and how far off they may be. `kept`: bool (m,), the models that the plan keeps.
    """

    meaning: Floats
    worded: Floats
    shift: Floats
    table: Floats
    spread: Floats
    kept: Tensor
    squares: Floats = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """`squares`: what each kind's square scores are worth on average."""
        object.__setattr__(self, "squares", self.table**2 + self.spread**2)

    def kinds(self, prompts: Prompts) -> Floats:
        """Chances (n, c) of each kind."""
        logits: Floats = prompts.vectors @ self.meaning
        for row, signs in zip(logits, prompts.signs, strict=True):
            row += wording.weighed(signs, self.worded)
        return softmax(logits * SCALE + self.shift)

    def expect(self, prompts: Prompts) -> Expected:
        """The table's mean over the kinds that it may be; no opinion on models that the plan does not keep."""
        kinds = self.kinds(prompts)
        mean = kinds @ self.table
        variance = np.maximum(kinds @ self.squares - mean * mean, np.float32(LEAST_VARIANCE))
        return Expected(np.where(self.kept, mean, np.float32(np.nan)), np.sqrt(variance))

    def tensors(self) -> Mapping[str, Tensor]:
        classifier: dict[str, Tensor] = {"meaning": self.meaning, "worded": self.worded.astype(np.float16), "shift": self.shift}
        return {**classifier, "table": self.table, "spread": self.spread, "kept": self.kept.astype(np.uint8)}

    def settings(self) -> Mapping[str, object]:
        return {}


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a plan may need. `usd`: mean cost of a question. `billions`: parameters of all models that are kept. None: no bound."""

    usd: float | None = None
    billions: float | None = None


def fit(lessons: Lessons, knob: float, seed: int = 0, bounds: Bounds | None = None) -> Plan:
    """A classifier of kinds with C = `knob`, and the plan. Raises ValueError if no plan keeps within the bounds."""
    kinds = _kinds(lessons, seed)
    count = int(kinds.max()) + 1
    meaning, worded, shift = _classifier(lessons, kinds, count, knob)
    known = ~np.isnan(lessons.scores)
    weight, total = np.zeros((count, len(lessons.models))), np.zeros((count, len(lessons.models)))
    np.add.at(weight, kinds, known)
    np.add.at(total, kinds, np.where(known, lessons.scores, 0))
    table = (total + PRIOR * lessons.means) / (weight + PRIOR)
    spread = np.sqrt(table * (1 - table) / (weight + PRIOR))
    kept = np.ones(len(lessons.models), dtype=bool)
    if bounds is not None and (bounds.usd is not None or bounds.billions is not None):
        costs = np.stack([np.nan_to_num(np.nanmean(lessons.costs[kinds == kind], axis=0)) for kind in range(count)])
        shares = np.bincount(kinds, minlength=count) / len(kinds)
        serves = assign(table, costs, shares, lessons.cards, bounds.usd, bounds.billions)
        kept = np.isin(np.arange(len(lessons.models)), serves)
    return Plan(meaning, worded, shift, table.astype(np.float32), spread.astype(np.float32), kept)


def _kinds(lessons: Lessons, seed: int) -> Any:
    names = sorted(set(lessons.datasets))
    if FEWEST_KINDS <= len(names) <= MANY_KINDS:
        places = {name: place for place, name in enumerate(names)}
        return np.array([places[name] for name in lessons.datasets])
    groups = centroids(lessons.prompts.vectors, GROUPS, seed)
    _, kinds = np.unique(np.argmax(lessons.prompts.vectors @ groups.T, axis=1), return_inverse=True)
    return kinds


def _classifier(lessons: Lessons, kinds: Any, count: int, freedom: float) -> tuple[Floats, Floats, Floats]:
    from scipy.sparse import csr_matrix, hstack
    from sklearn.linear_model import LogisticRegression

    dimensions = lessons.prompts.vectors.shape[1]
    if count == 1:
        return np.zeros((dimensions, 1), np.float32), np.zeros((wording.DIMENSIONS, 1), np.float32), np.zeros(1, np.float32)
    rows = hstack([csr_matrix(lessons.prompts.vectors), sparse(lessons.prompts)]).tocsr() * SCALE
    found = LogisticRegression(C=freedom / float(SCALE) ** 2, max_iter=200, tol=1e-3).fit(rows, kinds)
    weights, shift = found.coef_.T, found.intercept_
    if count == 2:  # scikit-learn keeps one column of two
        weights, shift = np.concatenate([np.zeros_like(weights), weights], axis=1), np.array([0.0, shift[0]])
    worded = weights[dimensions:].astype(np.float16).astype(np.float32)  # as an artifact keeps it
    return weights[:dimensions].astype(np.float32), worded, shift.astype(np.float32)


def read(stored: Stored) -> Plan:
    """Raises BadArtifact."""
    meaning = stored.array("meaning", None, None)
    kinds, models = meaning.shape[1], len(stored.models)
    return Plan(
        meaning,
        stored.array("worded", wording.DIMENSIONS, kinds).astype(np.float32),
        stored.array("shift", kinds),
        stored.array("table", kinds, models),
        stored.array("spread", kinds, models),
        stored.array("kept", models).astype(bool),
    )


class TwoStep(LearnedScorer):
    """What kind of prompt it is, then each model's record on that kind. `artifact`: made by `pointsman train two_step`."""

    kind = "two_step"
    quick = True

    @classmethod
    def read(cls, stored: Stored) -> Plan:
        return read(stored)

"""Several routers asked together; how much each is believed depends on where the prompt lies. (Wolpert 1992; Jordan and Jacobs 1994)

The members are fitted on parts of the training questions and judged on the others, so that their weights are learned from expectations of
prompts that they had not seen; then they are fitted on all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from routers.artifacts import SETTINGS, BadArtifact
from routers.features import reading
from routers.learned import Expected, LearnedScorer, Lessons, Predictor, Prompts, Stored, logit, sigmoid
from routers.learning.centroids import centroids
from routers.learning.descent import Pace, descend, masked_error
from routers.scorers import clusters, gbm, graph, knn, latent, matrix_factorization, mlp, two_step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from routers.artifacts import Tensor
    from routers.learned import Floats, Rows

KNOBS = (8.0,)
"""Neighbourhoods that have weights of their own."""
FOLDS = 4
SHARPNESS = 12.0
PACE = Pace(epochs=60, rate=5e-3, decay=0.1)
"""The decay is of what a neighbourhood's weights differ from everybody's."""

Fit = Callable[[Lessons, float, int], Predictor]
Read = Callable[[Stored], Predictor]

MEMBERS: Mapping[str, tuple[Fit, Read, float]] = MappingProxyType(
    {
        "knn": (knn.fit, knn.read, 100.0),
        "clusters": (clusters.fit, clusters.read, 64.0),
        "two_step": (two_step.fit, two_step.read, 10.0),
        "matrix_factorization": (matrix_factorization.fit, matrix_factorization.read, 16.0),
        "latent": (latent.fit, latent.read, 8.0),
        "mlp": (mlp.fit, mlp.read, 256.0),
        "gbm": (gbm.fit, gbm.read, 7.0),
        "graph": (graph.fit, graph.read, 64.0),
    }
)
"""How each is fitted and read, and its knob."""
USUAL = ("two_step", "mlp", "graph")
"""Chosen on the train and validation splits of three pools: the others added nothing to these."""


@dataclass(frozen=True, slots=True)
class Blend:
    """j members. `centres`: float32 (c, d), the neighbourhoods. `everywhere`: (j,) and `weights`: (c, j), added up: logarithms of the
    members' weights. `slope`: (1,), `shift`: (m,): of the blended logit.
    """

    members: Mapping[str, Predictor]
    centres: Floats
    everywhere: Floats
    weights: Floats
    slope: Floats
    shift: Floats

    def expect(self, prompts: Prompts) -> Expected:
        found = [member.expect(prompts) for member in self.members.values()]
        means, spreads = np.stack([one.mean for one in found], axis=2), np.stack([one.spread for one in found], axis=2)
        weights = _softmax(_near(prompts.vectors, self.centres) @ self.weights + self.everywhere)
        mean = sigmoid(self.slope * np.einsum("nmj,nj->nm", logit(means), weights) + self.shift)
        apart = np.einsum("nmj,nj->nm", (means - mean[:, :, None]) ** 2, weights)
        own = np.einsum("nmj,nj->nm", spreads, weights)
        return Expected(mean, np.sqrt(apart + own**2).astype(np.float32))

    def tensors(self) -> Mapping[str, Tensor]:
        weights = {"everywhere": self.everywhere, "weights": self.weights, "slope": self.slope, "shift": self.shift}
        kept: dict[str, Tensor] = {"centres": self.centres, **weights}
        for name, member in self.members.items():
            for key, array in member.tensors().items():
                if key == "reading":
                    kept[key] = array  # all members share it
                else:
                    kept[f"{name}/{key}"] = array
        return kept

    def settings(self) -> Mapping[str, object]:
        return {"members": list(self.members), **{name: dict(member.settings()) for name, member in self.members.items()}}


def _near(vectors: Floats, centres: Floats) -> Floats:
    return _softmax(SHARPNESS * (vectors @ centres.T))


def _softmax(value: Floats) -> Floats:
    chances = np.exp(value - value.max(axis=-1, keepdims=True))
    found: Floats = (chances / chances.sum(axis=-1, keepdims=True)).astype(np.float32)
    return found


def fit(lessons: Lessons, knob: float, seed: int = 0, members: Sequence[str] = USUAL) -> Blend:
    """Members and their weights in `knob` neighbourhoods. Raises ValueError for a member that there is not."""
    unknown = [name for name in members if name not in MEMBERS]
    if unknown:
        raise ValueError(f"no member is named {', '.join(unknown)}; there are: {', '.join(MEMBERS)}")
    lessons = replace(lessons, reading=reading(lessons, seed))
    unseen = _unseen(lessons, seed, members)
    centres = centroids(lessons.prompts.vectors, int(knob), seed)
    start = _weigh(_near(lessons.prompts.vectors, centres), logit(unseen), lessons.scores, seed)
    fitted = {name: MEMBERS[name][0](lessons, MEMBERS[name][2], seed) for name in members}
    return Blend(fitted, centres, *start)


def _unseen(lessons: Lessons, seed: int, members: Sequence[str]) -> Floats:
    """(n, m, j): what each member expects of prompts that it was not fitted on."""
    parts = np.random.default_rng(seed).permutation(len(lessons)) % FOLDS
    found = np.empty((*lessons.scores.shape, len(members)), dtype=np.float32)
    for part in range(FOLDS):
        taken, left = lessons.take(np.flatnonzero(parts != part)), lessons.prompts.take(np.flatnonzero(parts == part))
        for column, name in enumerate(members):
            fit_one, _, knob = MEMBERS[name]
            found[parts == part, :, column] = fit_one(taken, knob, seed).expect(left).mean
    return found


def _weigh(near: Floats, logits: Floats, scores: Floats, seed: int) -> Sequence[Floats]:
    """Everybody's weights (j,), what each neighbourhood adds (c, j), slope (1,) and shift (m,) that make blended expectations come true."""
    members = logits.shape[2]
    start = [
        np.zeros(members, np.float32),
        np.zeros((near.shape[1], members), np.float32),
        np.ones(1, np.float32),
        np.zeros(scores.shape[1], np.float32),
    ]

    def gradients(now: Sequence[Floats], where: Rows) -> Sequence[Floats]:
        close, taken = near[where], logits[where]
        weights = _softmax(close @ now[1] + now[0])
        mixed = np.einsum("nmj,nj->nm", taken, weights)
        error = masked_error(sigmoid(now[2] * mixed + now[3]), scores[where])
        pull = now[2] * np.einsum("nm,nmj->nj", error, taken)
        back = weights * (pull - (pull * weights).sum(axis=1, keepdims=True))
        return back.sum(axis=0), close.T @ back, (error * mixed).sum(keepdims=True)[0], error.sum(axis=0)

    descend(start, gradients, len(scores), PACE, seed)
    return start


def read(stored: Stored) -> Blend:
    """Raises BadArtifact."""
    names = stored.names("members")
    unknown = [name for name in names if name not in MEMBERS]
    if unknown or not names:
        raise BadArtifact(stored.folder, f"{SETTINGS}: members {', '.join(unknown) or 'are none'}; known: {', '.join(MEMBERS)}")
    members = {name: MEMBERS[name][1](stored.part(name)) for name in names}
    centres = stored.array("centres", None, None)
    weights = stored.array("weights", len(centres), len(names))
    return Blend(
        members,
        centres,
        stored.array("everywhere", len(names)),
        weights,
        stored.array("slope", 1),
        stored.array("shift", len(stored.models)),
    )


class BlendScorer(LearnedScorer):
    """Several learned routers together, weighted by where the prompt lies. `artifact`: made by `pointsman train blend`."""

    kind = "blend"

    @classmethod
    def read(cls, stored: Stored) -> Blend:
        return read(stored)

"""Several routers asked together; how much each is believed depends on where the prompt lies. (Wolpert 1992; Jordan and Jacobs 1994)

The members are fitted on parts of the training questions and judged on the others, so that their weights are learned from expectations of
prompts that they had not seen; then they are fitted on all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from routers.artifacts import SETTINGS, BadArtifact
from routers.features import Reading, ReadTogether, reading, softmax
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
        "mlp": (mlp.fit, mlp.read, 64.0),
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
    members' weights. `slope`: (1,), `shift`: (m,): of the blended logit. `reading`: of those members that have one; it is the same one.
    """

    members: Mapping[str, Predictor]
    centres: Floats
    everywhere: Floats
    weights: Floats
    slope: Floats
    shift: Floats
    reading: Reading | None = field(default=None, kw_only=True)

    def expect(self, prompts: Prompts) -> Expected:
        asked = prompts if self.reading is None else ReadTogether.of(prompts, self.reading)
        means, spreads = np.empty((2, len(prompts), len(self.shift), len(self.members)), dtype=np.float32)
        for place, member in enumerate(self.members.values()):
            found = member.expect(asked)
            means[:, :, place], spreads[:, :, place] = found.mean, found.spread
        weights = softmax(_near(prompts.vectors, self.centres) @ self.weights + self.everywhere)[:, :, None]
        mean = sigmoid(self.slope * (logit(means) @ weights)[:, :, 0] + self.shift)
        means -= mean[:, :, None]
        means *= means  # how far each member is from what they say together, squared
        own = (spreads @ weights)[:, :, 0]
        return Expected(mean, np.sqrt((means @ weights)[:, :, 0] + own * own))

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
    return softmax(SHARPNESS * (vectors @ centres.T))


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
    return Blend(fitted, centres, *start, reading=lessons.reading)


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
        weights = softmax(close @ now[1] + now[0])
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
    members, reading = _sharing({name: MEMBERS[name][1](stored.part(name)) for name in names})
    centres = stored.array("centres", None, None)
    weights = stored.array("weights", len(centres), len(names))
    return Blend(
        members,
        centres,
        stored.array("everywhere", len(names)),
        weights,
        stored.array("slope", 1),
        stored.array("shift", len(stored.models)),
        reading=reading,
    )


def _sharing(members: Mapping[str, Predictor]) -> tuple[Mapping[str, Predictor], Reading | None]:
    """The members with one and the same reading for all whose readings are equal to the first one's, and that reading."""
    found: Reading | None = None
    shared = dict(members)
    for name, member in members.items():
        if isinstance(member, mlp.Mlps | gbm.Forest | graph.Graph | latent.Abilities | matrix_factorization.Factors):
            found = found or member.reading
            if np.array_equal(member.reading.topics, found.topics):
                shared[name] = replace(member, reading=found)
    return shared, found


class BlendScorer(LearnedScorer):
    """Several learned routers together, weighted by where the prompt lies. `artifact`: made by `pointsman train blend`."""

    kind = "blend"

    @classmethod
    def read(cls, stored: Stored) -> Blend:
        return read(stored)

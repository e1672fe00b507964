"""Prompts, words and models as a graph; what is known passes along its edges. (GraphRouter 2410.03834; AgentRouter 2510.05445)

Edges go from a prompt to its nearest prompts, to the signs that stand in it (rare words as entities), and through both to what models did
there. One round of messages gives a prompt: its neighbours' vectors and outcomes, its entities' outcomes. While training, a prompt's own
outcomes are taken out of all that it hears. A small net reads the messages; a new prompt is attached in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from routers import wording
from routers.artifacts import TENSORS, BadArtifact
from routers.features import WIDTH, Reading, reading, stored_reading
from routers.learned import Expected, LearnedScorer, Lessons, Prompts, Stored
from routers.learning.descent import Pace
from routers.learning.nets import Nets, Recipe, train
from routers.learning.nets import read as read_nets

if TYPE_CHECKING:
    from routers.artifacts import Tensor
    from routers.learned import Floats

KNOBS = (64.0,)
"""Width of the net that reads the messages."""
NEIGHBOURS = 30
PRIOR = 5.0
COMMON = 0.2
"""A sign that stands in a greater share of the prompts is no entity."""
PACE = Pace(epochs=15, rate=3e-3, decay=0.1)
DROPPED = 0.5
NETS = 3
MOST_PROMPTS = 20_000
"""All are looked at for each decision."""


@dataclass(frozen=True, slots=True)
class Known:
    """What a new prompt is attached to. `vectors`: float32 (n, d). `scores`: float32 (n, m), NaN unknown. `entities`: float32
    (wording.DIMENSIONS, m + 1): for each sign, the sum of (score - mean) over the prompts that have it, and how many these are.
    """

    vectors: Floats
    scores: Floats
    means: Floats
    entities: Floats

    def messages(self, rows: Floats, prompts: Prompts, own: Floats | None) -> Floats:
        """(n, messages) for prompts with these rows of features. `own`: (n, m), outcomes of prompts that are themselves in the graph."""
        found = []
        for place in range(len(prompts)):
            mine = None if own is None else own[place]
            near, outcomes = self._neighbours(prompts.vectors[place], mine is not None)
            found.append(np.concatenate([rows[place], near * 4, outcomes * 3, self._entities(prompts.signs[place], mine) * 3]))
        return np.stack(found).astype(np.float32)

    def _neighbours(self, vector: Floats, is_known: bool) -> tuple[Floats, Floats]:
        near = self.vectors @ vector
        count = min(NEIGHBOURS + is_known, len(near))
        places = np.argpartition(-near, count - 1)[:count]
        if is_known and count > 1:  # without the prompt itself
            places = places[near[places] < near[places].max()] if (near[places] < near[places].max()).any() else places[1:]
        scores = self.scores[places] - self.means
        known = ~np.isnan(scores)
        return self.vectors[places].mean(axis=0), np.where(known, scores, 0).sum(axis=0) / (known.sum(axis=0) + PRIOR)

    def _entities(self, signs: wording.Places, own: Floats | None) -> Floats:
        sums, counts = self.entities[signs, :-1], self.entities[signs, -1:]
        if own is not None:
            sums, counts = sums - np.nan_to_num(own - self.means), counts - 1
        entities = (counts[:, 0] > 0) & (counts[:, 0] < COMMON * len(self.vectors))
        if not entities.any():
            return np.zeros(len(self.means), dtype=np.float32)
        found: Floats = (sums[entities] / (counts[entities] + PRIOR)).mean(axis=0).astype(np.float32)
        return found


@dataclass(frozen=True, slots=True)
class Graph:
    """What is known, and nets that read the messages."""

    reading: Reading
    known: Known
    nets: Nets

    def expect(self, prompts: Prompts) -> Expected:
        return self.nets.expect(self.known.messages(self.reading.rows(prompts), prompts, None))

    def tensors(self) -> Mapping[str, Tensor]:
        known = {"vectors": self.known.vectors, "scores": self.known.scores, "means": self.known.means, "entities": self.known.entities}
        return {"reading": self.reading.table, **known, **self.nets.tensors()}

    def settings(self) -> Mapping[str, object]:
        return {}


def fit(lessons: Lessons, knob: float, seed: int = 0) -> Graph:
    """The graph of the lessons (of MOST_PROMPTS of them, drawn by the seed, if they are more), and nets that read its messages."""
    if len(lessons) > MOST_PROMPTS:
        lessons = lessons.take(np.sort(np.random.default_rng(seed).permutation(len(lessons))[:MOST_PROMPTS]))
    found = reading(lessons, seed)
    entities = np.zeros((wording.DIMENSIONS, len(lessons.models) + 1), dtype=np.float32)
    for signs, gain in zip(lessons.prompts.signs, np.nan_to_num(lessons.scores - lessons.means), strict=True):
        entities[signs, :-1] += gain
        entities[signs, -1] += 1
    known = Known(lessons.prompts.vectors, lessons.scores, lessons.means, entities)
    messages = known.messages(found.rows(lessons.prompts), lessons.prompts, lessons.scores)
    return Graph(found, known, train(messages, lessons.scores, len(lessons.models), Recipe(int(knob), DROPPED, NETS, PACE), seed))


def read(stored: Stored) -> Graph:
    """Raises BadArtifact."""
    models = len(stored.models)
    vectors, scores = stored.array("vectors", None, None), stored.raw("scores")
    if scores.shape != (len(vectors), models):
        raise BadArtifact(stored.folder, f"{TENSORS}: tensor 'scores' {scores.shape} does not fit {len(vectors)} vectors of its models")
    known = Known(vectors, scores, stored.array("means", models), stored.array("entities", wording.DIMENSIONS, models + 1))
    inputs = 2 * vectors.shape[1] + WIDTH + 2 * models
    return Graph(stored_reading(stored), known, read_nets(stored, inputs))


class GraphScorer(LearnedScorer):
    """What is known of like prompts and of the words in this one, passed along a graph. `artifact`: made by `pointsman train graph`."""

    kind = "graph"

    @classmethod
    def read(cls, stored: Stored) -> Graph:
        return read(stored)

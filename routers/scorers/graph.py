"""Prompts, words and models as a graph; what is known passes along its edges. (GraphRouter 2410.03834; AgentRouter 2510.05445)

Edges go from a prompt to its nearest prompts, to the signs that stand in it (rare words as entities), and through both to what models did
there. One round of messages gives a prompt: its neighbours' vectors and outcomes, its entities' outcomes. While training, a prompt's own
outcomes are taken out of all that it hears. A small net reads the messages; a new prompt is attached in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from routers import wording
from routers.artifacts import TENSORS, BadArtifact
from routers.features import WIDTH, Reading, reading, stored_reading
from routers.index import Index, index_of, nearest
from routers.learned import Expected, LearnedScorer, Lessons, Prompts, Stored
from routers.learning.descent import Pace
from routers.learning.nets import Nets, Recipe, train
from routers.learning.nets import read as read_nets

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from routers.artifacts import Tensor
    from routers.learned import Floats, Rows

KNOBS = (64.0,)
"""Width of the net that reads the messages."""
NEIGHBOURS = 30
PRIOR = 5.0
COMMON = 0.2
"""A sign that stands in a greater share of the prompts is no entity."""
PACE = Pace(epochs=15, rate=3e-3, decay=0.1)
DROPPED = 0.5
NETS = 3


@dataclass(frozen=True, slots=True)
class Known:
    """What a new prompt is attached to. `vectors`: float32 (n, d). `scores`: float32 (n, m), NaN unknown. `entities`: float32
    (wording.DIMENSIONS, m + 1): for each sign, the sum of (score - mean) over the prompts that have it, and how many these are.
    """

    vectors: Floats
    scores: Floats
    means: Floats
    entities: Floats
    index: Index | None = None
    gains: Floats = field(init=False, repr=False, compare=False)
    leanings: Floats = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """`gains`: float32 (n, 2 m), scores less means and a 1 for each; 0 if unknown. `leanings`: float32 (wording.DIMENSIONS, m + 1), for
        each entity its mean and a 1; 0 for a sign that is none.
        """
        known = ~np.isnan(self.scores)
        gains = np.where(known, self.scores - self.means, np.float32(0))
        object.__setattr__(self, "gains", np.concatenate([gains, known], axis=1, dtype=np.float32))
        counts = self.entities[:, -1:]
        means = np.append(self.entities[:, :-1] / (counts + PRIOR), np.ones_like(counts), axis=1)
        object.__setattr__(self, "leanings", np.where(self._are_entities(counts), means, np.float32(0)))

    def messages(self, rows: Floats, prompts: Prompts, own: Floats | None) -> Floats:
        """(n, messages) for prompts with these rows of features. `own`: (n, m), outcomes of prompts that are themselves in the graph."""
        width, models = rows.shape[1], len(self.means)
        outcomes, entities = -2 * models, -models
        found = np.empty((len(prompts), width + self.vectors.shape[1] + 2 * models), dtype=np.float32)
        found[:, :width] = rows
        for place, row in enumerate(found):
            near = self._near(prompts.vectors[place], own is not None)
            np.multiply(np.add.reduce(self.vectors.take(near, axis=0), axis=0), 4 / len(near), out=row[width:outcomes])
            total = np.add.reduce(self.gains.take(near, axis=0), axis=0)
            np.divide(total[:models], (total[models:] + PRIOR) / 3, out=row[outcomes:entities])
            signs = prompts.signs[place]
            np.multiply(self._leaning(signs) if own is None else self._entities(signs, own[place]), 3, out=row[entities:])
        return found

    def _near(self, vector: Floats, is_known: bool) -> Rows:
        """The places of a prompt's neighbours, without itself if it is in the graph."""
        places = nearest(self.vectors, self.index, vector, NEIGHBOURS + is_known)
        if is_known and len(places) > 1:
            return np.delete(places, np.argmax(self.vectors[places] @ vector))
        return places

    def _leaning(self, signs: wording.Places) -> Floats:
        """What the entities among these signs say of each model, on average (m,)."""
        total = np.add.reduce(self.leanings.take(signs, axis=0), axis=0)
        found: Floats = total[:-1] / max(total[-1], np.float32(1))
        return found

    def _entities(self, signs: wording.Places, own: Floats) -> Floats:
        """The same for a prompt that is in the graph, without its own outcomes."""
        sums, counts = self.entities[signs, :-1] - np.nan_to_num(own - self.means), self.entities[signs, -1:] - 1
        entities = self._are_entities(counts)[:, 0]
        if not entities.any():
            return np.zeros(len(self.means), dtype=np.float32)
        found: Floats = (sums[entities] / (counts[entities] + PRIOR)).mean(axis=0).astype(np.float32)
        return found

    def _are_entities(self, counts: Floats) -> NDArray[np.bool_]:
        return (counts > 0) & (counts < COMMON * len(self.vectors))


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
        index = {} if self.known.index is None else self.known.index.tensors()
        return {"reading": self.reading.table, **known, **index, **self.nets.tensors()}

    def settings(self) -> Mapping[str, object]:
        return {}


def fit(lessons: Lessons, knob: float, seed: int = 0) -> Graph:
    """The graph of the lessons, and nets that read its messages."""
    found, known = reading(lessons, seed), attached(lessons)
    messages = known.messages(found.rows(lessons.prompts), lessons.prompts, lessons.scores)
    targets = lessons.scores if lessons.aside is None else np.concatenate([lessons.scores, lessons.aside], axis=1)
    return Graph(found, known, train(messages, targets, len(lessons.models), Recipe(int(knob), DROPPED, NETS, PACE), seed))


def attached(lessons: Lessons) -> Known:
    """The prompts of lessons with their outcomes and entities. Raises ValueError if of a model no outcome is known."""
    index = index_of(lessons.prompts.vectors)
    lessons = lessons if index is None else lessons.take(index.order)
    entities = np.zeros((wording.DIMENSIONS, len(lessons.models) + 1), dtype=np.float32)
    for signs, gain in zip(lessons.prompts.signs, np.nan_to_num(lessons.scores - lessons.means), strict=True):
        entities[signs, :-1] += gain
        entities[signs, -1] += 1
    vectors = np.asarray(lessons.prompts.vectors, dtype=np.float32)
    return Known(vectors, lessons.scores, lessons.means, entities, None if index is None else index.over(vectors))


def read(stored: Stored) -> Graph:
    """Raises BadArtifact."""
    models = len(stored.models)
    vectors, scores = stored.array("vectors", None, None), stored.raw("scores")
    if scores.shape != (len(vectors), models):
        raise BadArtifact(stored.folder, f"{TENSORS}: tensor 'scores' {scores.shape} does not fit {len(vectors)} vectors of its models")
    entities = stored.array("entities", wording.DIMENSIONS, models + 1)
    known = Known(vectors, scores, stored.array("means", models), entities, Index.read(stored, vectors))
    inputs = 2 * vectors.shape[1] + WIDTH + 2 * models
    return Graph(stored_reading(stored), known, read_nets(stored, inputs))


class GraphScorer(LearnedScorer):
    """What is known of like prompts and of the words in this one, passed along a graph. `artifact`: made by `pointsman train graph`."""

    kind = "graph"

    @classmethod
    def read(cls, stored: Stored) -> Graph:
        return read(stored)

"""Which adapter of one base model: a global semantic router, and gates of each adapter's own over parts of the vector.

The global router knows the tasks that adapters were trained on (GLIDER, arXiv 2410.07172); the local gates look at parts of the vector,
each adapter with its own routing vectors, as heads of a multi-head router do (Multi-Head Adapter Routing, arXiv 2211.03831).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from routers.learned import Expected, LearnedScorer, Lessons, Prompts, Stored, logit, sigmoid
from routers.learning.centroids import centroids
from routers.learning.descent import Pace, descend, masked_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from routers.artifacts import Tensor
    from routers.learned import Floats, Rows

KNOBS = (16.0, 64.0)
"""Tasks that the global router tells apart."""
HEADS = 8
SHARPNESS = 15.0
PACE = Pace(epochs=20, rate=5e-3, decay=0.05)
SPREAD = 0.05


@dataclass(frozen=True, slots=True)
class Gates:
    """c tasks, m adapters, HEADS parts of p numbers. `tasks`: (c, d), unit length. `worth`: (c, m), what an adapter is worth in a task.
    `local`: (HEADS, p, m), routing vectors. `heads`: (HEADS, m), how much each part counts. `shift`: (m,). All float32.
    """

    tasks: Floats
    worth: Floats
    local: Floats
    heads: Floats
    shift: Floats

    def expect(self, prompts: Prompts) -> Expected:
        near, parts = _near(prompts.vectors, self.tasks), _parts(prompts.vectors, self.local.shape[1])
        gates = np.tanh(np.einsum("nhp,hpm->nhm", parts, self.local))
        mean = sigmoid(near @ self.worth + np.einsum("nhm,hm->nm", gates, self.heads) + self.shift)
        return Expected(mean, np.full_like(mean, SPREAD))

    def tensors(self) -> Mapping[str, Tensor]:
        return {"tasks": self.tasks, "worth": self.worth, "local": self.local, "heads": self.heads, "shift": self.shift}

    def settings(self) -> Mapping[str, object]:
        return {}


def _near(vectors: Floats, tasks: Floats) -> Floats:
    """Chances (n, c) of each task by similarity."""
    similar = SHARPNESS * (vectors @ tasks.T)
    chances = np.exp(similar - similar.max(axis=1, keepdims=True))
    found: Floats = (chances / chances.sum(axis=1, keepdims=True)).astype(np.float32)
    return found


def _parts(vectors: Floats, size: int) -> Floats:
    """(n, HEADS, p), each number about 1; what does not fill a part is left out."""
    found: Floats = vectors[:, : HEADS * size].reshape(len(vectors), HEADS, size) * np.float32(np.sqrt(vectors.shape[1]))
    return found


def fit(lessons: Lessons, knob: float, seed: int = 0) -> Gates:
    """Gates over `knob` tasks, all learned together but for the tasks, which come from the vectors alone."""
    rng = np.random.default_rng([seed, 5])
    models, size = len(lessons.models), lessons.prompts.vectors.shape[1] // HEADS
    tasks = centroids(lessons.prompts.vectors, int(knob), seed)
    near, parts = _near(lessons.prompts.vectors, tasks), _parts(lessons.prompts.vectors, size)
    local = rng.normal(0, 0.5 / np.sqrt(size), (HEADS, size, models)).astype(np.float32)
    start = [np.zeros((len(tasks), models), np.float32), local, np.zeros((HEADS, models), np.float32), logit(lessons.means)]

    def gradients(now: Sequence[Floats], where: Rows) -> Sequence[Floats]:
        close, taken = near[where], parts[where]
        gates = np.tanh(np.einsum("nhp,hpm->nhm", taken, now[1]))
        error = masked_error(sigmoid(close @ now[0] + np.einsum("nhm,hm->nm", gates, now[2]) + now[3]), lessons.scores[where])
        back = error[:, None, :] * now[2] * (1 - gates**2)
        return close.T @ error, np.einsum("nhp,nhm->hpm", taken, back), np.einsum("nhm,nm->hm", gates, error), error.sum(axis=0)

    descend(start, gradients, len(lessons), PACE, seed)
    return Gates(tasks, *start)


def read(stored: Stored) -> Gates:
    """Raises BadArtifact."""
    models = len(stored.models)
    tasks = stored.array("tasks", None, None)
    local = stored.array("local", HEADS, tasks.shape[1] // HEADS, models)
    worth, heads = stored.array("worth", len(tasks), models), stored.array("heads", HEADS, models)
    return Gates(tasks, worth, local, heads, stored.array("shift", models))


class Adapter(LearnedScorer):
    """Which LoRA adapter of one base model fits: tasks, and each adapter's own gates. `artifact`: made by `pointsman train adapter`."""

    kind = "adapter"

    @classmethod
    def read(cls, stored: Stored) -> Gates:
        return read(stored)

"""What is expected of models of which little is known: as much as of those that are known well, but for how much better or worse they are.

Of fifty outcomes a model's mean is known to 0.07, and nothing of which questions it is good at. But a question that is hard for others is
hard for it too. So its log-odds are the others', weighed, plus a shift, and only these few numbers are learned from its outcomes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from routers.learned import Expected, Stored, logit, sigmoid

if TYPE_CHECKING:
    from routers.artifacts import Tensor
    from routers.learned import Floats


@dataclass(frozen=True, slots=True)
class Kin:
    """g newcomers beside e models that are known. `centre`: float32 (e,), log-odds of these models' mean scores.

    `weights`: float32 (g, e + 1), the last of each is its shift. `doubt`: float32 (g, e + 1, e + 1), the weights' covariance.
    """

    centre: Floats
    weights: Floats
    doubt: Floats

    def __len__(self) -> int:
        return len(self.weights)

    def seen(self, known: Expected) -> Floats:
        """What a newcomer's log-odds are a weighted sum of: float32 (n, e + 1)."""
        return np.concatenate([logit(known.mean) - self.centre, np.ones((len(known.mean), 1), np.float32)], axis=1, dtype=np.float32)

    def expect(self, known: Expected) -> Expected:
        """Of the newcomers (n, g). `known`: of the others (n, e)."""
        rows = self.seen(known)
        mean = sigmoid(rows @ self.weights.T)
        doubt = np.sqrt(np.einsum("ni,gij,nj->ng", rows, self.doubt, rows))
        return Expected(mean, (doubt * mean * (1 - mean)).astype(np.float32))

    def joined(self, weights: Floats, doubt: Floats) -> Kin:
        """With one more newcomer."""
        return Kin(self.centre, np.concatenate([self.weights, weights[None]]), np.concatenate([self.doubt, doubt[None]]))

    def tensors(self) -> Mapping[str, Tensor]:
        return {"centre": self.centre, "weights": self.weights, "doubt": self.doubt}


def nobody(scores: Floats) -> Kin:
    """No newcomers yet. `scores` (e,): mean scores of the models that are known."""
    e = len(scores)
    return Kin(logit(scores), np.zeros((0, e + 1), np.float32), np.zeros((0, e + 1, e + 1), np.float32))


def read(stored: Stored, newcomers: int) -> Kin:
    """Raises BadArtifact. `stored.models`: those that are known."""
    e = len(stored.models)
    weights, doubt = stored.array("weights", newcomers, e + 1), stored.array("doubt", newcomers, e + 1, e + 1)
    return Kin(stored.array("centre", e), weights, doubt)

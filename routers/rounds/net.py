"""A small net of some hidden layers, in numpy: rows in, one or more numbers a row out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from routers.artifacts import Tensor
    from routers.learned import Stored

    Floats: TypeAlias = NDArray[np.float32]

BOUND = np.float32(5.0)
"""An input that is further from the mean than so many standard deviations counts as one that is so far."""


@dataclass(frozen=True, slots=True)
class Net:
    """`layers`: weights (d, h) and shifts (h,) in turn; between layers negative numbers become 0. `centre`, `scale` (d,): of the inputs."""

    layers: tuple[Floats, ...]
    centre: Floats
    scale: Floats

    @classmethod
    def fresh(cls, rows: Floats, widths: Sequence[int], outputs: int, seed: int) -> Self:
        """A net for rows like these (n, d), with hidden layers of these widths; at first it says 0 of everything."""
        rng = np.random.default_rng([seed, 7])
        sizes = [rows.shape[1], *widths]
        layers: list[Floats] = []
        for before, after in zip(sizes, widths, strict=False):
            layers += [rng.normal(0, np.sqrt(2 / before), (before, after)).astype(np.float32), np.zeros(after, np.float32)]
        layers += [np.zeros((sizes[-1], outputs), np.float32), np.zeros(outputs, np.float32)]
        spread = rows.std(axis=0, dtype=np.float64)
        scale = np.where(spread > 1e-6, 1 / np.maximum(spread, 1e-6), 0.0)
        return cls(tuple(layers), rows.mean(axis=0, dtype=np.float64).astype(np.float32), scale.astype(np.float32))

    def apply(self, rows: Floats) -> Floats:
        """(n, outputs) of rows (n, d)."""
        return self.hidden(rows)[-1]

    def hidden(self, rows: Floats) -> list[Floats]:
        """What each layer makes of rows (n, d): first the rows on the net's own scale, last what comes out."""
        found = [np.clip((rows - self.centre) * self.scale, -BOUND, BOUND)]
        for place in range(0, len(self.layers), 2):
            value = found[-1] @ self.layers[place] + self.layers[place + 1]
            found.append(value if place + 2 == len(self.layers) else np.maximum(value, 0))
        return found

    def gradients(self, made: Sequence[Floats], error: Floats) -> list[Floats]:
        """Of a loss by the layers. `made`: by `hidden`. `error` (n, outputs): the loss's gradient by what came out."""
        found: list[Floats] = []
        for place in range(len(self.layers) - 2, -1, -2):
            before = made[place // 2]
            found += [error.sum(axis=0), before.T @ error]
            if place:
                error = (error @ self.layers[place].T) * (before > 0)
        return found[::-1]

    def tensors(self, prefix: str) -> Mapping[str, Tensor]:
        kept = {f"{prefix}/{place}": array for place, array in enumerate(self.layers)}
        return {**kept, f"{prefix}/centre": self.centre, f"{prefix}/scale": self.scale}


def read(stored: Stored, prefix: str, inputs: int, outputs: int) -> Net:
    """Raises BadArtifact."""
    layers: list[Floats] = []
    width = inputs
    while not layers or f"{stored.prefix}{prefix}/{len(layers)}" in stored.arrays:
        weights = stored.array(f"{prefix}/{len(layers)}", width, None)
        width = weights.shape[1]
        layers += [weights, stored.array(f"{prefix}/{len(layers) + 1}", width)]
    stored.array(f"{prefix}/{len(layers) - 1}", outputs)
    return Net(tuple(layers), stored.array(f"{prefix}/centre", inputs), stored.array(f"{prefix}/scale", inputs))

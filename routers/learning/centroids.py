"""Groups of prompts: spherical k-means (Dhillon and Modha 2001), started as in k-means++ (Arthur and Vassilvitskii 2007)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from routers.learned import Floats

ROUNDS = 25


def centroids(vectors: Floats, count: int, seed: int) -> Floats:
    """At most `count` unit vectors (c, d), each the direction of the mean of the vectors (n, d) that are nearest to it."""
    rng = np.random.default_rng(seed)
    found = _start(vectors, min(count, len(vectors)), rng)
    for _ in range(ROUNDS):
        nearest = np.argmax(vectors @ found.T, axis=1)
        sums = np.zeros_like(found)
        np.add.at(sums, nearest, vectors)
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        moved = np.where(lengths > 1e-6, sums / np.maximum(lengths, 1e-6), found).astype(np.float32)
        if np.allclose(moved, found, atol=1e-6):
            break
        found = moved
    return found


def _start(vectors: Floats, count: int, rng: np.random.Generator) -> Floats:
    chosen = [int(rng.integers(len(vectors)))]
    far = 1 - vectors @ vectors[chosen[0]]
    while len(chosen) < count:
        chances = np.maximum(far, 0).astype(np.float64)
        if chances.sum() <= 1e-9:
            break
        chosen.append(int(rng.choice(len(vectors), p=chances / chances.sum())))
        far = np.minimum(far, 1 - vectors @ vectors[chosen[-1]])
    return vectors[chosen].copy()

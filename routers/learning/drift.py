"""Are the prompts of today still those that the router learned from?

Statistic: squared maximum mean discrepancy (Gretton et al. 2012, JMLR 13) of a Gaussian kernel by random Fourier features (Rahimi and
Recht 2007), with its level from permutations of the two samples. Beside it the population stability index over k-means cells, which says
where the change is: below 0.1 is commonly read as none, above 0.25 as large.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from routers.learning.figures import Floats

    Vectors: TypeAlias = NDArray[np.floating[Any]]

SEED = 20_263
MOST = 2_000
"""Vectors of a sample that are looked at; of more, as many drawn at random."""
FEATURES = 256
CELLS = 16
ROUNDS = 15
PERMUTATIONS = 200


def drift(train: Vectors, new: Vectors, alpha: float = 0.01, seed: int = SEED) -> dict[str, Any]:
    """Compares vectors that a router was trained on (n, d) with those of new prompts (k, d).

    Returns `statistic` (squared MMD), `level` (what it exceeds with probability `alpha` if nothing has changed), `alarm` (whether it does),
    `p_value`; `psi` over cells of both samples, `psi_level` of it, and `queries` [n, k] that were given. The same for the same
    arguments. Raises ValueError for fewer than 20 vectors in a sample, for other than finite numbers, for dimensions that differ, and for
    an `alpha` outside of [1 / PERMUTATIONS, 1).
    """
    _check(train, new, alpha)
    rng = np.random.default_rng(seed)
    old, now = _drawn(train, rng), _drawn(new, rng)
    both = np.concatenate([old, now])
    features = _features(both, rng)
    # Cells fitted to the old vectors alone would fit these better than any new ones, and see a change where there is none.
    cells = _nearest(both, _centres(both, rng))
    belongs = np.eye(CELLS)[cells]
    # One row a division of all vectors in two: the true one first, then permutations.
    parts = np.zeros((PERMUTATIONS + 1, len(both)))
    parts[0, : len(old)] = 1
    for place in range(1, len(parts)):
        parts[place, rng.permutation(len(both))[: len(old)]] = 1
    distances = _squared_distances(parts, features)
    stability = _stability(parts, belongs)
    statistic, level = float(distances[0]), float(np.quantile(distances[1:], 1 - alpha))
    return {
        "statistic": statistic,
        "level": level,
        "alarm": statistic > level,
        "p_value": float((1 + (distances[1:] >= distances[0]).sum()) / len(distances)),
        "psi": float(stability[0]),
        "psi_level": float(np.quantile(stability[1:], 1 - alpha)),
        "queries": [len(train), len(new)],
    }


def _check(train: Vectors, new: Vectors, alpha: float) -> None:
    for name, vectors in (("train", train), ("new", new)):
        if vectors.ndim != 2 or len(vectors) < 20:
            raise ValueError(f"{name}: at least 20 vectors are needed, not an array of shape {vectors.shape}")
        if not np.isfinite(vectors).all():
            raise ValueError(f"{name}: a vector holds numbers that are not finite")
    if train.shape[1] != new.shape[1]:
        raise ValueError(f"vectors of {train.shape[1]} and of {new.shape[1]} numbers cannot be compared")
    if not 1 / PERMUTATIONS <= alpha < 1:
        raise ValueError(f"alpha is {alpha}; it has to be at least {1 / PERMUTATIONS} and below 1")


def _drawn(vectors: Vectors, rng: np.random.Generator) -> Floats:
    if len(vectors) > MOST:
        vectors = vectors[np.sort(rng.choice(len(vectors), MOST, replace=False))]
    return vectors.astype(np.float64)


def _features(vectors: Floats, rng: np.random.Generator) -> Floats:
    """Random Fourier features (n, 2 FEATURES) of a Gaussian kernel as wide as the median distance between the vectors."""
    pairs = rng.integers(len(vectors), size=(2, 1000))
    between = np.linalg.norm(vectors[pairs[0]] - vectors[pairs[1]], axis=1)
    width = float(np.median(between[between > 0])) if (between > 0).any() else 1.0
    angles = vectors @ (rng.normal(size=(vectors.shape[1], FEATURES)) / width)
    found: Floats = np.concatenate([np.cos(angles), np.sin(angles)], axis=1) / FEATURES**0.5
    return found


def _squared_distances(parts: Floats, features: Floats) -> Floats:
    """Squared distance of the two mean features for each division (p, n) of the vectors."""
    size = parts.sum(axis=1, keepdims=True)
    inside = parts @ features
    outside = features.sum(axis=0) - inside
    found: Floats = ((inside / size - outside / (parts.shape[1] - size)) ** 2).sum(axis=1)
    return found


def _stability(parts: Floats, belongs: Floats) -> Floats:
    """Population stability index for each division; half a vector more in each cell, so that an empty one is not infinitely strange."""
    inside = parts @ belongs + 0.5
    outside = belongs.sum(axis=0) - parts @ belongs + 0.5
    p, q = inside / inside.sum(axis=1, keepdims=True), outside / outside.sum(axis=1, keepdims=True)
    found: Floats = ((p - q) * np.log(p / q)).sum(axis=1)
    return found


def _centres(vectors: Floats, rng: np.random.Generator) -> Floats:
    """CELLS centres by Lloyd's k-means; a cell that loses all its vectors keeps its centre."""
    centres = vectors[rng.choice(len(vectors), CELLS, replace=False)]
    for _ in range(ROUNDS):
        member = np.eye(CELLS)[_nearest(vectors, centres)]
        sizes = member.sum(axis=0)[:, None]
        centres = np.where(sizes > 0, member.T @ vectors / np.maximum(sizes, 1), centres)
    return centres


def _nearest(vectors: Floats, centres: Floats) -> NDArray[np.int64]:
    distances = (centres**2).sum(axis=1) - 2 * vectors @ centres.T
    found: NDArray[np.int64] = np.argmin(distances, axis=1)
    return found

"""Boosted trees as plain arrays: what LightGBM fitted, walked through by numpy. (LightGBM: Ke et al. 2017)"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from routers.artifacts import TENSORS, BadArtifact

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from routers.artifacts import Tensor
    from routers.learned import Floats, Stored

    Places = NDArray[np.int64]

LEAF = -1
PORTION = 2048


@dataclass(frozen=True, slots=True)
class Walk:
    """All nodes one after the other. `next`: of each two, where those go whose feature is at most the threshold, and the others; a leaf is
    followed by itself. `roots` (t,). `depth`: of the deepest tree.
    """

    feature: Places
    threshold: Floats
    next: Places
    value: NDArray[np.float64]
    roots: Places
    depth: int

    @classmethod
    def of(cls, trees: Trees) -> Self:
        count, size = trees.feature.shape
        roots = np.arange(count, dtype=np.int64) * size
        sides = [(side.astype(np.int64) + roots[:, None]).ravel() for side in (trees.left, trees.right)]
        feature = np.maximum(trees.feature, 0).astype(np.int64).ravel()
        depths = np.zeros((count, size), dtype=np.int64)
        for place in range(size):  # children stand behind their parents
            for side in (trees.left, trees.right):
                below = side[:, place].astype(np.int64)
                depths[np.arange(count), below] = np.where(below > place, depths[:, place] + 1, depths[np.arange(count), below])
        return cls(
            feature, trees.threshold.ravel(), np.stack(sides, axis=1).ravel(), trees.value.ravel().astype(float), roots, int(depths.max())
        )


@dataclass(frozen=True, slots=True)
class Trees:
    """t trees of at most s nodes, the root first. `feature`: int16 (t, s), LEAF for a leaf; `threshold`: float32 (t, s), go left if at
    most; `left`, `right`: int16 (t, s), a leaf's own place; `value`: float32 (t, s), what a leaf says. `inputs`: numbers in a row.
    """

    feature: Tensor
    threshold: Floats
    left: Tensor
    right: Tensor
    value: Floats
    inputs: int
    walk: Walk = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "walk", Walk.of(self))

    def apply(self, rows: Floats) -> Floats:
        """(n,): the sum of what the trees say of rows (n, inputs)."""
        return np.concatenate([self._apply(rows[at : at + PORTION]) for at in range(0, len(rows), PORTION)] or [np.zeros(0, np.float32)])

    def _apply(self, rows: Floats) -> Floats:
        walk, (count, width) = self.walk, rows.shape
        flat = rows.ravel()
        start = np.arange(count)[:, None] * width
        node = np.broadcast_to(walk.roots, (count, len(walk.roots)))
        for _ in range(walk.depth):
            node = walk.next.take(2 * node + (flat.take(start + walk.feature.take(node)) > walk.threshold.take(node)))
        found: Floats = walk.value.take(node).sum(axis=1).astype(np.float32)
        return found

    def tensors(self, prefix: str) -> Mapping[str, Tensor]:
        parts = {"feature": self.feature, "threshold": self.threshold, "left": self.left, "right": self.right, "value": self.value}
        return {f"{prefix}/{name}": array for name, array in parts.items()}

    @classmethod
    def of(cls, boosters: Sequence[Any], inputs: int) -> Self:
        """From fitted `lightgbm.Booster`s; what they say is averaged."""
        flat = [_flat(tree["tree_structure"]) for booster in boosters for tree in booster.dump_model()["tree_info"]]
        size = max(len(nodes) for nodes in flat)
        table = np.zeros((5, len(flat), size), dtype=np.float64)
        table[0] = LEAF
        table[2:4] = np.arange(size)
        for place, nodes in enumerate(flat):
            table[:, place, : len(nodes)] = np.array(nodes, dtype=np.float64).T
        feature, left, right = (table[row].astype(np.int16) for row in (0, 2, 3))
        threshold, value = (table[row].astype(np.float32) for row in (1, 4))
        return cls(feature, threshold, left, right, value / np.float32(len(boosters)), inputs)


def _flat(tree: dict[str, Any]) -> list[tuple[float, float, float, float, float]]:
    """A tree's nodes as (feature, threshold, left, right, value), the root first."""
    nodes: list[tuple[float, float, float, float, float]] = []

    def visit(node: dict[str, Any]) -> int:
        place = len(nodes)
        if "split_feature" not in node:
            nodes.append((LEAF, 0, place, place, node.get("leaf_value", 0.0)))
            return place
        nodes.append((0, 0, 0, 0, 0))
        left, right = visit(node["left_child"]), visit(node["right_child"])
        nodes[place] = (node["split_feature"], node["threshold"], left, right, 0)
        return place

    visit(tree)
    return nodes


def read(stored: Stored, prefix: str, inputs: int) -> Trees:
    """Raises BadArtifact."""
    feature = stored.array(f"{prefix}/feature", None, None)
    shape = feature.shape
    threshold, left, right, value = (stored.array(f"{prefix}/{name}", *shape) for name in ("threshold", "left", "right", "value"))
    places = np.arange(shape[1])
    is_leaf = feature == LEAF
    onward: NDArray[np.bool_] = (left > places) & (right > places) & (left < shape[1]) & (right < shape[1])
    itself = (left == places) & (right == places)
    if not np.where(is_leaf, itself, onward).all() or (feature < LEAF).any() or (feature >= inputs).any():
        raise BadArtifact(stored.folder, f"{TENSORS}: {stored.prefix}{prefix}: a node leads nowhere, back, or reads what there is not")
    return Trees(feature, threshold, left, right, value, inputs)

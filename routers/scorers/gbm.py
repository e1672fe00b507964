"""Boosted trees over meaning and wording, kept as plain arrays. (LightGBM: Ke et al. 2017)"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from routers.artifacts import SETTINGS, TENSORS, BadArtifact
from routers.features import Reading, reading, stored_reading
from routers.learned import Expected, LearnedScorer, Lessons, Prompts, Stored, sigmoid

if TYPE_CHECKING:
    from routers.artifacts import Tensor
    from routers.learned import Floats, Rows

KNOBS = (7.0, 15.0)
"""Leaves of a tree."""
TREES = 60
SPREAD = 0.05
"""What trees do not say themselves; brought to the right size on validation."""


@dataclass(frozen=True, slots=True)
class Walk:
    """A forest's nodes one after the other. `feature`, `threshold`, `value`: of each; `next`: of each two, where those go whose feature is
    at most the threshold, and the others; a leaf is followed by itself. `roots`: (t,).
    """

    feature: Rows
    threshold: Floats
    next: Rows
    value: Tensor
    roots: Rows

    @classmethod
    def of(cls, forest: Forest) -> Self:
        trees, size = forest.feature.shape
        roots = np.arange(trees, dtype=np.int64) * size
        is_leaf = forest.feature < 0
        itself = np.arange(size)
        follow = [np.where(is_leaf, itself, side) + roots[:, None] for side in (forest.left, forest.right)]
        feature = np.where(is_leaf, 0, forest.feature).astype(np.int64)
        return cls(feature.ravel(), forest.threshold.ravel(), np.stack(follow, axis=2).ravel(), forest.value.ravel().astype(float), roots)


@dataclass(frozen=True, slots=True)
class Forest:
    """t trees of at most s nodes, over all models. `feature`: int16 (t, s), -1 for a leaf; `threshold`: float32 (t, s), go left if at most;
    `left`, `right`: int16 (t, s); `value`: float32 (t, s), a leaf's share of the logit; `owner`: int16 (t,), whose tree it is.
    `depth`: of the deepest tree.
    """

    reading: Reading
    feature: Tensor
    threshold: Floats
    left: Tensor
    right: Tensor
    value: Floats
    owner: Tensor
    depth: int
    models: int
    walk: Walk = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "walk", Walk.of(self))

    def expect(self, prompts: Prompts) -> Expected:
        found = [self._logits(row) for row in self.reading.rows(prompts)]
        mean = sigmoid(np.stack(found))
        return Expected(mean, np.full_like(mean, SPREAD))

    def _logits(self, row: Floats) -> Tensor:
        """Of each model (m,), for a row (d,): all trees go down side by side."""
        walk, node = self.walk, self.walk.roots
        for _ in range(self.depth):
            node = walk.next.take(2 * node + (row.take(walk.feature.take(node)) > walk.threshold.take(node)))
        found: Tensor = np.bincount(self.owner, walk.value.take(node), self.models)
        return found

    def tensors(self) -> Mapping[str, Tensor]:
        nodes = {"feature": self.feature, "threshold": self.threshold, "left": self.left, "right": self.right, "value": self.value}
        return {"reading": self.reading.table, **nodes, "owner": self.owner}

    def settings(self) -> Mapping[str, object]:
        return {"depth": self.depth}


def fit(lessons: Lessons, knob: float, seed: int = 0) -> Forest:
    """Trees of `knob` leaves for each model, on the questions that it answered."""
    import lightgbm

    found = reading(lessons, seed)
    rows = found.rows(lessons.prompts)
    options = {
        "objective": "cross_entropy",
        "num_leaves": int(knob),
        "learning_rate": 0.1,
        "feature_fraction": 0.15,
        "bagging_fraction": 0.7,
        "bagging_freq": 1,
        "min_data_in_leaf": min(20, max(1, len(rows) // 10)),
        "lambda_l2": 5.0,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "verbose": -1,
    }
    trees: list[tuple[int, dict[str, Any]]] = []
    for model in range(len(lessons.models)):
        known = ~np.isnan(lessons.scores[:, model])
        data = lightgbm.Dataset(rows[known], lessons.scores[known, model], free_raw_data=True)
        booster = lightgbm.train(options, data, TREES)
        trees += [(model, tree["tree_structure"]) for tree in booster.dump_model()["tree_info"]]
    return _arrays(found, trees, len(lessons.models))


def _arrays(found: Reading, trees: list[tuple[int, dict[str, Any]]], models: int) -> Forest:
    flat = [_flat(tree) for _, tree in trees]
    size = max(len(nodes) for nodes, _ in flat)
    table = np.zeros((5, len(flat), size), dtype=np.float64)
    table[0] = -1
    for place, (nodes, _) in enumerate(flat):
        table[:, place, : len(nodes)] = np.array(nodes).T
    feature, left, right = (table[row].astype(np.int16) for row in (0, 2, 3))
    threshold, value = (table[row].astype(np.float32) for row in (1, 4))
    owner = np.array([model for model, _ in trees], dtype=np.int16)
    return Forest(found, feature, threshold, left, right, value, owner, max(depth for _, depth in flat), models)


def _flat(tree: dict[str, Any]) -> tuple[list[tuple[float, float, float, float, float]], int]:
    """A tree's nodes as (feature, threshold, left, right, value), the root first, and how deep it is."""
    nodes: list[tuple[float, float, float, float, float]] = []
    deepest = 0

    def visit(node: dict[str, Any], depth: int) -> int:
        nonlocal deepest
        deepest = max(deepest, depth)
        place = len(nodes)
        if "split_feature" not in node:
            nodes.append((-1, 0, 0, 0, node.get("leaf_value", 0.0)))
            return place
        nodes.append((0, 0, 0, 0, 0))
        left, right = visit(node["left_child"], depth + 1), visit(node["right_child"], depth + 1)
        nodes[place] = (node["split_feature"], node["threshold"], left, right, 0)
        return place

    visit(tree, 0)
    return nodes, deepest


def read(stored: Stored) -> Forest:
    """Raises BadArtifact."""
    feature = stored.array("feature", None, None)
    trees, size = feature.shape
    others = {name: stored.array(name, trees, size) for name in ("threshold", "left", "right", "value")}
    owner = stored.array("owner", trees)
    table = stored_reading(stored)
    found = Forest(table, feature, **others, owner=owner, depth=int(stored.number("depth", 0, 1000)), models=len(stored.models))
    inside = all(((array >= 0) & (array < size)).all() for array in (found.left, found.right))
    if not inside or (owner < 0).any() or (owner >= len(stored.models)).any() or (feature >= 10_000).any():
        raise BadArtifact(stored.folder, f"{TENSORS}: a node of a tree points outside of it, or a tree is no model's")
    if found.depth >= size + 1:
        raise BadArtifact(stored.folder, f"{SETTINGS}: depth is greater than the trees")
    return found


class Gbm(LearnedScorer):
    """Boosted trees over the prompt's meaning and wording. `artifact`: made by `pointsman train gbm`."""

    kind = "gbm"

    @classmethod
    def read(cls, stored: Stored) -> Forest:
        return read(stored)

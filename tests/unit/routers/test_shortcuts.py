"""What is worked out beforehand, or side by side, comes to the same as the plain way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from routers import wording
from routers.features import Reading, ReadTogether
from routers.learned import Prompts, Stored
from routers.scorers import blend
from routers.scorers.gbm import Forest
from routers.scorers.graph import COMMON, PRIOR, Known
from tests.trained import lessons

TEXTS = ("What is 2 + 2?", "Write a poem about rain.", "def f(x): return x")


@pytest.fixture
def reading() -> Reading:
    topics = np.random.default_rng(0).normal(size=(wording.DIMENSIONS, 8)).astype(np.float16)
    return Reading(topics.astype(np.float32))


@pytest.fixture
def prompts() -> Prompts:
    vectors = np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)
    return Prompts(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), TEXTS)


def test_rows_are_the_vector_and_the_wording_at_unit_length(reading: Reading, prompts: Prompts) -> None:
    found = reading.rows(prompts)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[:, :4], 4 * prompts.vectors, rtol=1e-6)
    for row, signs in zip(found, prompts.signs, strict=True):
        worded = reading.table[signs].astype(np.float64).sum(axis=0)
        np.testing.assert_allclose(row[4:], 4 * worded / np.linalg.norm(worded), atol=1e-5)


def test_prompts_that_are_read_together_are_read_once_by_each_reading(reading: Reading, prompts: Prompts) -> None:
    shared = ReadTogether.of(prompts, reading)
    first = reading.rows(shared)
    assert reading.rows(shared) is first
    assert shared.signs is prompts.signs
    np.testing.assert_array_equal(first, reading.rows(prompts))
    other = Reading(2 * reading.topics[:, ::-1])
    np.testing.assert_array_equal(other.rows(shared), other.rows(prompts))
    assert len(shared.take(np.array([1]))) == 1


def forest(reading: Reading, rng: np.random.Generator, trees: int, size: int) -> Forest:
    """Trees whose nodes point to later ones; some of them leaves at once."""
    feature = rng.integers(0, 12, size=(trees, size)).astype(np.int16)
    feature[rng.random((trees, size)) < 0.3] = -1
    feature[:, -1] = -1
    later = [rng.integers(np.arange(size) + 1, size + 1, size=(trees, size)).clip(max=size - 1).astype(np.int16) for _ in range(2)]
    threshold, value = (rng.normal(size=(trees, size)).astype(np.float32) for _ in range(2))
    owner = rng.integers(0, 3, size=trees).astype(np.int16)
    return Forest(reading, feature, threshold, later[0], later[1], value, owner, size, 3)


def by_hand(trees: Forest, row: Any) -> Any:
    found = np.zeros(trees.models)
    for tree, owner in enumerate(trees.owner.tolist()):
        node = 0
        while trees.feature[tree, node] >= 0:
            goes_left = row[trees.feature[tree, node]] <= trees.threshold[tree, node]
            node = (trees.left if goes_left else trees.right)[tree, node]
        found[owner] += trees.value[tree, node]
    return 1 / (1 + np.exp(-found))


def test_trees_gone_down_side_by_side_come_to_the_same_leaves(reading: Reading, prompts: Prompts) -> None:
    trees = forest(reading, np.random.default_rng(2), 40, 15)
    expected = [by_hand(trees, row) for row in reading.rows(prompts)]
    np.testing.assert_allclose(trees.expect(prompts).mean, expected, atol=1e-6)


def test_messages_are_what_neighbours_and_entities_say(prompts: Prompts) -> None:
    rng = np.random.default_rng(3)
    entities = np.zeros((wording.DIMENSIONS, 3), dtype=np.float32)
    for signs in prompts.signs[:2]:  # the third has no entity but those it shares
        entities[signs, 2] = rng.integers(0, 9, size=len(signs))
        entities[signs, :2] = rng.normal(size=(len(signs), 2)) * entities[signs, 2:]
    scores, means = rng.random((20, 2)).astype(np.float32), np.array([0.4, 0.6], dtype=np.float32)
    scores[rng.random((20, 2)) < 0.3] = np.nan
    known = Known(np.eye(20, 4, dtype=np.float32), scores, means, entities)  # so few that all are neighbours
    rows = np.ones((3, 1), np.float32)
    heard = known.messages(rows, prompts, None)
    outcomes = np.nansum(scores - means, axis=0) / ((~np.isnan(scores)).sum(axis=0) + PRIOR)
    for row, signs in zip(heard, prompts.signs, strict=True):
        kept = [sign for sign in signs.tolist() if 0 < entities[sign, 2] < COMMON * 20]
        leaning = [entities[sign, :2] / (entities[sign, 2] + PRIOR) for sign in kept] or [np.zeros(2)]
        expected = [[1], 4 * np.eye(20, 4).mean(axis=0), 3 * outcomes, 3 * np.mean(leaning, axis=0)]
        np.testing.assert_allclose(row, np.concatenate(expected), atol=1e-6)


def test_a_blend_reads_a_prompt_once_for_all_members(tmp_path: Path) -> None:
    """Fitted or read back, and to the same end as when each member reads for itself."""
    pytest.importorskip("lightgbm", reason="the extra `train` is not installed")
    rng = np.random.default_rng(4)
    vectors = rng.normal(size=(60, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    known = lessons(vectors, rng.integers(0, 2, size=(60, 2)), ("a", "b"), [f"{TEXTS[n % 3]} {n}" for n in range(60)])
    made = blend.fit(known, 2.0, 0, members=("mlp", "gbm"))
    tensors = {f"router/{name}": array for name, array in made.tensors().items()}
    again = blend.read(Stored(tmp_path, ("a", "b"), tensors, made.settings(), "router/"))
    for found in (made, again):
        assert all(getattr(member, "reading", None) is found.reading for member in found.members.values())
    alone = replace(made, reading=None).expect(known.prompts)
    np.testing.assert_allclose(made.expect(known.prompts).mean, alone.mean, atol=1e-6)
    np.testing.assert_allclose(again.expect(known.prompts).mean, alone.mean, atol=1e-6)

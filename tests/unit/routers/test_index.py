"""Lists of like vectors, against a look at all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from routers import artifacts
from routers.index import EXACT_ROWS, Index, index_of, nearest
from routers.learned import Prompts, Stored
from routers.scorers import graph, knn, prior
from tests.trained import lessons


def clouds(count: int, size: int, seed: int, many: int = 40) -> Any:
    """Vectors in clouds, as those of prompts are."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(many, size))
    vectors = (centres[rng.integers(many, size=count)] + 0.8 * rng.normal(size=(count, size))).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def shared(one: Any, other: Any) -> int:
    return len({*one.tolist()} & {*other.tolist()})


def stored(tensors: dict[str, Any]) -> Stored:
    return Stored(Path("made-up"), ("m0", "m1"), tensors, {"k": 10, "shrink": 0.0})


def evenly(count: int, size: int, seed: int) -> Any:
    """Vectors of which none are alike: the hardest there are for lists."""
    vectors = np.random.default_rng(seed).normal(size=(count, size)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize(("vectors", "k"), [(clouds(8_000, 32, 0), 50), (evenly(3_000, 32, 0), 20)])
def test_nearly_all_of_the_nearest_are_found(vectors: Any, k: int) -> None:
    index = Index.of(vectors)
    found = [shared(nearest(vectors, index, vector, k), nearest(vectors, None, vector, k)) for vector in vectors[:50]]
    assert sum(found) > 0.95 * k * 50


def test_an_index_is_the_same_each_time() -> None:
    vectors = clouds(3_000, 16, 1)
    one, other = Index.of(vectors), Index.of(vectors)
    np.testing.assert_array_equal(one.belongs, other.belongs)
    np.testing.assert_array_equal(one.centres, other.centres)


def test_vectors_that_lie_list_by_list_are_not_copied_and_are_found_at_their_places() -> None:
    vectors = clouds(3_000, 16, 2)
    index = Index.of(vectors)
    listed = vectors[index.order]
    again = index.over(listed)
    assert all(np.shares_memory(one, listed) for one in again.lists if len(one))
    assert not any(np.shares_memory(one, vectors) for one in index.lists)
    for vector in vectors[:20]:
        assert {*index.search(vector, 20).tolist()} == {*index.order[again.search(vector, 20)].tolist()}


@pytest.mark.parametrize("k", [1, 2_999, 3_000, 4_000])
def test_as_many_are_found_as_are_wanted_and_there(k: int) -> None:
    vectors = clouds(3_000, 16, 3)
    assert len(Index.of(vectors).search(vectors[0], k)) == min(k, 3_000)


def test_where_the_nearest_lists_are_short_further_ones_are_looked_through() -> None:
    vectors = np.concatenate([np.eye(8, dtype=np.float32)[[0]], clouds(3_000, 8, 4, many=1)])
    belongs = np.array([0] + [1] * 3_000, dtype=np.int32)
    centres = np.stack([vectors[0], vectors[1]] + [vectors[0]] * 28)
    found = Index.among(vectors, centres, belongs).search(vectors[0], 10)
    assert len(found) == 10
    assert 0 in found.tolist()


def test_few_vectors_have_no_index() -> None:
    assert index_of(np.eye(3, dtype=np.float32)) is None


def test_what_an_artifact_keeps_is_read_back() -> None:
    vectors = clouds(2_000, 16, 5)
    made = Index.of(vectors)
    read = Index.read(stored(dict(made.tensors())), vectors)
    assert read is not None
    assert read.search(vectors[7], 10).tolist() == made.search(vectors[7], 10).tolist()
    assert Index.read(stored({}), vectors) is None


def test_many_vectors_of_an_older_artifact_get_an_index_when_it_is_read() -> None:
    vectors = clouds(EXACT_ROWS + 1, 8, 6)
    read = Index.read(stored({"index": np.zeros(3, dtype=np.uint8)}), vectors)
    assert read is not None
    assert read.search(vectors[5], 1).tolist() == [5]


@pytest.mark.parametrize(
    "lists",
    [
        np.zeros(1_999, dtype=np.int32),
        np.zeros(2_000, dtype=np.float32),
        np.full(2_000, -1, dtype=np.int32),
        np.full(2_000, 45, dtype=np.int32),
    ],
)
def test_lists_of_other_vectors_are_refused(lists: Any) -> None:
    vectors = clouds(2_000, 16, 7)
    centres = Index.of(vectors).centres
    with pytest.raises(artifacts.BadArtifact, match="tensor 'lists'"):
        Index.read(stored({"centres": centres, "lists": lists}), vectors)


def test_outcomes_stay_with_their_vectors_when_these_are_listed() -> None:
    vectors = clouds(EXACT_ROWS + 1, 8, 8)
    scores = (vectors[:, :2] > 0).astype(np.float32)
    asked = Prompts(vectors[:30], ("a text",) * 30)
    learned = lessons(vectors, scores, ("m0", "m1"), ("a text",) * len(vectors))
    near = knn.fit(learned, 1)
    assert near.index is not None
    np.testing.assert_array_equal(near.expect(asked).mean, scores[:30])
    known = graph.attached(learned)
    np.testing.assert_array_equal(known.scores, (known.vectors[:, :2] > 0).astype(np.float32))
    newcomers = prior.fit(learned, 1)
    np.testing.assert_array_equal(newcomers.known.expect(asked).mean, scores[:30])
    assert len(newcomers.ease) == len(newcomers.kinds) == len(vectors)

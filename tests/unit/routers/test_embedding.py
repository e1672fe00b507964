"""The encoder computes what the published model computes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from routers.embedding import DIMENSIONS, END_CHARACTERS, MiniLM

REFERENCE = Path(__file__).with_name("minilm_reference.npz")
"""`texts` and `vectors`: by transformers and PyTorch in float32 from the published weights, mean of the last layer, unit length."""


@pytest.fixture(scope="module")
def encoder() -> MiniLM:
    return MiniLM()


def test_vectors_are_those_of_the_reference(encoder: MiniLM) -> None:
    with np.load(REFERENCE, allow_pickle=False) as reference:
        texts, expected = [str(text) for text in reference["texts"]], reference["vectors"]
    cosines = np.sum(encoder.encode(texts) * expected, axis=1)
    # Weights in 8 bits cost a little, and most where there are few words to average over.
    assert cosines.min() > 0.998
    assert np.median(cosines) > 0.9995


def test_shapes_and_lengths(encoder: MiniLM) -> None:
    vectors = encoder.encode(["", "one", "two words", "\ud800 lone", "\x00", "字" * 300, "a" * 10_000])
    assert vectors.shape == (7, DIMENSIONS)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    assert encoder.encode([]).shape == (0, DIMENSIONS)


def test_a_vector_does_not_depend_on_its_neighbours(encoder: MiniLM) -> None:
    texts = ["short", "a rather longer text about the weather in autumn", "short"]
    together = encoder.encode(texts)
    np.testing.assert_array_equal(together, np.concatenate([encoder.encode([text]) for text in texts]))
    np.testing.assert_array_equal(together[0], together[2])


def test_of_a_long_text_both_ends_count(encoder: MiniLM) -> None:
    middle = "and then it rained again " * 400
    plain, head, tail, inner = encoder.encode(
        [
            middle,
            f"Prove this theorem about prime numbers. {middle}",
            f"{middle} Prove this theorem about prime numbers.",
            f"{middle} Prove this theorem about prime numbers. {middle}",
        ]
    )
    assert len(middle) > 2 * END_CHARACTERS
    assert float(plain @ head) < 0.99
    assert float(plain @ tail) < 0.99
    assert float(plain @ inner) > 0.9999


def test_it_can_be_called_from_several_threads(encoder: MiniLM) -> None:
    texts = [f"question number {n}" for n in range(40)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda text: encoder.encode([text])[0], texts))
    np.testing.assert_array_equal(np.stack(found), encoder.encode(texts))


def test_its_hash_is_always_the_same(encoder: MiniLM) -> None:
    assert encoder.hash == MiniLM().hash
    assert len(encoder.hash) == 64

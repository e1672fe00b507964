"""MiniLM computes what the published model computes, the table comes near it, and both keep the same promises."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from routers import embedding, static_embedding
from routers.api import Encoder
from routers.embedding import ENCODERS, LOW_BITS, MiniLM
from routers.encoder_files import BadEncoderFile, intact
from routers.static_embedding import TABLE, Static, packed, unpacked

if TYPE_CHECKING:
    from routers.api import Embeddings

REFERENCE = Path(__file__).with_name("minilm_reference.npz")
"""`texts` and `vectors`: by transformers and PyTorch in float32 from the published weights, mean of the last layer, unit length; of a
text of more than 254 word pieces, the model read the first and the last 127."""


@pytest.fixture(scope="module")
def minilm() -> MiniLM:
    return MiniLM()


@pytest.fixture(scope="module")
def static() -> Static:
    return Static()


@pytest.fixture(params=list(ENCODERS))
def encoder(request: pytest.FixtureRequest) -> Encoder:
    found: Encoder = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="module")
def reference() -> tuple[list[str], Embeddings]:
    with np.load(REFERENCE, allow_pickle=False) as stored:
        return [str(text) for text in stored["texts"]], stored["vectors"]


def test_minilm_is_the_reference_within_a_thousandth(minilm: MiniLM, reference: tuple[list[str], Embeddings]) -> None:
    texts, expected = reference
    cosines = np.sum(minilm.encode(texts) * expected, axis=1)
    assert len(texts) >= 60
    assert {text: cosine for text, cosine in zip(texts, cosines, strict=True) if cosine < 0.9993} == {}
    assert np.median(cosines) > 0.9998


def test_the_table_finds_alike_what_minilm_finds_alike(static: Static, reference: tuple[list[str], Embeddings]) -> None:
    texts, expected = reference
    english = [row for row, text in enumerate(texts) if text.isascii() and len(text.split()) > 3]
    above = np.triu_indices(len(english), 1)
    vectors = static.encode([texts[row] for row in english])
    ours, theirs = (vectors @ vectors.T)[above], (expected[english] @ expected[english].T)[above]
    assert np.corrcoef(ours, theirs)[0, 1] > 0.4


def test_the_table_knows_what_belongs_together(static: Static) -> None:
    code, function, soup = static.encode(["Fix the bug in my Python code", "This Python function has an error", "A recipe for tomato soup"])
    assert float(code @ function) > 0.3 + float(code @ soup)


@pytest.mark.parametrize(("name", "dimensions"), [("minilm", embedding.DIMENSIONS), ("static", static_embedding.DIMENSIONS)])
def test_shapes_and_lengths(name: str, dimensions: int, request: pytest.FixtureRequest) -> None:
    encoder: Encoder = request.getfixturevalue(name)
    vectors = encoder.encode(["", "one", "two words", "\ud800 lone \udfff", "\x00", "字" * 300, "a" * 10_000, "word " * 200_000, "[MASK]"])
    assert vectors.shape == (9, dimensions)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    assert encoder.encode([]).shape == (0, dimensions)
    assert encoder.name == name


def test_texts_without_words_are_all_the_same(encoder: Encoder) -> None:
    empty, blank, control = encoder.encode(["", " \n\t", "\x00"])
    np.testing.assert_array_equal(empty, blank)
    np.testing.assert_array_equal(empty, control)


def test_a_vector_does_not_depend_on_its_neighbours(encoder: Encoder) -> None:
    texts = ["short", "a rather longer text about the weather in autumn", "short"]
    together = encoder.encode(texts)
    np.testing.assert_array_equal(together, np.concatenate([encoder.encode([text]) for text in texts]))
    np.testing.assert_array_equal(together[0], together[2])


def test_of_a_long_text_both_ends_count(encoder: Encoder) -> None:
    middle = "and then it rained again " * 400
    plain, head, tail, inner = encoder.encode(
        [
            middle,
            f"Prove this theorem about prime numbers. {middle}",
            f"{middle} Prove this theorem about prime numbers.",
            f"{middle} Prove this theorem about prime numbers. {middle}",
        ]
    )
    assert float(plain @ head) < 0.99
    assert float(plain @ tail) < 0.99
    assert float(plain @ inner) > 0.9999


def test_it_can_be_called_from_several_threads(encoder: Encoder) -> None:
    texts = [f"question number {n}, unforeseeably" for n in range(40)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda text: encoder.encode([text])[0], texts))
    np.testing.assert_array_equal(np.stack(found), encoder.encode(texts))


def test_hashes_tell_encoders_apart_and_stay(minilm: MiniLM, static: Static) -> None:
    assert static.hash == Static().hash
    assert minilm.hash == MiniLM().hash
    assert minilm.hash != static.hash
    assert len(minilm.hash) == len(static.hash) == 64


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (lambda folder: MiniLM(folder=folder), LOW_BITS),
        (lambda folder: MiniLM(folder=folder), "wordpieces.txt"),
        (lambda folder: Static(folder=folder), TABLE),
        (lambda folder: Static(folder=folder), "wordpieces.txt"),
    ],
)
def test_a_file_that_was_changed_or_lost_is_refused(build: Callable[[Path], Encoder], name: str, tmp_path: Path) -> None:
    for file in (LOW_BITS, TABLE, "wordpieces.txt"):
        shutil.copy(str(files("routers").joinpath(file)), tmp_path / file)
    build(tmp_path)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(BadEncoderFile, match=rf"^{name} is not the file"):
        build(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(BadEncoderFile, match=rf"^{name} of an encoder cannot be read"):
        build(tmp_path)


def test_a_file_is_read_only_if_it_is_the_one(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    right = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert intact(tmp_path / "a", right) == b"abc"
    with pytest.raises(BadEncoderFile):
        intact(tmp_path / "a", right[::-1])


def test_a_packed_table_keeps_each_number_to_half_a_step() -> None:
    rows = np.random.default_rng(3).standard_normal((50, 8)).astype(np.float32)
    rows[7] = 0
    steps = np.abs(rows).max(axis=1, keepdims=True) / 7
    assert np.all(np.abs(unpacked(packed(rows)) - rows) <= 0.51 * steps)

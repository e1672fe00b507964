"""The places of a text's signs, against a slow and plain count of the same: artifacts that were trained rely on them."""

from __future__ import annotations

import itertools
import math
import re
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routers import wording

TOKEN = re.compile(r"[^\W\d_]+|\d|[^\w\s]")


def by_hand(text: str) -> list[int]:
    head, tail = text[:600], text[-300:] if len(text) > 600 else ""
    signs = []
    for mark, part in (("h", head), ("t", tail)):
        words = [token.lower() for token in TOKEN.findall(part)]
        signs += [f"{mark}w{word}" for word in words]
        signs += [f"{mark}b{first} {second}" for first, second in itertools.pairwise(words)]
    begin, end = TOKEN.findall(head), TOKEN.findall(text[-60:])
    signs += [f"first {' '.join(begin[:1])}", f"start {' '.join(begin[:2])}", f"last {' '.join(end[-1:])}", f"end {' '.join(end[-2:])}"]
    signs.append("lower" if text[:1].islower() else "upper" if text[:1].isupper() else "other")
    signs += [f"length {int(2 * math.log2(len(text) + 1))}", f"lines {min(8, text.count(chr(10)))}"]
    return sorted({zlib.crc32(sign.encode("utf-8", "replace")) % 16384 for sign in signs})


ENGLISH = st.text(st.sampled_from("abcdeXYZ    01_.,;(\n\t\x1c\x00"), max_size=1500)
ANY = st.text(st.one_of(st.sampled_from("ab  \n.İΣς中é½_"), st.characters()), max_size=1500)


@given(st.one_of(ENGLISH, ANY))
@settings(deadline=None)
def test_places_are_those_of_a_plain_count(text: str) -> None:
    found = wording.places(text)
    assert found.dtype == np.int32
    assert found.tolist() == by_hand(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n ",
        "_" * 700,
        "\ud800 lone surrogate " * 30,
        "a" * 64 + " " + "b" * 64 + " end. " * 100,
        "a" * 65 + " one is too long. " * 100,
        "word " * 119 + "tail" + " " * 500,  # all of it in the head
        " " * 700 + "word " * 30,  # all of it in the tail
    ],
)
def test_odd_texts(text: str) -> None:
    assert wording.places(text).tolist() == by_hand(text)


def test_places_stay_the_same_from_version_to_version() -> None:
    kept = [390, 1313, 3192, 3661, 4891, 5316, 5494, 5627, 6149, 8092, 8278, 10298, 11111, 11512, 13854, 15669, 15675]
    assert wording.places("What is 2 + 2?").tolist() == kept


def test_weighed_is_the_sum_over_the_root_of_how_many() -> None:
    table = np.random.default_rng(0).normal(size=(wording.DIMENSIONS, 5)).astype(np.float32)
    where = wording.places("Write a poem about rain.")
    np.testing.assert_allclose(wording.weighed(where, table), table[where].sum(axis=0) / math.sqrt(len(where)), rtol=1e-6)

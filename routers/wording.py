"""What a prompt looks like, beside what it means: words, pairs of words, how it begins and ends, as places in a hashed table.

An embedding says what a text is about; whether it is a bare question, a list of words or a program stands in its wording.
"""

from __future__ import annotations

import itertools
import math
import re
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Places: TypeAlias = NDArray[np.int32]

DIMENSIONS = 1 << 14
HEAD, TAIL = 600, 300
"""Characters looked at, at either end."""

_TOKEN = re.compile(r"[^\W\d_]+|\d|[^\w\s]")


def places(text: str) -> Places:
    """The places of a text's signs in a table of DIMENSIONS, int32, ascending, each once; at least three."""
    found = {zlib.crc32(sign.encode("utf-8", "replace")) % DIMENSIONS for sign in _signs(text)}
    return np.array(sorted(found), dtype=np.int32)


def weighed(where: Places, table: NDArray[np.floating]) -> NDArray[np.float32]:
    """Signs at these places, each counted 1 / sqrt(how many there are), times a table (DIMENSIONS, d): float32 (d,)."""
    found: NDArray[np.float32] = table[where].sum(axis=0, dtype=np.float32) / np.float32(math.sqrt(len(where)))
    return found


def matrix(rows: Sequence[Places]) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.int64]]:
    """The signs of n texts as a sparse matrix (n, DIMENSIONS) in CSR form: values, columns, and where each row begins (n + 1,)."""
    values = [np.full(len(row), 1 / math.sqrt(len(row)), dtype=np.float32) for row in rows]
    starts = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    return np.concatenate(values), np.concatenate(list(rows)), starts


def _signs(text: str) -> list[str]:
    head, tail = text[:HEAD], text[-TAIL:] if len(text) > HEAD else ""
    tokens = _TOKEN.findall(head)
    found = []
    for mark, words in (("h", [token.lower() for token in tokens]), ("t", [token.lower() for token in _TOKEN.findall(tail)])):
        found += [f"{mark}w{word}" for word in words]
        found += [f"{mark}b{first} {second}" for first, second in itertools.pairwise(words)]
    end = _TOKEN.findall(text[-60:])
    found += [f"first {' '.join(tokens[:1])}", f"start {' '.join(tokens[:2])}", f"last {' '.join(end[-1:])}", f"end {' '.join(end[-2:])}"]
    found.append("lower" if text[:1].islower() else "upper" if text[:1].isupper() else "other")
    found += [f"length {int(2 * math.log2(len(text) + 1))}", f"lines {min(8, text.count(chr(10)))}"]
    return found

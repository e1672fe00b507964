"""What a prompt looks like, beside what it means: words, pairs of words, how it begins and ends, as places in a hashed table.

An embedding says what a text is about; whether it is a bare question, a list of words or a program stands in its wording.
A sign's place is its CRC-32; trained artifacts rely on it. CRCs are linear over bits, so those of all words of a long ASCII text are
computed side by side from what each byte adds to them; other texts are read word by word, to the same end.
"""

from __future__ import annotations

import itertools
import math
import re
import zlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Places: TypeAlias = NDArray[np.int32]
    Crcs: TypeAlias = NDArray[np.uint32]

DIMENSIONS = 1 << 14
HEAD, TAIL = 600, 300
"""Characters looked at, at either end."""
LONG = 400
"""Characters from which on it is faster to read words side by side."""
LONGEST = 64
"""Letters of a word that can be read side by side with others."""
STEPS = 2 + 2 * LONGEST
"""Bytes of a pair of such words and the space between them, and one more."""

_TOKEN = re.compile(r"[^\W\d_]+|\d|[^\w\s]")
_LETTER, _SINGLE = 1, 2
_ONES = 0xFFFFFFFF
"""What a CRC-32 starts from, and what is added to it at its end."""


def places(text: str) -> Places:
    """The places of a text's signs in a table of DIMENSIONS, int32, ascending, each once; at least three."""
    head, tail = text[:HEAD], text[-TAIL:] if len(text) > HEAD else ""
    frame = [zlib.crc32(sign.encode("utf-8", "replace")) % DIMENSIONS for sign in _frame(text, head)]
    words = _side_by_side(head, tail) if len(text) >= LONG and head.isascii() and tail.isascii() else None
    if words is None:
        found = {crc % DIMENSIONS for crc in itertools.chain(_one_by_one("h", head), _one_by_one("t", tail))}
        return np.array(sorted(found.union(frame)), dtype=np.int32)
    taken = np.zeros(DIMENSIONS, dtype=np.bool_)
    taken[words % np.uint32(DIMENSIONS)] = True
    taken[frame] = True
    return np.flatnonzero(taken).astype(np.int32)


def weighed(where: Places, table: NDArray[np.floating]) -> NDArray[np.float32]:
    """Signs at these places, each counted 1 / sqrt(how many there are), times a table (DIMENSIONS, d): float32 (d,)."""
    found: NDArray[np.float32] = np.add.reduce(table.take(where, axis=0), axis=0, dtype=np.float32) / np.float32(math.sqrt(len(where)))
    return found


def matrix(rows: Sequence[Places]) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.int64]]:
    """The signs of n texts as a sparse matrix (n, DIMENSIONS) in CSR form: values, columns, and where each row begins (n + 1,)."""
    values = [np.full(len(row), 1 / math.sqrt(len(row)), dtype=np.float32) for row in rows]
    starts = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    return np.concatenate(values), np.concatenate(list(rows)), starts


def _frame(text: str, head: str) -> list[str]:
    """The signs of how a text begins and ends, and of its size."""
    begin, end = [token[0] for token in itertools.islice(_TOKEN.finditer(head), 2)], _TOKEN.findall(text[-60:])
    found = [f"first {' '.join(begin[:1])}", f"start {' '.join(begin)}", f"last {' '.join(end[-1:])}", f"end {' '.join(end[-2:])}"]
    found.append("lower" if text[:1].islower() else "upper" if text[:1].isupper() else "other")
    return [*found, f"length {int(2 * math.log2(len(text) + 1))}", f"lines {min(8, text.count(chr(10)))}"]


def _one_by_one(mark: str, text: str) -> Iterable[int]:
    """The CRCs of "w" and each word, and of "b" and each pair of words with a space between, after a mark; words are in lower case."""
    words = "\n".join(_TOKEN.findall(text)).lower().encode("utf-8", "replace").split(b"\n")
    if words == [b""]:
        return ()
    word, pair = (itertools.repeat(zlib.crc32(f"{mark}{kind}".encode())) for kind in "wb")
    seconds = [b" " + second for second in words[1:]]
    return itertools.chain(map(zlib.crc32, words, word), map(zlib.crc32, seconds, map(zlib.crc32, words, pair)))


def _side_by_side(head: str, tail: str) -> Crcs | None:
    """What `_one_by_one` finds in two ASCII texts with the marks h and t; None if there is no word, or one of more than LONGEST letters."""
    text = np.frombuffer(f"{head} {tail}".lower().encode(), dtype=np.uint8)
    kinds = _KINDS.take(text)
    begins = kinds > 0
    begins[1:] &= (kinds[1:] & kinds[:-1]) != _LETTER
    kept = np.flatnonzero(kinds)
    starts = np.flatnonzero(begins.take(kept))
    ends = np.append(starts[1:], len(kept))
    sizes = ends - starts
    if not len(sizes) or sizes.max() > LONGEST:
        return None
    after = ends.repeat(sizes) - np.arange(1, len(kept) + 1)  # how many bytes of the same word follow each byte
    where = after * 256 + text.take(kept)
    words = np.bitwise_xor.reduceat(_ADDS.take(where), starts)
    later = np.append(sizes[1:] + 1, 0)
    firsts = np.bitwise_xor.reduceat(_ADDS.take(where + 256 * later.repeat(sizes)), starts)[:-1]
    pairs = firsts ^ _SPACES.take(sizes[1:]) ^ words[1:]
    in_tail = STEPS * (kept.take(starts) > len(head))
    pairs ^= _PAIRS.take((sizes + later + in_tail)[:-1])
    words ^= _WORDS.take(sizes + in_tail)
    return np.concatenate([words, pairs[in_tail[1:] == in_tail[:-1]]])


def _kinds() -> NDArray[np.uint8]:
    """Of each ASCII character whether it is a letter, a token by itself, or neither (0)."""
    kinds = [(_LETTER if chr(code).isalpha() else _SINGLE) if _TOKEN.match(chr(code)) else 0 for code in range(128)]
    return np.array(kinds, dtype=np.uint8)


def _adds() -> Crcs:
    """(STEPS, 256): what a byte adds to a CRC if so many bytes follow it."""
    step = np.array([zlib.crc32(bytes([byte]), _ONES) ^ _ONES for byte in range(256)], dtype=np.uint32)
    found = [step]
    while len(found) < STEPS:
        found.append((found[-1] >> 8) ^ step[found[-1] & 255])
    return np.stack(found)


def _marks(kind: str) -> Crcs:
    """(2 * STEPS,): the CRCs of the marks h and t of a kind if so many zero bytes follow them."""
    return np.array([zlib.crc32(f"{mark}{kind}".encode() + bytes(size)) for mark in "ht" for size in range(STEPS)], dtype=np.uint32)


_KINDS, _ADDS = _kinds(), _adds()
_SPACES = _ADDS[:, ord(" ")].copy()
_WORDS, _PAIRS = _marks("w"), _marks("b")

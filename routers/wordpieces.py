"""Texts as word pieces, as BERT's uncased tokeniser cuts them, in a fraction of the time that a general tokeniser needs.

A text is cleaned (no control characters, no accents, lower case), cut at white space, at punctuation and around CJK characters, and
each word is covered from its start with the longest pieces that the vocabulary has. Source: Devlin et al., "BERT" (2019), and its
reference code `tokenization.py`; tests/unit/routers/test_wordpieces.py holds it against the library `tokenizers`. There are two
differences: the model's marks, such as "[MASK]", are plain text here, and characters that are newer than a library's tables of Unicode
may be cut otherwise.

`wordpieces.txt` is the vocabulary of all-MiniLM-L6-v2 (Apache-2.0, as published with it), one piece a line.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib.resources.abc import Traversable

import regex

from routers.encoder_files import intact

VOCABULARY_SHA256 = "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"
UNKNOWN = 100
"""The piece that stands for a word which the vocabulary cannot cover."""
WORD_CHARACTERS = 100
"""A longer word is unknown as a whole."""
BEGINNING = 3
"""Characters of a piece by which it is known how long the longest one is that begins with them: few beginnings have long pieces."""
REMEMBERED_WORDS = 10_000
"""Words of several pieces whose pieces are kept, the least recently met one dropped first: people use the same rare words again."""

_ASCII_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_ASCII_WORDS = re.compile(r"[a-z0-9]+|[!-/:-@\[-`{-~]")
_CJK = (
    "\u4e00-\u9fff\u3400-\u4dbf\U00020000-\U0002a6df\U0002a700-\U0002b73f\U0002b740-\U0002b81f\U0002b920-\U0002ceaf"
    "\uf900-\ufaff\U0002f800-\U0002fa1f"
)
_DROPPED = regex.compile(r"[[\p{Cc}\p{Cf}\p{Co}\p{Mn}\ufffd]--[\t\n\r]]", regex.VERSION1)
_WORDS = regex.compile(rf"[{_CJK}]|[\p{{P}}!-/:-@\[-`{{-~]|[^\s\p{{P}}!-/:-@\[-`{{-~{_CJK}]+", regex.VERSION1)


def vocabulary(folder: Traversable) -> dict[str, int]:
    """piece -> its number, 30,522 of them; those that continue a word begin with "##". Raises BadEncoderFile."""
    content = intact(folder.joinpath("wordpieces.txt"), VOCABULARY_SHA256)
    return {piece: number for number, piece in enumerate(content.decode().rstrip("\n").split("\n"))}


def ends(text: str, characters: int) -> str:
    """The text if it has at most twice so many characters, else its two ends with a space between; as what UTF-8 can say."""
    shown = text if len(text) <= 2 * characters else f"{text[:characters]} {text[-characters:]}"
    return shown if shown.isascii() else shown.encode("utf-8", "replace").decode("utf-8")


class WordPieces:
    """Cuts texts by a vocabulary. Safe to call from several threads."""

    def __init__(self, pieces: Mapping[str, int]) -> None:
        self._starts = {piece: number for piece, number in pieces.items() if not piece.startswith("##")}
        self._continuations = {piece[2:]: number for piece, number in pieces.items() if piece.startswith("##")}
        self._first_reach, self._next_reach = _reach(self._starts), _reach(self._continuations)
        self._covered = lru_cache(REMEMBERED_WORDS)(self._cover)

    def cut(self, text: str) -> list[int]:
        """The numbers of the text's pieces, in order, without the model's marks; [] if there is no word in it."""
        starts = self._starts
        pieces: list[int] = []
        for word in words(text):
            number = starts.get(word)
            if number is None:
                pieces += self._covered(word)
            else:
                pieces.append(number)
        return pieces

    def remembered(self) -> int:
        """How many words' pieces are kept: at most REMEMBERED_WORDS."""
        return self._covered.cache_info().currsize

    def _cover(self, word: str) -> tuple[int, ...]:
        if len(word) > WORD_CHARACTERS:
            return (UNKNOWN,)
        known, reach, pieces, start = self._starts, self._first_reach, [], 0
        while start < len(word):
            for end in range(min(len(word), start + reach.get(word[start : start + BEGINNING], BEGINNING - 1)), start, -1):
                number = known.get(word[start:end])
                if number is not None:
                    pieces.append(number)
                    break
            else:
                return (UNKNOWN,)
            known, reach, start = self._continuations, self._next_reach, end
        return tuple(pieces)


def _reach(pieces: Iterable[str]) -> dict[str, int]:
    """Beginning -> the length of the longest piece that begins so. A piece that is shorter than a beginning is in none."""
    found: dict[str, int] = {}
    for piece in pieces:
        if len(piece) >= BEGINNING:
            found[piece[:BEGINNING]] = max(len(piece), found.get(piece[:BEGINNING], 0))
    return found


def words(text: str) -> list[str]:
    """The cleaned words and marks of punctuation, in order."""
    if text.isascii():
        return _ASCII_WORDS.findall((text if text.isprintable() else _ASCII_CONTROLS.sub("", text)).lower())
    spread = unicodedata.normalize("NFD", text)
    # Python would write a sigma that ends a word in another way than one within it.
    found: list[str] = _WORDS.findall(_DROPPED.sub("", spread).replace("Σ", "σ").lower())
    return found

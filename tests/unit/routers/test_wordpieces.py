"""Word pieces are those of the library that the model's authors use."""

from __future__ import annotations

import unicodedata
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import BertWordPieceTokenizer

from routers.wordpieces import UNKNOWN, WORD_CHARACTERS, WordPieces, ends, vocabulary, words

PIECES = vocabulary(files("routers"))
MARKS = ("[CLS]", "[SEP]", "[MASK]", "[PAD]", "[UNK]")
SETTLED = "".join(chr(point) for point in range(0x3000) if unicodedata.ucd_3_2_0.category(chr(point)) not in ("Cn", "Cs"))
"""Characters on which all tables of Unicode agree."""


@pytest.fixture(scope="module")
def ours() -> WordPieces:
    return WordPieces(PIECES)


@pytest.fixture(scope="module")
def library() -> BertWordPieceTokenizer:
    return BertWordPieceTokenizer(PIECES)


def theirs(library: BertWordPieceTokenizer, text: str) -> list[int]:
    ids: list[int] = library.encode(text, add_special_tokens=False).ids
    return ids


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \t\r\n ",
        "What's the unaffordability of antidisestablishmentarianism?",
        "naïve café RÉSUMÉ Ångström e\u0301 İstanbul Straße ǅ",
        "ΣΊΣΥΦΟΣ and ὈΔΥΣΣΕΎΣ",
        "東京は日本の首都です。東京abc",
        "오늘 날씨가 어때요?",
        "नमस्ते, आप कैसे हैं",
        "zero\u200bwidth half\u00adhyphen no\u00a0break a\x00b\x07c\x1fd \ufffd \ue000",
        "🙂👩‍👩‍👧 — “quotes” ‘and’ … ‰ ≠ ™ ½",
        "def f(x):\n\treturn x**2  # $%^&*()_+{}|:<>?~`",
        "x" * WORD_CHARACTERS + " " + "x" * (WORD_CHARACTERS + 1),
        "\U00020000\U0002b920\uf900",
    ],
)
def test_they_are_those_of_the_library(ours: WordPieces, library: BertWordPieceTokenizer, text: str) -> None:
    assert ours.cut(text) == theirs(library, text)


@given(st.text(st.one_of(st.characters(max_codepoint=0x7F), st.sampled_from(SETTLED)), max_size=60))
def test_so_they_are_for_any_text(ours: WordPieces, library: BertWordPieceTokenizer, text: str) -> None:
    if not any(mark in text for mark in MARKS):
        assert ours.cut(text) == theirs(library, text)


def test_the_marks_of_the_model_are_plain_text(ours: WordPieces) -> None:
    numbers = {PIECES[mark] for mark in MARKS}
    assert not numbers & set(ours.cut(" ".join(MARKS)))


def test_a_word_that_no_pieces_cover_is_unknown_as_a_whole(ours: WordPieces) -> None:
    assert ours.cut("dog🙂") == [UNKNOWN]
    assert words("dog🙂") == ["dog🙂"]


def test_what_it_remembers_is_bounded() -> None:
    ours = WordPieces(PIECES)
    first = ours.cut("qzxjv0")
    for number in range(12_000):
        ours.cut(f"qzxjv{number}")
    assert ours.remembered() == 10_000
    assert ours.cut("qzxjv0") == first


def test_of_a_long_text_both_ends_are_shown() -> None:
    assert ends("abcdef", 3) == "abcdef"
    assert ends("abcdefg", 3) == "abc efg"
    assert ends("a\ud800b", 3) == "a?b"

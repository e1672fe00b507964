"""The policy's tags are read the same however the text is cut, and nobody else can write them."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routers.planners.router_r1.grammar import TAGS, Broken, Final, Move, Parser, Piece, Search, complete, neutral, read

GOOD: list[tuple[str, Move]] = [
    ("<think>hm</think>\n<search>small: What is 2 < 3?</search>", Search("small", "What is 2 < 3?")),
    ("<answer>42</answer>", Final("42")),
    ("  <think>a</think><think>b</think> <answer> x <b>y</b> </answer> trailing", Final("x <b>y</b>")),
    ("<search>qwen-7b : a: b</search>", Search("qwen-7b", "a: b")),
    ("<think></think><answer>a </ans wer></answer>", Final("a </ans wer>")),
]
BAD = [
    "",
    "42",
    "<think>hm</think> well <answer>4</answer>",
    "<think>hm",
    "<think>hm</think>",
    "<answer>4",
    "<answer> </answer>",
    "<search>small</search>",
    "<search>: what?</search>",
    "<search>small:</search>",
    "<search>a: <answer>b</answer></search>",
    "<information>it is 4</information><answer>4</answer>",
    "<think><information>it is 4</information></think><answer>4</answer>",
    "</think><answer>4</answer>",
    "<Answer>4</Answer>",
    "< answer>4</answer>",
    "<ans",
]


@pytest.mark.parametrize(("text", "move"), GOOD)
def test_moves_are_read(text: str, move: Move) -> None:
    assert read(text) == move


@pytest.mark.parametrize("text", BAD)
def test_what_keeps_to_no_grammar_is_broken(text: str) -> None:
    assert isinstance(read(text), Broken)


@pytest.mark.parametrize("text", [*(text for text, _ in GOOD), *BAD])
def test_every_split_point_gives_the_same(text: str) -> None:
    whole = _joined(Parser(), [text])
    for first in range(len(text) + 1):
        for second in range(first, len(text) + 1):
            assert _joined(Parser(), [text[:first], text[first:second], text[second:]]) == whole


@given(
    st.lists(st.sampled_from([*(f"<{t}>" for t in TAGS), *(f"</{t}>" for t in TAGS), "<", "/", "s", "a: b", " ", "\n"]), max_size=12),
    st.data(),
)
def test_any_text_cut_anywhere_gives_the_same(parts: list[str], data: st.DataObject) -> None:
    text = "".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    places = [0, *cuts, len(text)]
    pieces = [text[start:end] for start, end in pairwise(places)]
    assert _joined(Parser(), pieces) == _joined(Parser(), [text])


def test_pieces_come_as_soon_as_they_are_certain() -> None:
    parser = Parser()
    assert parser.feed("<think>one") == [Piece("think", "one")]
    assert parser.feed(" two</th") == [Piece("think", " two")]
    assert parser.feed("ink><answer>4") == [Piece("answer", "4")]
    assert parser.move is None
    assert parser.feed("2</answer>more") == [Piece("answer", "2")]
    assert parser.move == Final("42")
    assert parser.feed("<search>a: b</search>") == []


@pytest.mark.parametrize(
    ("text", "finish", "completed"),
    [
        ("<think>a</think><search>b: c", "stop", "<think>a</think><search>b: c</search>"),
        ("<answer>b", None, "<answer>b</answer>"),
        ("<answer>b", "length", "<answer>b"),
        ("<think>a", "stop", "<think>a"),
        ("<answer>b</answer> and <search>", "stop", "<answer>b</answer>"),
        ("words", "stop", "words"),
    ],
)
def test_the_stop_text_is_put_back(text: str, finish: str | None, completed: str) -> None:
    assert complete(text, finish) == completed


LOOKS = [
    "<search>",
    "</ANSWER >",
    "< / information>",
    "<\u200bthink>",
    "<se\u00adarch>",
    "＜answer＞",
    '<search model="x">',
    "<information",
    "<<search>>",
]


@pytest.mark.parametrize("text", LOOKS)
def test_what_looks_like_a_tag_is_none_afterwards(text: str) -> None:
    assert "<" not in neutral(text).replace("<‹", "") or text == "<<search>>"
    assert "‹" in neutral(text)


@pytest.mark.parametrize("text", ["1 < 2 > 0", "<b>bold</b>", "<searching>", "a <- b", "<thinker>", "if x<answers: pass"])
def test_other_brackets_stay(text: str) -> None:
    assert neutral(text) == text


@given(
    st.lists(st.sampled_from(["<", ">", "/", " ", "\u200b", "think", "SEARCH", "answer", "information", "x", "＜", *LOOKS]), max_size=14)
)
def test_no_injection_survives(parts: list[str]) -> None:
    text = neutral("".join(parts))
    bare = "".join(text.split()).replace("\u200b", "").replace("\u00ad", "").lower()
    for tag in TAGS:
        assert f"<{tag}>" not in bare
        assert f"</{tag}>" not in bare
    assert neutral(text) == text
    assert len(text) == len("".join(parts))


def _joined(parser: Parser, pieces: list[str]) -> tuple[list[tuple[str, str]], Move]:
    """The text of each stretch of pieces of one kind, and the move."""
    found: list[list[str]] = []
    for piece in (one for text in pieces for one in parser.feed(text)):
        if found and found[-1][0] == piece.kind:
            found[-1][1] += piece.text
        else:
            found.append([piece.kind, piece.text])
    return [(kind, text) for kind, text in found], parser.end()

"""What an answer comes down to, so that answers can be counted: a letter, a number, or a short text.

`point` is for answers of which one will be given: it reads them with care, and tells numbers that look alike from those that are. `vote` is
for counting: of many recorded answers, or where only sameness matters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import regex

from routers.learning.grading.choice import chosen
from routers.learning.grading.numbers import final
from routers.learning.grading.texts import plain

Form = Literal["auto", "choice", "number", "text"]
LETTERS = "ABCDEFGHIJ"
"""The options that a question may have where nobody says how many."""
SHORT = 200
"""Characters of the longest text that is compared as it stands; a longer one is no vote."""
SHORT_NUMBER = 40
LONGEST_VOTE = 80
"""Characters of a text that is still counted as a vote; two longer ones are hardly ever equal."""
CLOSE = Fraction(1, 10**6)
"""Numbers whose difference is at most this share of the larger one are the same."""

_SAYS = regex.compile(r"(?i)(?:####|\\boxed|\banswer\s{0,3}(?:is|:|=)|\bresult\s{0,3}(?:is|:|=))")
_PHRASE = regex.compile(r"(?i)(?:####|\b(?:final\s)?answer\s{0,3}(?:is|:|=))[\s*_:]*(?P<rest>[^\n]{1,200})")
_PAPER = regex.compile(r"^(?:the|a|an)\s+|[\"'“”‘’`*_.,;:!?()\[\]]+")
_SPACE = regex.compile(r"\s+")
_OPTION = regex.compile(r"^[ \t>*_-]{0,8}\(?([A-Z])[.):][*_]{0,2}\s", regex.MULTILINE)
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, slots=True)
class Point:
    """What an answer settles on. `text`: the letter, the number or the words, in one spelling of many.

    `values`: what a number may mean ("1,234" is one thing in London and another in Berlin). `unit`: "" if it has none.
    """

    kind: Literal["choice", "number", "text"]
    text: str
    values: tuple[Fraction, ...] = ()
    unit: str = ""


def options(question: str) -> str:
    """The letters of a question's options, such as "ABCD"; empty if it offers none. They begin with A and leave none out."""
    found = set(_OPTION.findall(question))
    count = next((place for place, letter in enumerate(ALPHABET) if letter not in found), len(ALPHABET))
    return ALPHABET[:count] if count > 1 else ""


def offered(question: str) -> tuple[str, ...]:
    """The options themselves, in the order of their letters, as `options` finds these. Where a letter stands twice, the later one counts,
    since options stand at the end.
    """
    letters = options(question)
    marks = [mark for mark in _OPTION.finditer(question) if mark[1] in letters]
    ends = [*(mark.start() for mark in marks), len(question)][1:]
    found = {mark[1]: question[mark.end() : end].strip() for mark, end in zip(marks, ends, strict=True)}
    return tuple(found[letter] for letter in letters)


def vote(answer: str, letters: str = "") -> str | None:
    """What an answer is counted as; None if it commits itself to nothing that could be counted.

    `letters`: of the question's options; if there are any, a letter is the only vote. Else it is the number that the text ends in; without
    one a short text is itself, but for case, white space and marks around it.
    """
    if letters:
        return chosen(answer, letters)
    text = plain(answer)
    number = final(answer)
    if number is not None:
        return str(number.values[0]) + ("%" if number.percent else "")
    return text if 0 < len(text) <= LONGEST_VOTE else None


def point(answer: str, form: Form = "auto", letters: str = "") -> Point | None:
    """What an answer settles on; None if it settles on nothing that could be compared.

    `letters`: those of the question's options, as `options` finds them. `auto`: a letter where the question has options, or
    where the answer names one as its choice; else a number that is said to be the answer, or is nearly all of it; else a short text.
    """
    if form == "choice" or (form == "auto" and letters):
        return _choice(answer, letters or LETTERS)
    if form == "number":
        return _number(answer)
    if form == "text":
        return _text(answer)
    found = _choice(answer, LETTERS)
    if found is None and (_SAYS.search(answer) or len(answer.strip()) <= SHORT_NUMBER):
        found = _number(answer)
    return found or _text(answer)


def alike(a: Point | None, b: Point | None) -> bool:
    """Whether two answers come down to the same. What settles on nothing is like nothing, not even itself.

    A number with a unit is like one without; a percentage is like its fraction.
    """
    if a is None or b is None or a.kind != b.kind:
        return False
    if a.kind != "number":
        return a.text == b.text
    if a.unit != b.unit and "%" in (a.unit, b.unit):
        percent, other = (a, b) if a.unit == "%" else (b, a)
        return other.unit == "" and any(_close(p / 100, o) or _close(p, o) for p in percent.values for o in other.values)
    if a.unit and b.unit and a.unit != b.unit:
        return False
    return any(_close(x, y) for x in a.values for y in b.values)


def groups(points: Sequence[Point | None]) -> list[list[int]]:
    """Places of like answers, in the order in which the first of each came. An answer that settles on nothing is in no group."""
    found: list[list[int]] = []
    for place, one in enumerate(points):
        if one is None:
            continue
        for group in found:
            if alike(points[group[0]], one):
                group.append(place)
                break
        else:
            found.append([place])
    return found


def _choice(answer: str, letters: str) -> Point | None:
    letter = chosen(answer, letters)
    return None if letter is None else Point("choice", letter)


def _number(answer: str) -> Point | None:
    written = final(answer)
    return None if written is None else Point("number", str(written.values[0]), written.values, written.unit)


def _text(answer: str) -> Point | None:
    said = [match["rest"] for match in _PHRASE.finditer(answer)]
    whole = said[-1] if said else answer.strip()
    if len(whole) > SHORT:
        return None
    words = _SPACE.sub(" ", _PAPER.sub("", plain(whole))).strip()
    return Point("text", words) if words else None


def _close(a: Fraction, b: Fraction) -> bool:
    return abs(a - b) <= CLOSE * max(abs(a), abs(b))

"""What an answer is counted as where several are compared: the letter of an option, a number, or a short text."""

from __future__ import annotations

import regex

from routers.learning.grading.choice import chosen
from routers.learning.grading.numbers import final
from routers.learning.grading.texts import plain

LONGEST_TEXT = 80
"""Characters of a text that is still counted as a vote; two longer ones are hardly ever equal."""
_OPTION = regex.compile(r"^[ \t>*_-]{0,8}\(?([A-Z])[.):][*_]{0,2}\s", regex.MULTILINE)
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def options(question: str) -> str:
    """The letters of a question's options, such as "ABCD"; empty if it offers none. They begin with A and leave none out."""
    found = set(_OPTION.findall(question))
    count = next((place for place, letter in enumerate(_ALPHABET) if letter not in found), len(_ALPHABET))
    return _ALPHABET[:count] if count > 1 else ""


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
    return text if 0 < len(text) <= LONGEST_TEXT else None

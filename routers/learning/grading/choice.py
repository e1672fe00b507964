"""The grader `choice`: which letter did the answer settle on?"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

import regex

from routers.learning.grading.texts import LONGEST

LONGEST_ALONE = 40
_ANSWER = r"(?:answers?|antwort(?:en)?|lösung|réponses?|respuestas?|答案|正确答案|उत्तर|जवाब)"
_IS = r"(?:(?:is|are|would be|must be|ist|lautet|wäre|est|serait|es|sería)(?!\p{Latin})|是|为|選|选|है)"
_OPEN = r"""[\s:：=＝*_`"'“‘「$]*"""
_BECAUSE = r"(?:because|since|as|for|is|and|but|weil|da|denn|und|car|parce|puisque|et|porque|ya|pues|y)"
# "A cat" and "I think" begin a sentence; the letters alone do not.
_NO_WORD = rf"(?![\p{{L}}\p{{M}}\p{{Nd}}'’])(?!(?<=[AI])[ ]+(?!{_BECAUSE}\b)\p{{Ll}})"
_BARE = rf"(?P<letter>[A-Z]){_NO_WORD}"
_HELD = r"[(\[（]\s*(?P<held>[A-Za-z])\s*[)\]）]"
_LOWER = r"(?P<lower>[a-z])(?=\s*[)*_`.]*\s*$|\))"

_BOXED = regex.compile(r"\\boxed\s*\{\s*(?:\\(?:text|mathrm|mathbf|textbf)\s*\{)?\s*\(?(?P<letter>[A-Za-z])\)?[\s.}]*\}")
_PHRASE = regex.compile(
    rf"(?i:{_ANSWER})(?:\s(?i:option|choice|letter|opción|correcta|correcte))?{_OPEN}(?i:{_IS})?{_OPEN}"
    rf"(?i:(?:option|choice|letter|opción|buchstabe|lettre|विकल्प|选项)\s)?{_OPEN}(?:{_HELD}|{_BARE}|{_LOWER})",
    regex.MULTILINE,
)
_CORRECT = regex.compile(
    rf"(?<![\p{{L}}\p{{M}}])[(\[*_]{{0,3}}(?P<letter>[A-Z])[)\]*_]{{0,3}}\s?(?i:{_IS})\s?(?i:the\s|die\s|la\s|le\s)?"
    r"(?i:correct[ea]?|right|richtig|korrekt|juste|bonne|正确|सही)"
)
_BOLD = regex.compile(r"(?:\*\*|__)\s?\(?(?P<letter>[A-Z])\s?[).:]?\s?(?:\*\*|__)")
_BOLD_OPTION = regex.compile(r"(?:\*\*|__)\s?\(?(?P<letter>[A-Z])\s?[).:](?=[^*_\n]{0,200}(?:\*\*|__))")
_OPTION = regex.compile(r"(?i:option|choice|opción|विकल्प|选项)\s?\(?(?P<letter>[A-Z])(?![\p{L}\p{M}])")
_IN_BRACKETS = regex.compile(r"(?<![\p{L}\p{M}\d])[(\[（](?P<letter>[A-Z])[)\]）]")
_LISTED = regex.compile(r"^[ \t>*_-]{0,12}\(?(?P<letter>[A-Z])[).:：、](?=\s|$|\p{Han})", regex.MULTILINE)
_ALONE = regex.compile(r"""[\s*_`"'(\[$]*(?P<letter>[A-Za-z])[\s*_`"')\].:$。।]*""")


def choice(answer: str, right: str, letters: str) -> float:
    """1 if the answer settles on the letter `right`, else 0. `letters`: those of the options, such as "ABCD"."""
    return float(chosen(answer, letters) == right.upper())


def chosen(answer: str, letters: str) -> str | None:
    """The letter that an answer settles on; None if it names none, or several and none of them as its answer.

    Looked for in this order: the last boxed letter; the last "the answer is (C)" in one of six languages; "C is correct"; then bold
    letters, "option C", letters in brackets and lines like "C) …", each only if they name one letter alone; the whole answer.
    """
    text = unicodedata.normalize("NFKC", answer[-LONGEST:]).strip()
    alone = _ALONE.fullmatch(text) if len(text) < LONGEST_ALONE else None
    if alone:
        return next(_letters(alone["letter"], letters), None)
    for pattern in (_BOXED, _PHRASE, _CORRECT):
        found = [letter for match in pattern.finditer(text) for letter in _letters(_named(match), letters)]
        if found:
            return found[-1]
    for pattern in (_BOLD, _BOLD_OPTION, _OPTION, _IN_BRACKETS, _LISTED):
        named = {letter for match in pattern.finditer(text) for letter in _letters(match["letter"], letters)}
        if named:
            return named.pop() if len(named) == 1 else None
    return None


def _named(match: regex.Match[str]) -> str:
    groups = match.groupdict()
    return str(groups.get("held") or groups.get("letter") or groups.get("lower"))


def _letters(found: str, known: str) -> Iterator[str]:
    if found.upper() in known:
        yield found.upper()

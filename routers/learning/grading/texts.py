"""Graders that compare texts: `exact`, `regex`, `contains_all`."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import regex

from routers.learning.grading.parameters import BadGrader, Fields

LONGEST = 200_000
"""Characters of an answer that are looked at; of a longer one the last ones."""
SEARCH_SECONDS = 1.0
_FENCE = regex.compile(r"^\s*(`{3,}|~{3,})[^\n]*\n(.*?)\n?\s*\1\s*$", regex.DOTALL)
_SPACE = regex.compile(r"\s+")
_WRAPS = ("***", "**", "__", "`", "*", '"', "'", "“”", "„“", "«»", "‘’", "「」")
_UNSPACED = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}]")


def exact(answer: str, accepted: Sequence[str], *, case_sensitive: bool = False) -> float:
    """1 if the answer is one of the accepted texts, else 0.

    What does not count: the form of Unicode (NFKC), white space, case unless asked for, a code fence, bold, back ticks or quotes around
    the whole, and a full stop at the end.
    """
    found = plain(answer, case_sensitive)
    return float(any(found == plain(one, case_sensitive) for one in accepted))


def plain(text: str, case_sensitive: bool = False) -> str:
    """A text without what `exact` does not count."""
    text = unicodedata.normalize("NFKC", text[-LONGEST:]).replace("\u2010", "-").strip()
    fenced = _FENCE.match(text)
    text = _SPACE.sub(" ", fenced[2] if fenced else text).strip()
    before = ""
    while before != text:
        before = text
        if len(text) > 1 and text[-1] in ".。।":
            text = text[:-1].strip()
        for wrap in _WRAPS:
            left, right = (wrap[0], wrap[1]) if len(set(wrap)) == 2 else (wrap, wrap)
            if len(text) > len(left) + len(right) and text.startswith(left) and text.endswith(right):
                inner = text[len(left) : -len(right)]
                if left not in inner and right not in inner:
                    text = inner.strip()
    return text if case_sensitive else text.casefold()


def matches(answer: str, pattern: regex.Pattern[str], *, whole: bool = True) -> float:
    """1 if the pattern fits the whole answer (but for white space around it), or with `whole=False` some part of it.

    A pattern that takes longer than SEARCH_SECONDS counts as one that does not fit.
    """
    text = answer[-LONGEST:].strip()
    try:
        found = pattern.fullmatch(text, timeout=SEARCH_SECONDS) if whole else pattern.search(text, timeout=SEARCH_SECONDS)
    except TimeoutError:
        return 0.0
    return float(found is not None)


def contains_all(
    answer: str,
    wanted: Sequence[Sequence[str]],
    forbidden: Sequence[str] = (),
    *,
    case_sensitive: bool = False,
    words: bool = True,
    partial: bool = False,
) -> float:
    """1 if every wanted term is in the answer, in one of its forms each, and no forbidden one; with `partial` the share that is.

    `words`: a term within a longer word does not count ("cat" in "concatenate"), but in scripts that put no space between words.
    """
    text = _folded(answer[-LONGEST:], case_sensitive)
    if any(_holds(text, term, case_sensitive, words) for term in forbidden):
        return 0.0
    found = [any(_holds(text, form, case_sensitive, words) for form in forms) for forms in wanted]
    return sum(found) / len(found) if partial else float(all(found))


def _folded(text: str, case_sensitive: bool) -> str:
    text = _SPACE.sub(" ", unicodedata.normalize("NFKC", text))
    return text if case_sensitive else text.casefold()


def _holds(text: str, term: str, case_sensitive: bool, words: bool) -> bool:
    term = _folded(term, case_sensitive)
    if not words:
        return term in text
    before = r"(?<!\w)" if regex.match(r"\w", term) and not _UNSPACED.match(term) else ""
    after = r"(?!\w)" if regex.search(r"\w$", term) and not _UNSPACED.match(term[-1]) else ""
    return regex.search(before + regex.escape(term) + after, text) is not None


def read_pattern(fields: Fields) -> regex.Pattern[str]:
    """The field `pattern` as a regular expression (module `regex`; `ignore_case`). Raises BadGrader."""
    text, ignore_case = fields.text("pattern"), fields.flag("ignore_case", False)
    try:
        return regex.compile(text, (regex.IGNORECASE if ignore_case else 0) | regex.VERSION1)
    except regex.error as error:
        raise BadGrader("pattern", f"is no regular expression: {error}") from None


def read_terms(fields: Fields) -> list[list[str]]:
    """The terms in `answer`: a text, or a list whose elements are texts or lists of equally good forms. Raises BadGrader."""
    given = [fields.answer] if isinstance(fields.answer, str) else fields.answer
    if not isinstance(given, list) or not given:
        raise BadGrader("answer", "must be a list of texts, or of lists of equally good ones")
    terms = [[term] if isinstance(term, str) else term for term in given]
    for forms in terms:
        if not isinstance(forms, list) or not forms or not all(isinstance(form, str) and form.strip() for form in forms):
            raise BadGrader("answer", "must be a list of texts, or of lists of equally good ones")
    return terms

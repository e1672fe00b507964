"""Graders: a model's answer -> a score in [0, 1]. A closed table of names; each is a pure function of the answer and its fields.

| grader | `answer` | further fields |
|---|---|---|
| `exact` | a text, or a list of equally right ones | `case_sensitive` |
| `choice` | a letter | `choices`: how many options there are, or their letters |
| `number` | a number | `tolerance`, `relative_tolerance`, `unit`, `units` |
| `regex` | – | `pattern`, `ignore_case`, `whole` |
| `json_schema` | – | `schema`, `strict` |
| `contains_all` | a list of terms; a list in it holds equally good forms | `forbidden`, `case_sensitive`, `words`, `partial` |
| `code` | – | `tests`, `entry`, `seconds`, `memory_mb` |
| `judge` | a good answer (for `rubric` not needed) | `mode`: `rubric` or `pairwise`; `rubric` |

Where `answer` is not read ("–"), one may stand there all the same: an example of a good answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from string import ascii_uppercase

from routers.learning.grading import texts
from routers.learning.grading.choice import choice
from routers.learning.grading.code import code
from routers.learning.grading.judge import DEFAULT_RUBRIC, Judging
from routers.learning.grading.numbers import Tolerance, number, read_right, read_units
from routers.learning.grading.parameters import BadGrader, Fields
from routers.learning.grading.sandbox import Limits, SandboxUnavailable
from routers.learning.grading.schema import fits, read_validator

__all__ = ["GRADERS", "BadGrader", "Check", "Grade", "Judging", "SandboxUnavailable", "prepare"]

Check = Callable[[str], float]
"""An answer -> its score in [0, 1]."""


@dataclass(frozen=True, slots=True)
class Grade:
    """How one question is graded: by `check`, or by asking a judge. `runs_code`: the check runs what the model wrote, and blocks."""

    grader: str
    check: Check | None
    judging: Judging | None = None
    runs_code: bool = False


def prepare(grader: str, answer: object, parameters: Mapping[str, object]) -> Grade:
    """The grading of one question. Raises BadGrader for an unknown grader or fields that it cannot use; ImportError for a missing extra."""
    if grader not in GRADERS:
        raise BadGrader("grader", f"there is no grader named {grader!r}; known: {', '.join(GRADERS)}")
    fields = Fields(grader, answer, parameters)
    found = GRADERS[grader](fields)
    fields.done()
    return found


def _exact(fields: Fields) -> Grade:
    accepted, case_sensitive = fields.accepted(), fields.flag("case_sensitive", False)
    return Grade("exact", lambda answer: texts.exact(answer, accepted, case_sensitive=case_sensitive))


def _choice(fields: Fields) -> Grade:
    given = fields.take("choices", 10)
    if isinstance(given, int) and not isinstance(given, bool) and 2 <= given <= len(ascii_uppercase):
        letters = ascii_uppercase[:given]
    elif isinstance(given, str) and len(given) > 1 and set(given.upper()) <= set(ascii_uppercase):
        letters = given.upper()
    else:
        raise BadGrader("choices", 'must be a number from 2 to 26, or letters such as "ABCD"')
    right = fields.answer.strip().upper() if isinstance(fields.answer, str) else ""
    if len(right) != 1 or right not in letters:
        raise BadGrader("answer", f"must be one of the letters {letters}")
    return Grade("choice", lambda answer: choice(answer, right, letters))


def _number(fields: Fields) -> Grade:
    right = read_right(fields)
    tolerance = Tolerance(fields.number("tolerance", 0.0), fields.number("relative_tolerance", 1e-9, most=1.0))
    units = read_units(fields)
    return Grade("number", lambda answer: max(number(answer, one, tolerance, units) for one in right))


def _regex(fields: Fields) -> Grade:
    pattern, whole = texts.read_pattern(fields), fields.flag("whole", True)
    return Grade("regex", lambda answer: texts.matches(answer, pattern, whole=whole))


def _json_schema(fields: Fields) -> Grade:
    valid, strict = read_validator(fields), fields.flag("strict", False)
    return Grade("json_schema", lambda answer: fits(answer, valid, strict=strict))


def _contains_all(fields: Fields) -> Grade:
    wanted, forbidden = texts.read_terms(fields), fields.texts("forbidden", [])
    flags = {name: fields.flag(name, default) for name, default in (("case_sensitive", False), ("words", True), ("partial", False))}
    return Grade("contains_all", lambda answer: texts.contains_all(answer, wanted, forbidden, **flags))


def _code(fields: Fields) -> Grade:
    tests = fields.texts("tests", [])
    if not tests:
        raise BadGrader("tests", "the grader 'code' needs a text of Python, or a list of such")
    for text in tests:
        try:
            compile(text, "tests", "exec")
        except (SyntaxError, ValueError) as error:
            raise BadGrader("tests", f"is no Python: {error}") from None
    entry = fields.text("entry", "")
    memory = int(fields.number("memory_mb", 512, least=64, most=65_536)) * 1024 * 1024
    limits = Limits(seconds=fields.number("seconds", 10, least=1, most=600), memory_bytes=memory)
    return Grade("code", lambda answer: code(answer, tests, entry, limits), runs_code=True)


def _judge(fields: Fields) -> Grade:
    mode = fields.text("mode", "rubric")
    if mode not in ("rubric", "pairwise"):
        raise BadGrader("mode", "must be rubric or pairwise")
    reference = "" if fields.answer is None else fields.answer
    if not isinstance(reference, str):
        raise BadGrader("answer", "must be a text: a good answer")
    if mode == "pairwise":
        if not reference.strip():
            raise BadGrader("answer", "a judge that compares needs a good answer to compare with")
        return Grade("judge", None, Judging("pairwise", fields.text("rubric", ""), reference))
    return Grade("judge", None, Judging("rubric", fields.text("rubric", DEFAULT_RUBRIC), reference))


GRADERS: Mapping[str, Callable[[Fields], Grade]] = {
    "exact": _exact,
    "choice": _choice,
    "number": _number,
    "regex": _regex,
    "json_schema": _json_schema,
    "contains_all": _contains_all,
    "code": _code,
    "judge": _judge,
}

"""The grader `code`: does the program in an answer pass its tests?"""

from __future__ import annotations

from collections.abc import Sequence

import regex

from routers.learning.grading.sandbox import Limits, passes
from routers.learning.grading.texts import LONGEST

_FENCED = regex.compile(r"(?:```|~~~)[ \t]*([\w+-]*)[^\n`]*\n(.*?)(?:\n(?:```|~~~)|\Z)", regex.DOTALL)
_PYTHON = ("python", "python3", "py", "")


def code(answer: str, tests: Sequence[str], entry: str, limits: Limits) -> float:
    """1 if the program in the answer passes all tests, else 0. `entry`: the name that the program must define; "" for none.

    Runs foreign code; see sandbox.passes. Raises SandboxUnavailable.
    """
    return float(passes(program(answer, entry), tests, limits))


def program(answer: str, entry: str = "") -> str:
    """The program in an answer: the last fenced block that defines `entry`; else the longest block; else the whole answer."""
    text = answer[-LONGEST:]
    blocks = [block for language, block in _FENCED.findall(text) if language.lower() in _PYTHON]
    if not blocks:
        return text
    if entry:
        defines = regex.compile(rf"^(?:(?:async\s+)?def|class)\s+{regex.escape(entry)}\b|^{regex.escape(entry)}\s*=", regex.MULTILINE)
        fitting = [block for block in blocks if defines.search(block)]
        if fitting:
            return str(fitting[-1])
    return str(max(blocks, key=len))

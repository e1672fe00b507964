"""Does an answer hold what it must hold? Checks that need no model: those of `routers.learning.grading`."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from routers.api import Ask, Need, Task, Turn
from routers.judges.api import Verdict, answers
from routers.learning.grading import BadGrader, Check, SandboxUnavailable, prepare
from routers.learning.grading.code import program
from routers.learning.grading.numbers import final, usual

TRUNCATED = "length"


class NumberBounds(BaseModel):
    """The number that an answer ends in: from `least` to `most`, in this `unit` (or in none). All of it may be left open."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    least: float | None = None
    most: float | None = None
    unit: str | None = None

    def holds(self, answer: str) -> float:
        found = final(answer)
        if found is None or (self.unit is not None and found.unit not in ("", usual(self.unit))):
            return 0.0
        return float(any(self._within(value) for value in found.values))

    def _within(self, value: Fraction) -> bool:
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)


class CodeChecks(BaseModel):
    """The program in an answer: it is Python, it defines `entry`, and it passes `tests`, which run in a sandbox for up to `seconds`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    entry: str = ""
    tests: tuple[str, ...] = ()
    seconds: Annotated[float, Field(ge=1, le=60)] = 5.0

    def holds(self, answer: str) -> float:
        """Whether it is Python that defines what it must."""
        try:
            tree = ast.parse(program(answer, self.entry))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return 0.0
        return float(bool(tree.body) and (not self.entry or self.entry in _defined(tree)))


class Verifier:
    """Sure of an answer that passes every check that is given, not at all of one that fails one, or that was cut off at its length.

    `json_schema`: JSON that fits this schema. `pattern`: a regular expression that fits the answer, all of it if `whole`. `number`: the
    answer ends in a number within bounds. `contains`: terms that it must hold. `code`: a program; its `tests` run foreign code, which
    takes seconds and blocks, so such a judge is not `instant`.

    Raises BadGrader or ValueError for checks that cannot be used.
    """

    needs: frozenset[Need] = frozenset()
    compares = False
    logprobs = False
    threshold = 1.0
    calls = 0
    named_models: tuple[str, ...] = ()

    def __init__(
        self,
        json_schema: dict[str, Any] | None = None,
        pattern: str | None = None,
        whole: bool = True,
        number: NumberBounds | None = None,
        contains: list[str] | None = None,
        code: CodeChecks | None = None,
    ) -> None:
        self._checks: list[Check] = []
        if json_schema is not None:
            self._checks.append(_graded("json_schema", None, {"schema": json_schema}))
        if pattern is not None:
            self._checks.append(_graded("regex", None, {"pattern": pattern, "whole": whole}))
        if number is not None:
            self._checks.append(number.holds)
        if contains is not None:
            self._checks.append(_graded("contains_all", contains, {}))
        if code is not None:
            self._checks.append(code.holds)
            if code.tests:
                fields = {"tests": list(code.tests), "entry": code.entry, "seconds": code.seconds}
                self._checks.append(_contained(_graded("code", None, fields)))
        if not self._checks:
            raise ValueError("a verifier needs something to check: json_schema, pattern, number, contains or code")
        self.instant = code is None or not code.tests

    def judge(self, task: Task, turns: Sequence[Turn], calls: int) -> Verdict | Sequence[Ask]:
        given = answers(turns)
        right = next((turn for turn in reversed(given) if self._passes(turn)), None)
        return Verdict(given[-1], 0.0) if right is None else Verdict(right, 1.0)

    def _passes(self, turn: Turn) -> bool:
        return turn.finish != TRUNCATED and all(check(turn.text or "") == 1.0 for check in self._checks)


def _graded(grader: str, answer: object, fields: Mapping[str, object]) -> Check:
    check = prepare(grader, answer, fields).check
    if check is None:
        raise BadGrader(grader, "asks a model, and is no check")
    return check


def _contained(check: Check) -> Callable[[str], float]:
    """Where no code can be run safely, none passes."""

    def passes(answer: str) -> float:
        try:
            return check(answer)
        except SandboxUnavailable:
            return 0.0

    return passes


def _defined(tree: ast.Module) -> set[str]:
    """Names that a program defines at its top."""
    found: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return found

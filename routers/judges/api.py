"""What a judge is.

A judge reads the turns of a planner and says which answer it would give now, and how likely that one is right. If it wants more to go by
(further samples, the opinion of another model) it says whom to ask, and is called again when those turns are there. It does no I/O.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from routers.api import Ask, Need, Task, Turn

ANSWER = "answer"
"""The purpose of an ask whose turn may become the answer as it stands."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`turn`: the answer that should be given if nobody else is asked. `confidence`: in [0, 1], how sure the judge is of it."""

    turn: Turn
    confidence: float


class Judge(Protocol):
    """Judges the answers of a transcript.

    `needs`: as a scorer's. `threshold`: from which confidence on an answer usually is good enough. `calls`: the most calls of its own
    that it makes for one answer. `compares`: its verdict on the last answer depends on those before, so that the last one must be judged
    too. `logprobs`: it reads the chances of an answer's tokens, so answers must be asked with them. `instant`: False if `judge` may
    block. `named_models`: models that it asks by name.
    """

    @property
    def needs(self) -> frozenset[Need]: ...

    @property
    def threshold(self) -> float: ...

    @property
    def calls(self) -> int: ...

    @property
    def compares(self) -> bool: ...

    @property
    def logprobs(self) -> bool: ...

    @property
    def instant(self) -> bool: ...

    @property
    def named_models(self) -> tuple[str, ...]: ...

    def judge(self, task: Task, turns: Sequence[Turn], calls: int) -> Verdict | Sequence[Ask]:
        """`turns`: all so far, of which at least one is an answer (purpose `answer`, with a text). `calls`: the most that it may ask for;
        with 0 it returns its verdict from what it has. It never returns no asks at all.
        """
        ...


def answers(turns: Sequence[Turn]) -> list[Turn]:
    """The turns that may become the answer."""
    return [turn for turn in turns if turn.text is not None and turn.ask.purpose == ANSWER]


def best(verdicts: Sequence[Verdict]) -> Verdict:
    """The surest of several; of equals the last, which a cascade has from the dearest model."""
    found = verdicts[0]
    for verdict in verdicts[1:]:
        if verdict.confidence >= found.confidence:
            found = verdict
    return found

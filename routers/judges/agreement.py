"""Do different models say the same?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from routers.answers import Form, groups, options, point
from routers.api import Ask, Need, Task, Turn
from routers.judges.api import Verdict, answers


class Agreement:
    """Sure once `agree` models gave the same answer; half sure where one of two that it takes did, and so on.

    `form`: what answers are compared as. Where most agree on nothing, the answer of the model that was asked last is given.
    """

    needs: frozenset[Need] = frozenset({"text"})
    compares = True
    logprobs = False
    instant = True
    threshold = 1.0
    calls = 0
    named_models: tuple[str, ...] = ()

    def __init__(self, agree: Annotated[int, Field(ge=2, le=16)] = 2, form: Form = "auto") -> None:
        self._agree = agree
        self._form = form

    def judge(self, task: Task, turns: Sequence[Turn], calls: int) -> Verdict | Sequence[Ask]:
        given = answers(turns)
        letters = options(task.request.text)
        found = groups([point(turn.text or "", self._form, letters) for turn in given])
        if not found:
            return Verdict(given[-1], 0.0)
        most = max(found, key=lambda group: (len(group), group[-1]))
        return Verdict(given[most[0]], min(1.0, (len(most) - 1) / (self._agree - 1)))

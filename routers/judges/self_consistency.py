"""Does a model say the same when it is asked again? (Wang et al., "Self-Consistency Improves Chain of Thought Reasoning", 2023)"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from routers.answers import Form, groups, options, point
from routers.api import Ask, Need, Task, Turn
from routers.judges.api import Verdict, answers, best

SAMPLE = "sample"


class SelfConsistency:
    """Samples each answer's model `k` times in all; sure in the share of the samples that agree.

    `temperature`: of the further samples. `form`: what answers are compared as. A sample that fails agrees with nobody.
    """

    needs: frozenset[Need] = frozenset({"text"})
    compares = False
    logprobs = False
    instant = True
    threshold = 0.6
    named_models: tuple[str, ...] = ()

    def __init__(
        self,
        k: Annotated[int, Field(ge=2, le=16)] = 3,
        temperature: Annotated[float, Field(gt=0, le=2)] = 0.7,
        form: Form = "auto",
    ) -> None:
        self._k = k
        self._temperature = temperature
        self._form = form
        self.calls = k - 1

    def judge(self, task: Task, turns: Sequence[Turn], calls: int) -> Verdict | Sequence[Ask]:
        given = answers(turns)
        latest = given[-1].ask.models
        tried = sum(turn.ask.models == latest and turn.ask.purpose == SAMPLE for turn in turns)
        wanted = min(self.calls - tried, calls)
        if wanted > 0:
            ask = Ask(latest, final=False, temperature=self._temperature, purpose=SAMPLE)
            return (ask,) * wanted
        return best([self._verdict(task, turn, turns) for turn in given])

    def _verdict(self, task: Task, answer: Turn, turns: Sequence[Turn]) -> Verdict:
        tried = [turn for turn in turns if turn.ask.models == answer.ask.models and turn.ask.purpose == SAMPLE]
        said = [answer, *(turn for turn in tried if turn.text is not None)]
        letters = options(task.request.text)
        found = groups([point(turn.text or "", self._form, letters) for turn in said])
        if not found or not tried:
            return Verdict(answer, 0.0)
        most = max(found, key=len)
        return Verdict(said[most[0]], len(most) / self._k)

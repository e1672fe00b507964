"""How sure was the model of its own words? Read off the chances of the tokens that it wrote, as vLLM reports them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from routers.api import Ask, Need, Task, Turn
from routers.judges.api import Verdict, answers, best


class Logprob:
    """Sure in the geometric mean of the chances of an answer's tokens; that is exp(-entropy), entropy estimated from what was written.

    `measure`: over all tokens (`mean`), over the last `share` of them (`tail`: where the answer stands after its reasoning), or over the
    `share` of them that were least likely (`lowest`). An answer without chances is not sure at all: a backend that reports none makes the
    cascade go on to its end.
    """

    needs: frozenset[Need] = frozenset()
    compares = False
    logprobs = True
    instant = True
    threshold = 0.8
    calls = 0
    named_models: tuple[str, ...] = ()

    def __init__(self, measure: Literal["mean", "tail", "lowest"] = "mean", share: Annotated[float, Field(gt=0, le=1)] = 0.1) -> None:
        self._measure = measure
        self._share = share

    def judge(self, task: Task, turns: Sequence[Turn], calls: int) -> Verdict | Sequence[Ask]:
        return best([Verdict(turn, self._sureness(turn.logprobs or ())) for turn in answers(turns)])

    def _sureness(self, logprobs: Sequence[float]) -> float:
        known = [min(0.0, found) for found in logprobs if not math.isnan(found)]
        if not known:
            return 0.0
        count = max(1, math.ceil(self._share * len(known)))
        if self._measure == "tail":
            known = known[-count:]
        elif self._measure == "lowest":
            known = sorted(known)[:count]
        return math.exp(sum(known) / len(known))

"""How likely the best answer is right, as learned from recorded answers. See `routers.credence`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from routers.answers import Form
from routers.api import Ask, Need, Task, Turn
from routers.hearing import Hearing
from routers.judges.api import Verdict, answers


class Learned:
    """Sure in the learned chance that an answer is right, given who was asked and who said what. `artifact`: by `pointsman train cascade`.

    Models that the artifact does not know are not heard, unless nobody else answered; nobody is sure of them. `form`: what answers are
    compared as. It computes for some milliseconds, so it is not `instant`.
    """

    needs: frozenset[Need] = frozenset({"text", "embedding"})
    compares = True
    logprobs = False
    instant = False
    threshold = 0.8
    calls = 0
    named_models: tuple[str, ...] = ()

    def __init__(self, artifact: Path, form: Form = "auto") -> None:
        self._hearing = Hearing.load(artifact, form)
        self.encoder = self._hearing.encoder
        self.artifact_hash = self._hearing.hash
        self.known_models = self._hearing.credence.models

    def judge(self, task: Task, turns: Sequence[Turn], calls: int) -> Verdict | Sequence[Ask]:
        given = answers(turns)
        best = self._hearing.hear(given, task.request).best()
        return Verdict(given[-1], 0.0) if best is None else Verdict(*best)

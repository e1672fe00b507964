"""Asks several models side by side, and makes one answer of theirs."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from routers.answers import Form, options
from routers.api import Answer, Ask, Budget, Encoder, Need, Task, Transcript, Turn
from routers.judges.api import ANSWER, Judge, Verdict
from routers.planners import plain
from routers.planners.cascade import check_known
from routers.planners.fusing import fusing_prompt
from routers.planners.plain import BadPlan
from routers.planners.tally import Tally, count

if TYPE_CHECKING:
    from routers.hearing import Hearing

MOST = 16
OPTIONS = 9
"""Wrong answers that a vote's weight reckons with, as if errors were spread over so many."""
LEAST, SURE = 0.02, 0.98


class Ensemble:
    """Asks the first `k` of the ranking at once, and combines what they say.

    `combine`: `majority`: the most frequent answer; `weighted`: the answer that is likeliest right given who said what, as learned from
    recorded answers (`artifact`, by `pointsman train cascade`), else votes by the expected quality in the ranking; `best_of`: the answer
    of which `judge` is surest; `fuse`: `model`, or the first of the ranking, writes the answer after reading the others. Votes are over as
    soon as those who are still out cannot change the result; equals are decided by the ranking. `form`: what answers are compared as. Who
    fails has no vote. Where money does not reach for k, as many are asked as it pays for, and where time ends the votes that are there
    count.

    Raises BadPlan where parts do not go together; BadArtifact.
    """

    def __init__(
        self,
        k: Annotated[int, Field(le=MOST)] = 3,
        combine: Literal["majority", "weighted", "best_of", "fuse"] = "majority",
        artifact: Path | None = None,
        judge: Judge | None = None,
        model: str | None = None,
        form: Form = "auto",
    ) -> None:
        _check_parts(k, combine, artifact, judge, model)
        self._k = k
        self._combine = combine
        self._hearing = None if artifact is None else _hearing(artifact, form)
        self._judge = judge
        self._model = model
        self._form: Form = form
        needs: set[Need] = {"text", *(() if judge is None else judge.needs)}
        learned = judge if self._hearing is None else self._hearing
        self.needs: frozenset[Need] = frozenset(needs if self._hearing is None else needs | {"embedding"})
        self.encoder: Encoder | None = getattr(learned, "encoder", None)
        self.instant = self._hearing is None and (judge is None or judge.instant)
        self.named_models = (*(() if model is None else (model,)), *(() if judge is None else judge.named_models))
        self.artifact_hash = str(getattr(judge, "artifact_hash", "")) if self._hearing is None else self._hearing.hash

    def check(self, candidates: Sequence[str], models: Collection[str]) -> None:
        """Raises BadPlan for a route of fewer than k models, a model that there is not, and an artifact that knows nobody here."""
        if len(candidates) < self._k:
            raise BadPlan(("k",), f"asks {self._k} models, and the route has {len(candidates)}")
        plain.check_named(self.named_models, models, ("model",) if self._model is not None else ("judge", "model"))
        check_known(None if self._hearing is None else self._hearing.credence.models, candidates, ("artifact",))

    def next(self, task: Task, so_far: Transcript, left: Budget) -> Sequence[Ask] | Answer:
        reason = plain.unfit(task.request)
        if reason is None and len(task.ranking) < 2:
            reason = "only_candidate"
        if reason is not None:
            return (plain.single(task, reason),)
        if not so_far.turns and not so_far.running:
            return self._start(task, left)
        tally = self._tally(task, so_far)
        if so_far.running and not (self._votes and tally.decided) and not plain.ended(left):
            return ()
        given = plain.answered(so_far)
        if not given:
            return self._without_answers(task, so_far)
        if self._combine == "best_of":
            return self._judged(task, so_far, left)
        if self._combine == "fuse" and len(given) > 1 and tally.share < 1:
            fused = self._fused(task, so_far, left, given)
            if fused is not None:
                return (fused,)
        winner = tally.winner or given[0]
        return Answer(winner.text or "", winner.model)

    @property
    def _votes(self) -> bool:
        """Whether an early lead decides; a model that fuses, and a judge, read every answer."""
        return self._combine in ("majority", "weighted")

    def _start(self, task: Task, left: Budget) -> Sequence[Ask]:
        chosen: list[str] = []
        fuser = [self._fuser(task)] if self._combine == "fuse" else []
        for scored in task.ranking:
            if len(chosen) < self._k and plain.pays(left, plain.expected_cost(task, [*chosen, scored.name, *fuser])):
                chosen.append(scored.name)
        if len(chosen) < 2:
            return (plain.single(task, "budget"),)
        logprobs = self._judge is not None and self._judge.logprobs
        return tuple(Ask((name,), final=False, logprobs=logprobs, purpose=ANSWER) for name in chosen)

    def _tally(self, task: Task, so_far: Transcript) -> Tally:
        rank = {scored.name: place for place, scored in enumerate(task.ranking)}
        out = [ask.models[0] for ask in so_far.running if ask.purpose == ANSWER]
        given = plain.answered(so_far)
        if self._hearing is not None:
            heard = self._hearing.hear(given, task.request)
            best = heard.best()
            if best is not None:
                return Tally(best[0], heard.decided(out), 0.0, best[1])
        return count(given, self._worth(task), rank, out, self._form, options(task.request.text))

    def _worth(self, task: Task) -> Mapping[str, float]:
        """What each model's vote weighs."""
        if self._combine != "weighted":
            return {scored.name: 1.0 for scored in task.ranking}
        return {scored.name: vote_weight(plain.quality(scored)) for scored in task.ranking}

    def _without_answers(self, task: Task, so_far: Transcript) -> Sequence[Ask]:
        """Those who were not asked, then, once more, the others."""
        asked = {turn.ask.models[0] for turn in so_far.turns}
        ranked = [scored.name for scored in task.ranking]
        return (Ask((*(n for n in ranked if n not in asked), *(n for n in ranked if n in asked))),)

    def _judged(self, task: Task, so_far: Transcript, left: Budget) -> Sequence[Ask] | Answer:
        assert self._judge is not None
        turns = so_far.turns
        most = self._k * (1 + self._judge.calls) - len(turns)
        said = self._judge.judge(task, turns, most)
        if not isinstance(said, Verdict):
            if plain.pays(left, plain.expected_cost(task, [ask.models[0] for ask in said]), plain.expected_seconds(turns)):
                return said
            said = self._judge.judge(task, turns, 0)
        turn = said.turn if isinstance(said, Verdict) else plain.answered(so_far)[0]
        return Answer(turn.text or "", turn.model)

    def _fuser(self, task: Task) -> str:
        return self._model or task.ranking[0].name

    def _fused(self, task: Task, so_far: Transcript, left: Budget, given: Sequence[Turn]) -> Ask | None:
        """The final ask of the model that fuses; None where it cannot be paid, or not in time."""
        fuser = self._fuser(task)
        if not task.request.text or not pays_to_fuse(task, so_far, left, fuser):
            return None
        return Ask((fuser,), prompt=fusing_prompt(task.request.text, given), purpose="fuse")


def _hearing(artifact: Path, form: Form) -> Hearing:
    """Imported here alone, since it needs what plain votes do not."""
    from routers.hearing import Hearing

    return Hearing.load(artifact, form)


def pays_to_fuse(task: Task, so_far: Transcript, left: Budget, fuser: str) -> bool:
    return plain.pays(left, plain.expected_cost(task, [fuser]), plain.expected_seconds(so_far.turns, fuser))


def vote_weight(accuracy: float) -> float:
    """The logarithm of the odds that a vote is right, against errors that are spread over several answers; at least 0."""
    known = min(SURE, max(LEAST, accuracy))
    return max(0.0, math.log(OPTIONS * known / (1 - known)))


def _check_parts(k: int, combine: str, artifact: Path | None, judge: Judge | None, model: str | None) -> None:
    if k < 2:
        raise BadPlan(("k",), f"an ensemble needs at least 2 models, not {k}")
    if combine == "best_of" and judge is None:
        raise BadPlan(("judge",), "best_of needs a judge, who says which answer is best")
    if judge is not None and combine != "best_of":
        raise BadPlan(("judge",), f"is for best_of; {combine} asks no judge")
    if judge is not None and judge.compares:
        raise BadPlan(("judge",), "compares the answers with each other; combine: majority or weighted does that")
    if artifact is not None and combine != "weighted":
        raise BadPlan(("artifact",), f"holds weights of votes; {combine} does not weigh them")
    if model is not None and combine != "fuse":
        raise BadPlan(("model",), f"is the model that fuses; {combine} asks none")

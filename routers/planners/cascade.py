"""Asks the cheap model first and goes on until an answer is good enough. (FrugalGPT: Chen et al. 2023)"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from routers.api import Answer, Ask, Budget, Encoder, Need, Task, Transcript, Turn
from routers.judges.api import ANSWER, Judge, Verdict
from routers.planners import plain
from routers.planners.plain import BadPlan

if TYPE_CHECKING:
    from routers.stages import Stages

MOST_CALLS = 32


class Cascade:
    """Asks one model, lets `judge` say how sure one may be of the answer, and stops or goes on with the next.

    `order`: from the cheapest up by what this request would cost, or as learned, from `artifact`. `threshold`: how sure is sure enough;
    None: as learned for the number of answers so far where there is an artifact, else what the judge thinks usual. `max_calls`: of all
    calls, the judge's own included. The answer of the last model that may be asked is relayed as it comes if nothing has to judge it any
    more. An ask that fails leads to the next model; where money or time ends, the best answer so far is given.

    Raises BadPlan for a configuration under which there could never be a second answer, and for a learned order without an artifact;
    BadArtifact.
    """

    def __init__(
        self,
        judge: Judge,
        order: Literal["cheapest", "learned"] = "cheapest",
        threshold: Annotated[float, Field(ge=0, le=1)] | None = None,
        max_calls: Annotated[int, Field(le=MOST_CALLS)] = 3,
        artifact: Path | None = None,
    ) -> None:
        least = 2 + judge.calls
        if max_calls < least:
            why = f"; its judge makes {judge.calls} for each answer" if judge.calls else ""
            raise BadPlan(("max_calls",), f"a cascade needs at least {least} calls, since with {max_calls} it never asks twice{why}")
        if order == "learned" and artifact is None:
            raise BadPlan(("artifact",), "a learned order needs the artifact that `pointsman train cascade` makes")
        self._judge = judge
        self._stages = None if artifact is None else _stages(artifact)
        self._order = order
        self._threshold = threshold
        self._max_calls = max_calls
        self.needs: frozenset[Need] = judge.needs
        self.instant = judge.instant
        self.named_models = judge.named_models
        hashes = ("" if self._stages is None else self._stages.hash, str(getattr(judge, "artifact_hash", "")))
        self.artifact_hash = "+".join(found for found in hashes if found)
        self.encoder: Encoder | None = getattr(judge, "encoder", None)

    def check(self, candidates: Sequence[str], models: Collection[str]) -> None:
        """Raises BadPlan for a route of one model, a judge who asks a model that there is not, and an artifact that knows nobody here."""
        if len(candidates) < 2:
            raise BadPlan(("type",), "a cascade needs a route of at least two models")
        plain.check_named(self.named_models, models, ("judge", "model"))
        check_known(getattr(self._judge, "known_models", None), candidates, ("judge", "artifact"))
        check_known(None if self._stages is None else self._stages.models, candidates, ("artifact",))

    def next(self, task: Task, so_far: Transcript, left: Budget) -> Sequence[Ask] | Answer:
        reason = plain.unfit(task.request)
        order = self._models(task)
        if reason is None and len(order) < 2:
            reason = "only_candidate"
        if reason is not None:
            return (plain.single(task, reason),)
        if so_far.running:
            return ()
        verdict: Verdict | None = None
        given = plain.answered(so_far)
        if given:
            said = self._judged(task, so_far, left)
            if not isinstance(said, Verdict):
                return said
            if said.confidence >= self._enough(len(given)):
                return Answer(said.turn.text or "", said.turn.model)
            verdict = said
        return self._go_on(task, order, so_far, left, verdict)

    def _judged(self, task: Task, so_far: Transcript, left: Budget) -> Verdict | Sequence[Ask]:
        """The judge's verdict, or what it still wants to ask, if there is money, time and a call for it."""
        turns = so_far.turns
        said = self._judge.judge(task, turns, self._max_calls - len(turns))
        if isinstance(said, Verdict):
            return said
        cost = plain.expected_cost(task, [ask.models[0] for ask in said])
        if plain.pays(left, cost, max(plain.expected_seconds(turns, ask.models[0]) for ask in said)):
            return said
        forced = self._judge.judge(task, turns, 0)
        return forced if isinstance(forced, Verdict) else Verdict(plain.answered(so_far)[-1], 0.0)

    def _go_on(self, task: Task, order: Sequence[str], so_far: Transcript, left: Budget, verdict: Verdict | None) -> Sequence[Ask] | Answer:
        turns = so_far.turns
        asked = {turn.ask.models[0] for turn in turns if turn.ask.purpose == ANSWER or turn.ask.final}
        calls = self._max_calls - len(turns)
        able = [name for name in order if name not in asked and self._pays(task, name, turns, left)]
        if able and calls > 0:
            return (self._ask(able, calls, left),)
        if verdict is not None:
            return Answer(verdict.turn.text or "", verdict.turn.model)
        if turns:  # nobody answered: what is left of the ranking serves, as it would without a planner
            ranked = [scored.name for scored in task.ranking]
            return (Ask((*(n for n in ranked if n not in asked), *(n for n in ranked if n in asked))),)
        return (plain.single(task, "budget"),)

    def _ask(self, able: Sequence[str], calls: int, left: Budget) -> Ask:
        """The next model. If it is the last one and nothing judges it, its answer is relayed; under a deadline it is not, since what has
        begun to stream cannot be taken back for the answer that there is already.
        """
        last = calls == 1 or len(able) == 1
        if last and not self._judge.compares and left.seconds is None:
            return Ask((able[0],), purpose=ANSWER)
        return Ask((able[0],), final=False, logprobs=self._judge.logprobs, purpose=ANSWER)

    def _pays(self, task: Task, name: str, turns: Sequence[Turn], left: Budget) -> bool:
        return plain.pays(left, plain.expected_cost(task, [name]), plain.expected_seconds(turns, name))

    def _models(self, task: Task) -> list[str]:
        """In the order in which they are asked. Models that the artifact does not know come last."""
        found = plain.by_cost(task)
        if self._order == "cheapest" or self._stages is None:
            return found
        known = [name for name in self._stages.order if name in found]
        return [*known, *(name for name in found if name not in self._stages.models)]

    def _enough(self, answers: int) -> float:
        if self._threshold is not None:
            return self._threshold
        return self._judge.threshold if self._stages is None else self._stages.threshold(answers)


def check_known(known: Sequence[str] | None, candidates: Sequence[str], path: tuple[str | int, ...]) -> None:
    """Raises BadPlan if an artifact knows none of a route's candidates. `known`: None without an artifact."""
    if known is not None and not set(known) & set(candidates):
        raise BadPlan(path, f"knows none of the route's models; it was made for {', '.join(known)}")


def _stages(artifact: Path) -> Stages:
    """Imported here alone, since it needs what a cascade without an artifact does not."""
    from routers.stages import Stages

    return Stages.load(artifact)

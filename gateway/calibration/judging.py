"""Asking a configured model to grade an answer."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.calibration.asking import Answered, Asker, NoAnswer
from routers.learning.grading.judge import Judging, pairwise_messages, pairwise_score, read_score, read_verdict, rubric_messages
from routers.learning.questions import Question

JUDGE_TOKENS = 512


@dataclass(frozen=True, slots=True)
class Verdict:
    """`cost_usd`: of all calls that led to it; None if one is unknown."""

    score: float
    cost_usd: float | None


class Judge:
    """A model that grades. `name`: its name in the configuration."""

    def __init__(self, name: str, asker: Asker) -> None:
        self.name = name
        self._asker = asker

    async def grade(self, question: Question, judging: Judging, answer: str) -> Verdict:
        """One call for a rubric; two, one in each order, for a comparison. Raises NoAnswer, also if the judge says nothing usable."""
        asked = conversation(question)
        if judging.mode == "rubric":
            said = await self._ask(rubric_messages(asked, answer, judging.rubric, judging.reference))
            return _verdict(read_score(said.text), said)
        first = await self._ask(pairwise_messages(asked, answer, judging.reference, judging.rubric))
        second = await self._ask(pairwise_messages(asked, judging.reference, answer, judging.rubric))
        return _verdict(pairwise_score(read_verdict(first.text), read_verdict(second.text)), first, second)

    async def _ask(self, messages: list[dict[str, str]]) -> Answered:
        try:
            return await self._asker.ask(self.name, messages, JUDGE_TOKENS)
        except NoAnswer as error:
            raise NoAnswer(f"the judge {self.name} gave no answer: {error}") from None


def conversation(question: Question) -> str:
    """All that a model was sent, as a text: the prompt, or turn after turn."""
    if not question.messages:
        return question.prompt
    return "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in question.messages)


def _verdict(score: float | None, *said: Answered) -> Verdict:
    if score is None:
        raise NoAnswer("the judge gave no verdict")
    costs = [one.cost_usd for one in said if one.cost_usd is not None]
    return Verdict(score, sum(costs) if len(costs) == len(said) else None)

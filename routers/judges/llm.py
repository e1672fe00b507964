"""Another model says how good an answer is. (Zheng et al., "Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena", 2023)"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from routers.api import Ask, Message, Need, Task, Turn
from routers.judges.api import Verdict, answers, best
from routers.learning.grading.judge import DEFAULT_RUBRIC, read_score, rubric_messages
from routers.planners.quoting import cut

JUDGE = "judge: "
"""How the purpose of a judge's ask begins; the model whose answer it judges follows."""
LONGEST = 12_000
"""Characters of a question, and of an answer, that the judge reads."""


class Llm:
    """Asks `model` to grade each answer by `rubric`, from 1 to 10; sure in that grade, as 0 to 1.

    It sees the question and the answer between marks that neither can write, and nothing of who answered. A judge that fails, or whose
    words hold no grade, is not sure at all, and so is one that there is no money or call left for. `max_tokens`: of its words.
    """

    needs: frozenset[Need] = frozenset({"text"})
    compares = False
    logprobs = False
    instant = True
    threshold = 0.75
    calls = 1

    def __init__(self, model: str, rubric: str = DEFAULT_RUBRIC, max_tokens: Annotated[int, Field(ge=16, le=8192)] = 300) -> None:
        if not model.strip() or not rubric.strip():
            raise ValueError("a judge needs a model and a rubric")
        self._model = model
        self._rubric = rubric
        self._max_tokens = max_tokens
        self.named_models = (model,)

    def judge(self, task: Task, turns: Sequence[Turn], calls: int) -> Verdict | Sequence[Ask]:
        given = answers(turns)
        heard = {turn.ask.purpose: turn for turn in turns if turn.ask.purpose.startswith(JUDGE)}
        open_ = [turn for turn in given if _purpose(turn) not in heard][: max(0, calls)]
        if open_:
            return tuple(self._ask(task, turn) for turn in open_)
        return best([Verdict(turn, self._grade(heard.get(_purpose(turn)))) for turn in given])

    def _ask(self, task: Task, turn: Turn) -> Ask:
        messages = rubric_messages(cut(task.request.text, LONGEST), cut(turn.text or "", LONGEST), self._rubric)
        prompt: tuple[Message, ...] = tuple((message["role"], message["content"]) for message in messages)
        return Ask((self._model,), final=False, prompt=prompt, max_tokens=self._max_tokens, temperature=0.0, purpose=_purpose(turn))

    def _grade(self, said: Turn | None) -> float:
        found = read_score(said.text) if said is not None and said.text is not None else None
        return 0.0 if found is None else found


def _purpose(turn: Turn) -> str:
    return JUDGE + turn.ask.models[0]

"""Episodes: the real planner asks, the policy that learns writes, experts answer. Many at once, so that it writes for all together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Literal, Protocol

from routers.api import Answer, Ask, Budget, RouteRequest, Scored, Task, Transcript, Turn
from routers.learning.router_r1.chains import Chain
from routers.planners.plain import why_single
from routers.planners.router_r1.conversation import EXPERT, POLICY
from routers.planners.router_r1.grammar import Broken, Final, complete, read
from routers.planners.router_r1.planner import DEFAULT, FORCED

if TYPE_CHECKING:
    from routers.api import Message, Model
    from routers.learning.router_r1.chains import Row, Tokens
    from routers.learning.router_r1.questions import Question
    from routers.planners.router_r1 import RouterR1

CHARACTERS_A_TOKEN = 4
TOO_LONG = "context_length_exceeded"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the policy is to write. `place`: of its episode among those that are played. `context`: tokens. `messages`, `continues`: the
    same as the planner has them.
    """

    place: int
    context: tuple[int, ...]
    messages: tuple[Message, ...]
    continues: bool
    max_tokens: int
    stop: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Written:
    """`ids`: all that was drawn, the token that ended it included. `text`: of them, without tokens that are no text."""

    ids: tuple[int, ...]
    text: str
    finish: Literal["stop", "length"]


class Writer(Protocol):
    """The policy. It answers all that is wanted, in that order."""

    def write(self, wanted: Sequence[Wanted]) -> Sequence[Written]: ...


@dataclass(frozen=True, slots=True)
class Asked:
    """An expert is asked. `question`: the one that the episode is about; `prompt`: what the policy wants to know."""

    question: Question
    model: str
    prompt: str
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Told:
    """`text`: None: the expert failed, and `error` says why."""

    text: str | None
    cost_usd: float | None
    seconds: float = 0.0
    error: str | None = None
    tokens: int | None = None


class Experts(Protocol):
    """Those who are asked. They answer in the order in which they were asked."""

    def answer(self, asked: Sequence[Asked]) -> Sequence[Told]: ...


class RecordedExperts:
    """Say what was recorded of them for the episode's question, whatever the policy asks."""

    def answer(self, asked: Sequence[Asked]) -> Sequence[Told]:
        said = [one.question.said[one.model] for one in asked]
        return [Told(one.text, one.cost_usd, tokens=one.tokens) for one in said]


@dataclass(frozen=True, slots=True)
class Episode:
    """`answer`: None: the policy broke the grammar twice, or could not answer. `cost_usd`: of the experts. `repaired`: turns that broke."""

    question: Question
    turns: tuple[Turn, ...]
    row: Row
    answer: str | None
    cost_usd: float
    asks: int
    repaired: int

    @property
    def broken(self) -> bool:
        return self.answer is None

    @property
    def right(self) -> float:
        """In [0, 1]."""
        return 0.0 if self.answer is None else self.question.score(self.answer)


@dataclass(frozen=True, slots=True)
class Stage:
    """Where episodes are played. `models`: the experts, as the policy reads of them. `costs`: USD of a call. `window`: the policy's, in
    tokens. `seed`: the order in which a question's experts are named depends on it and on the question alone.
    """

    planner: RouterR1
    models: Mapping[str, Model]
    costs: Mapping[str, float]
    tokens: Tokens
    window: int
    seed: int = 0

    def task(self, question: Question) -> Task:
        names = sorted(self.models)
        Random(f"{self.seed}:{question.id}").shuffle(names)
        ranking = [Scored(name, 1 - place / len(names), cost_usd=self.costs[name]) for place, name in enumerate(names)]
        request = RouteRequest(text=question.text, prompt_tokens=len(question.text) // CHARACTERS_A_TOKEN)
        return Task(request, ranking, self.models)

    def opening(self, question: Question) -> str:
        """The first context. Raises ValueError where the planner would not let the policy speak at all."""
        step = self.planner.next(self.task(question), Transcript(), Budget())
        if isinstance(step, Answer) or step[0].purpose != POLICY:
            raise ValueError("the planner leaves the policy out")
        return self.tokens.render(step[0].prompt or (), continues=False)


def play(stage: Stage, questions: Sequence[Question], writer: Writer, experts: Experts) -> list[Episode]:
    """An episode for each question, in that order; a question that occurs several times is played so often.

    Raises ValueError where the planner would not let the policy speak at all.
    """
    playing = [Play(stage, question, place) for place, question in enumerate(questions)]
    while going := [one for one in playing if one.ended is None]:
        for one in going:
            one.step()
        writing = [one for one in going if one.wanted is not None]
        for one, written in zip(writing, writer.write([one.wanted for one in writing if one.wanted is not None]), strict=True):
            one.write(written)
        asking = [one for one in going if one.asked is not None]
        for one, told in zip(asking, experts.answer([one.asked for one in asking if one.asked is not None]), strict=True):
            one.hear(told)
    return [one.ended for one in playing if one.ended is not None]


@dataclass(slots=True)
class Play:
    """One episode under way. After each `step` it has ended, or waits for `write` (`wanted`) or `hear` (`asked`), or may step again."""

    stage: Stage
    question: Question
    place: int
    task: Task = field(init=False)
    chain: Chain = field(init=False)
    turns: list[Turn] = field(default_factory=list)
    ask: Ask = field(default_factory=lambda: Ask(()))
    wanted: Wanted | None = None
    asked: Asked | None = None
    ended: Episode | None = None

    def __post_init__(self) -> None:
        self.task = self.stage.task(self.question)
        self.chain = Chain(self.stage.tokens)

    def step(self) -> None:
        """Lets the planner say what is next. Raises ValueError where it would not let the policy speak at all."""
        step = self.stage.planner.next(self.task, Transcript(tuple(self.turns)), Budget())
        if isinstance(step, Answer):
            self._end(step.text)
            return
        (self.ask,) = step
        if why_single(self.ask) is not None:
            raise ValueError(f"the planner leaves the policy out: {self.ask.purpose}")
        if self.ask.purpose.startswith(DEFAULT):
            self._end(None)
        elif self.ask.purpose == EXPERT:
            self.asked = Asked(self.question, self.ask.models[0], (self.ask.prompt or ())[0][1], self.ask.max_tokens or 1)
        else:
            self._want()

    def write(self, written: Written) -> None:
        """What the policy wrote."""
        self.wanted = None
        self.chain.write(written.ids)
        if self.ask.purpose == FORCED:
            move = read(complete(f"<answer>{written.text}", written.finish))
            self.turns.append(self._turn(written.text, written.finish, len(written.ids)))
            self._end(move.text if isinstance(move, Final) else None)
            return
        self.turns.append(self._turn(written.text, written.finish, len(written.ids)))

    def hear(self, told: Told) -> None:
        """What an expert said."""
        self.asked = None
        name = self.ask.models[0]
        self.turns.append(Turn(self.ask, name, told.text, told.cost_usd, told.seconds, told.error, tokens_out=told.tokens))

    def _want(self) -> None:
        prompt, most = self.ask.prompt or (), self.ask.max_tokens or 1
        context = self.chain.context(self.stage.tokens.render(prompt, self.ask.continues))
        if len(context) + most > self.stage.window:
            self.turns.append(self._turn(None, None, 0))
            if self.ask.purpose == FORCED:
                self._end(None)
            return
        self.wanted = Wanted(self.place, tuple(context), prompt, self.ask.continues, most, self.ask.stop)

    def _turn(self, text: str | None, finish: str | None, tokens: int) -> Turn:
        error = TOO_LONG if text is None else None
        return Turn(self.ask, self.ask.models[0], text, None, 0.0, error, tokens_out=tokens, finish=finish)

    def _end(self, answer: str | None) -> None:
        heard = [turn for turn in self.turns if turn.ask.purpose == EXPERT]
        broken = [turn for turn in self.turns if turn.ask.purpose == POLICY and turn.text is not None and _is_broken(turn)]
        cost = sum(turn.cost_usd or 0.0 for turn in heard)
        self.ended = Episode(self.question, tuple(self.turns), self.chain.row, answer, cost, len(heard), len(broken))


def _is_broken(turn: Turn) -> bool:
    return isinstance(read(complete(turn.text or "", turn.finish)), Broken)

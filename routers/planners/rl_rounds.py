"""Asks one model after another, as a policy that was trained on recorded answers sees fit, and gives the likeliest answer."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from routers.answers import options, vote
from routers.api import Answer, Ask, Budget, Need, Task, Transcript, Turn
from routers.learned import Prompts
from routers.planners.cascade import check_known
from routers.rounds.experience import Experience
from routers.rounds.policy import STOP
from routers.rounds.standing import NO_VOTE, USUAL_OPTIONS
from routers.rounds.swift import Question, Side, Swift, sides, spoken

CHARACTERS_A_TOKEN = 4


@dataclass(frozen=True, slots=True)
class _Table:
    """A request as the policy sees it. `names`: of the columns, the candidates that the artifact knows and that have not failed."""

    names: list[str]
    policy: Swift
    question: Question
    turns: dict[str, Turn]

    def given(self, heard: list[Side], chances: list[float]) -> Answer:
        """The likeliest of the answers."""
        name = self.names[spoken(self.question, heard, chances)]
        return Answer(self.turns[name].text or "", name)


class RlRounds:
    """Asks, reads the answer, and asks on as long as that is worth its price; then the answer that is likeliest to be right is the answer.

    `artifact`: a folder made by `pointsman train rl-rounds`. `cost_weight`: for requests that name none themselves, the price in score of
    what the dearest model costs more than the cheapest: at 0.1, a chance of being right that is greater by 0.1 is worth it.
    `max_asks`: at most so many. Candidates that the artifact does not know are never asked, unless it knows none of them: then the first
    of the ranking serves. A route of none of them is refused.
    """

    needs: frozenset[Need] = frozenset({"text", "embedding"})
    instant = False

    def __init__(
        self,
        artifact: Path,
        cost_weight: Annotated[float, Field(ge=0, le=1000)] = 0.1,
        max_asks: Annotated[int, Field(ge=1, le=64)] = 16,
    ) -> None:
        self._known = Experience.load(artifact)
        self._policy = Swift.of(self._known.policy)
        self.encoder = self._known.encoder
        self.artifact_hash = self._known.hash
        self.models = self._known.models
        self._costs: list[float] = self._known.policy.traits.cost.tolist()
        self._scale = 1 / max(max(self._costs) - min(self._costs), 1e-6)
        self._cost_weight, self._max_asks = cost_weight, max_asks

    def check(self, candidates: Sequence[str], models: Collection[str]) -> None:
        """Raises BadPlan if the artifact knows none of the route's models. `models`: of the whole gateway."""
        check_known(self.models, candidates, ("artifact",))

    def next(self, task: Task, so_far: Transcript, left: Budget) -> Sequence[Ask] | Answer:
        if so_far.running:
            return ()
        table = self._table(task, so_far, left)
        if not table.names:
            return self._first(task, so_far)
        heard = sides(table.question)
        column, chances = table.policy.decide(table.question, heard)
        if heard and (column == STOP or sum(table.question.asked) >= self._max_asks or _out_of_time(so_far, left)):
            return table.given(heard, chances)
        if column == STOP:
            return self._cheapest(table)
        return (self._ask(table, column, alone=not heard),)

    def weight(self, asked_for: float | None) -> float:
        """The price of a unit of cost, in score: of a request's `cost_weight`, or of the one that was set up."""
        found: float = (self._cost_weight if asked_for is None else asked_for) * self._scale
        return found

    def _ask(self, table: _Table, column: int, alone: bool) -> Ask:
        """Final, so that it streams, if it is the first and nobody could follow it at a price that an answer can be worth."""
        question = table.question
        others = [j for j in question.affordable if j != column and question.weight * question.costs[j] < 1]
        final = alone and (not others or self._max_asks == 1 or math.isinf(question.weight))
        return Ask((table.names[column],), final=final, purpose=f"round {len(table.turns) + 1}")

    def _cheapest(self, table: _Table) -> tuple[Ask]:
        """Nobody is within the bounds by what is expected: the cheapest may still be, by what it will really cost."""
        costs = table.question.costs
        return (Ask((table.names[min(range(len(costs)), key=costs.__getitem__)],), purpose="round 1"),)

    def _first(self, task: Task, so_far: Transcript) -> tuple[Ask]:
        failed = {turn.model for turn in so_far.turns if turn.text is None}
        rest = [scored.name for scored in task.ranking if scored.name not in failed]
        return (Ask(tuple(rest or [scored.name for scored in task.ranking]), purpose="unknown models"),)

    def _table(self, task: Task, so_far: Transcript, left: Budget) -> _Table:
        turns = {turn.model: turn for turn in so_far.turns}
        failed = {name for name, turn in turns.items() if turn.text is None}
        failed |= {turn.ask.models[0] for turn in so_far.turns if turn.text is None}
        able = {scored.name for scored in task.ranking} - failed
        columns = [column for column, name in enumerate(self.models) if name in able]
        names = [self.models[column] for column in columns]
        policy = self._policy if len(columns) == len(self.models) else self._policy.among(columns)
        return _Table(names, policy, self._question(task, columns, turns, left), turns)

    def _question(self, task: Task, columns: list[int], turns: dict[str, Turn], left: Budget) -> Question:
        request, names = task.request, [self.models[column] for column in columns]
        letters = options(request.text)
        expected, spread = self._expected(task) if columns else ([], [])
        numbers: dict[str, int] = {}
        votes, lengths = [NO_VOTE] * len(names), [0.0] * len(names)
        for column, name in enumerate(names):
            turn = turns.get(name)
            if turn is not None and turn.text is not None:
                lengths[column] = turn.tokens_out if turn.tokens_out is not None else len(turn.text) / CHARACTERS_A_TOKEN
                counted = vote(turn.text, letters)
                votes[column] = NO_VOTE if counted is None else numbers.setdefault(counted, len(numbers))
        return Question(
            [expected[column] for column in columns],
            [spread[column] for column in columns],
            self._foreseen(task, columns, left),
            float(len(letters) or USUAL_OPTIONS),
            [name in turns for name in names],
            votes,
            lengths,
            self.weight(request.preferences.cost_weight),
            math.inf if left.cost_usd is None else max(left.cost_usd, 0.0) / self._known.unit,
        )

    def _expected(self, task: Task) -> tuple[list[float], list[float]]:
        """Of all models that the artifact knows, and how far off that may be."""
        request = task.request
        if request.embedding is None:
            return self._policy.score, [math.sqrt(score * (1 - score)) for score in self._policy.score]
        found = self._known.question.expect(Prompts(request.embedding[None], (request.text,)))
        return found.mean[0].tolist(), found.spread[0].tolist()

    def _foreseen(self, task: Task, columns: list[int], left: Budget) -> list[float]:
        """Costs in units: what the ranking has, times the share of it that answers to such questions cost; of models without a price, what
        they cost when the policy was trained. What the ranking has must be there in any case: else the gateway would refuse the ask.
        """
        usd = {scored.name: scored.cost_usd for scored in task.ranking}
        prices = [usd[self.models[column]] for column in columns]
        vector, bill = task.request.embedding, self._known.question.bill
        shares = [1.0] * len(self.models) if vector is None else bill.shares(vector[None], len(self.models))[0].tolist()
        bound = math.inf if left.cost_usd is None else left.cost_usd
        due = [None if price is None else price * (shares[j] if price <= bound else 1.0) for j, price in zip(columns, prices, strict=True)]
        usual = self._costs
        if None in due and vector is not None:
            usual = self._known.costs(Prompts(vector[None], (task.request.text,)))[0].tolist()
        return [usual[j] if one is None else one / self._known.unit for j, one in zip(columns, due, strict=True)]


def _out_of_time(so_far: Transcript, left: Budget) -> bool:
    """One more answer may take as long as the longest so far."""
    return left.seconds is not None and left.seconds <= max((turn.seconds for turn in so_far.turns), default=0.0)

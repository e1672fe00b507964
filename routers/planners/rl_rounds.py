"""Asks one model after another, as a policy that was trained on recorded answers sees fit, and gives the likeliest answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from routers.api import Answer, Ask, Budget, Need, Task, Transcript, Turn
from routers.learned import Expected, Prompts
from routers.rounds.experience import Experience
from routers.rounds.policy import STOP, spoken
from routers.rounds.standing import NO_VOTE, USUAL_OPTIONS, Standing
from routers.votes import options, vote

if TYPE_CHECKING:
    from routers.rounds.policy import Policy
    from routers.rounds.standing import Floats

CHARACTERS_A_TOKEN = 4


@dataclass(frozen=True, slots=True)
class _Table:
    """A request as the policy sees it. `names`: of the columns, the candidates that the artifact knows and that have not failed."""

    names: list[str]
    policy: Policy
    standing: Standing
    turns: dict[str, Turn]


class RlRounds:
    """Asks, reads the answer, and asks on as long as that is worth its price; then the answer that is likeliest to be right is the answer.

    `artifact`: a folder made by `pointsman train rl-rounds`. `cost_weight`: for requests that name none themselves, the price in score of
    what the dearest model costs more than the cheapest: at 0.1, a chance of being right that is greater by 0.1 is worth it.
    `max_asks`: at most so many. Candidates that the artifact does not know are never asked, unless it knows none of them: then the first
    of the ranking serves.
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
        self.encoder = self._known.encoder
        self.artifact_hash = self._known.hash
        self.models = self._known.models
        costs = self._known.policy.traits.cost
        self._scale = 1 / max(float(costs.max() - costs.min()), 1e-6)
        self._cost_weight, self._max_asks = cost_weight, max_asks

    def next(self, task: Task, so_far: Transcript, left: Budget) -> Sequence[Ask] | Answer:
        if so_far.running:
            return ()
        table = self._table(task, so_far, left)
        heard = {name: turn for name, turn in table.turns.items() if turn.text is not None}
        if not table.names:
            return self._first(task, so_far)
        if len(heard) >= self._max_asks or (heard and _out_of_time(so_far, left)):
            return _given(table)
        standing, view = table.standing, table.policy.look(table.standing)
        column = int(table.policy.choose(standing, view)[0])
        if column == STOP:
            return _given(table) if heard else self._cheapest(table)
        return (self._ask(table, column, alone=not heard),)

    def weight(self, asked_for: float | None) -> float:
        """The price of a unit of cost, in score: of a request's `cost_weight`, or of the one that was set up."""
        return (self._cost_weight if asked_for is None else asked_for) * self._scale

    def _ask(self, table: _Table, column: int, alone: bool) -> Ask:
        """Final, so that it streams, if it is the first and nobody could follow it at a price that an answer can be worth."""
        others = np.delete(table.standing.affordable[0] & (table.standing.weight[0] * table.standing.costs[0] < 1), column)
        name = table.names[column]
        final = alone and (not others.any() or self._max_asks == 1 or bool(np.isinf(table.standing.weight[0])))
        return Ask((name,), final=final, purpose=f"round {len(table.turns) + 1}")

    def _cheapest(self, table: _Table) -> tuple[Ask]:
        """Nobody is within the bounds by what is expected: the cheapest may still be, by what it will really cost."""
        return (Ask((table.names[int(table.standing.costs[0].argmin())],), purpose="round 1"),)

    def _first(self, task: Task, so_far: Transcript) -> tuple[Ask]:
        failed = {turn.model for turn in so_far.turns if turn.text is None}
        rest = [scored.name for scored in task.ranking if scored.name not in failed]
        return (Ask(tuple(rest or [scored.name for scored in task.ranking]), purpose="unknown models"),)

    def _table(self, task: Task, so_far: Transcript, left: Budget) -> _Table:
        turns = {turn.model: turn for turn in so_far.turns}
        failed = {name for name, turn in turns.items() if turn.text is None}
        failed |= {turn.ask.models[0] for turn in so_far.turns if turn.text is None}
        place = {name: column for column, name in enumerate(self.models)}
        names = [scored.name for scored in task.ranking if scored.name in place and scored.name not in failed]
        columns = [place[name] for name in names]
        policy = self._known.policy.of(columns)
        standing = self._standing(task, names, columns, turns, left)
        return _Table(names, policy, standing, turns)

    def _standing(self, task: Task, names: list[str], columns: list[int], turns: dict[str, Turn], left: Budget) -> Standing:
        request, count = task.request, len(names)
        letters = options(request.text)
        expected = self._expected(task).of(columns)
        numbers: dict[str, int] = {}
        votes, lengths = np.full(count, NO_VOTE, dtype=np.int32), np.full(count, np.nan, dtype=np.float32)
        for column, name in enumerate(names):
            turn = turns.get(name)
            if turn is not None and turn.text is not None:
                lengths[column] = turn.tokens_out if turn.tokens_out is not None else len(turn.text) / CHARACTERS_A_TOKEN
                counted = vote(turn.text, letters)
                votes[column] = NO_VOTE if counted is None else numbers.setdefault(counted, len(numbers))
        bound = np.inf if left.cost_usd is None else max(left.cost_usd, 0.0) / self._known.unit
        return Standing(
            expected.mean,
            expected.spread,
            self._costs(task, names, columns)[None],
            np.array([len(letters) or USUAL_OPTIONS], dtype=np.float32),
            np.array([[name in turns for name in names]]),
            votes[None],
            lengths[None],
            np.array([self.weight(request.preferences.cost_weight)], dtype=np.float32),
            np.array([bound], dtype=np.float32),
        )

    def _expected(self, task: Task) -> Expected:
        """Of all models that the artifact knows (1, m)."""
        request, known = task.request, self._known
        if request.embedding is not None:
            return known.question.expect(Prompts(request.embedding[None], (request.text,)))
        score = known.policy.traits.score[None]
        return Expected(score, np.sqrt(score * (1 - score)))

    def _costs(self, task: Task, names: list[str], columns: list[int]) -> Floats:
        """Expected, in units: as the ranking has them, or as they were when the policy was trained."""
        foreseen = {scored.name: scored.cost_usd for scored in task.ranking}
        usual = self._known.policy.traits.cost[columns].tolist()
        found = [usd / self._known.unit if (usd := foreseen[name]) is not None else cost for name, cost in zip(names, usual, strict=True)]
        return np.array(found, dtype=np.float32)


def _out_of_time(so_far: Transcript, left: Budget) -> bool:
    """One more answer may take as long as the longest so far."""
    return left.seconds is not None and left.seconds <= max((turn.seconds for turn in so_far.turns), default=0.0)


def _given(table: _Table) -> Answer:
    chances = table.policy.chances(table.standing)
    name = table.names[int(spoken(chances, table.standing)[0])]
    return Answer(table.turns[name].text or "", name)

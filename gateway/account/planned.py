"""What a route's planner did for one request: whom it asked, what came of it, and how it ended."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from msgspec import Struct, structs

from gateway.account.costs import Usage, usage_of_turns
from routers.api import Answer, Ask, Budget, Turn
from routers.planners.quoting import cut

SHOWN_CHARACTERS = 2_000
"""Of an answer in between, in a decision's document; less where there are many."""
MOST_SHOWN = 32_000
"""Of all of them together."""
LEAST_SHOWN = 400


class Round(Struct, frozen=True):
    """An ask that is over. `number`: it was the planner's so-manieth, from 0. `started`: seconds after the request's own start.

    `estimated`: tokens and cost are our own count, since it was cancelled, or its time was over, while a model worked on it.
    `characters`: of its answer, where `turn` no longer has the whole of it; None: it has.
    """

    turn: Turn
    number: int
    started: float
    estimated: bool = False
    characters: int | None = None


class Step(Struct, frozen=True):
    """The planner was asked: it knew the first `turns` rounds, and what was left of the caller's bounds."""

    turns: int
    left: Budget


class Planned(Struct):
    """Filled in as the plan goes on. `started`: on the clock of the rounds, the request's own start.

    `calls`: asks that went to a model, the final one too. `rounds`: in the order in which they ended. `end`: the final ask, or the answer
    that the planner has put together; None if it did not get so far. `answer_cost_usd`: what the final ask cost; None if unknown.
    """

    started: float = 0.0
    calls: int = 0
    rounds: list[Round] = []
    steps: list[Step] = []
    end: Ask | Answer | None = None
    answer_cost_usd: float | None = None

    @property
    def turns(self) -> tuple[Turn, ...]:
        return tuple(one.turn for one in self.rounds)

    @property
    def usage(self) -> Usage | None:
        """Tokens of all asks in between; None if nothing is known of any."""
        return usage_of_turns(self.turns)

    @property
    def cost_usd(self) -> float | None:
        """What they cost; None if an answer among them has no known cost. An ask that failed cost nothing known."""
        costs = [turn.cost_usd for turn in self.turns if turn.cost_usd is not None or turn.error is None]
        return None if any(cost is None for cost in costs) else math.fsum(cost for cost in costs if cost is not None)

    def shortened(self) -> Planned:
        """As it may be kept for long: answers are cut to what a document shows, and what no document shows is left out."""
        most = shown_characters(len(self.rounds))
        return structs.replace(self, rounds=[_shortened(one, most) for one in self.rounds], steps=[], end=None)

    def documents(self) -> list[dict[str, Any]]:
        """The rounds as JSON shows them."""
        most = shown_characters(len(self.rounds))
        return [_document(_shortened(one, most)) for one in self.rounds]


def shown_characters(rounds: int) -> int:
    """How much of each of so many answers a document shows."""
    return min(SHOWN_CHARACTERS, max(LEAST_SHOWN, MOST_SHOWN // max(1, rounds)))


def _shortened(one: Round, most: int) -> Round:
    turn, characters = one.turn, one.characters
    text = turn.text
    if text is not None and len(text) > most:
        text, characters = cut(text, most), len(text) if characters is None else characters
    turn = replace(turn, ask=replace(turn.ask, prompt=None), text=text, logprobs=None)
    return structs.replace(one, turn=turn, characters=characters)


def _document(one: Round) -> dict[str, Any]:
    turn = one.turn
    document = {
        "asked": list(turn.ask.models),
        "purpose": turn.ask.purpose,
        "model": turn.model,
        "text": turn.text,
        "error": turn.error,
        "prompt_tokens": turn.tokens_in,
        "completion_tokens": turn.tokens_out,
        "estimated": one.estimated,
        "cost_usd": turn.cost_usd,
        "started_ms": one.started * 1000,
        "ms": turn.seconds * 1000,
    }
    return document if one.characters is None else {**document, "characters": one.characters}

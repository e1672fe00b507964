"""A policy that keeps to the grammar without having learned anything: what a model may imitate before rewards teach it.

A small model hardly ever writes a whole search or answer by itself, and where every episode is broken, rewards tell nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING

from routers.answers import vote
from routers.learning.router_r1.episodes import RecordedExperts, Written, play
from routers.planners.quoting import cut
from routers.planners.router_r1.grammar import neutral

if TYPE_CHECKING:
    from routers.learning.router_r1.chains import Row, Tokens
    from routers.learning.router_r1.episodes import Stage, Wanted
    from routers.learning.router_r1.questions import Question

ASKS = (1, 1, 1, 2, 2, 0)
"""How many experts a script asks: one of these."""
CHARACTERS = 2
"""Of a question that a script asks, for each token that a turn may have: so that the turn has room to end."""


class ScriptedPolicy:
    """Says what stands in the script of each episode, one text a turn; "" when the script has ended."""

    def __init__(self, scripts: Sequence[Sequence[str]], tokens: Tokens) -> None:
        self._left = [list(script) for script in scripts]
        self._tokens = tokens

    def write(self, wanted: Sequence[Wanted]) -> list[Written]:
        texts = [self._left[one.place].pop(0) if self._left[one.place] else "" for one in wanted]
        return [self._written(one, text) for one, text in zip(wanted, texts, strict=True)]

    def _written(self, wanted: Wanted, text: str) -> Written:
        ids = tuple(self._tokens.encode(text))
        kept = ids[: wanted.max_tokens]
        return Written(ids, text, "stop") if kept == ids else Written(kept, self._tokens.decode(kept), "length")


def script(question: Question, experts: Sequence[str], turn_tokens: int, asks: int, most: int, rng: Random) -> list[str]:
    """Asks some experts what the question is and answers as the last of them did; of its own head it says what is right. After `most` asks
    the planner has begun the answer.
    """
    asked = cut(" ".join(neutral(question.text).split()), CHARACTERS * turn_tokens)
    chosen = rng.sample(list(experts), min(asks, len(experts)))
    turns, heard = [], ""
    for name in chosen:
        think = f"{heard} I also ask {name}." if heard else f"I ask {name}."
        turns.append(f"<think>{think}</think>\n<search>{name}: {asked}</search>")
        found = vote(question.said[name].text, question.letters)
        heard = f"{name} says {found}." if found else f"{name} does not say."
    last = vote(question.said[chosen[-1]].text, question.letters) if chosen else question.right
    answer = f"{last or 'unknown'}</answer>"
    turns.append(answer if len(chosen) == most else f"<think>{heard or 'I know this.'}</think>\n<answer>{answer}")
    return turns


def transcripts(stage: Stage, questions: Sequence[Question], turn_tokens: int, most_asks: int, seed: int) -> list[Row]:
    """An episode of a script with recorded experts for each question; those that broke (a question may be too long) are left out."""
    rng = Random(f"{seed}:scripts")
    names = sorted(stage.models)
    scripts = [script(question, names, turn_tokens, min(rng.choice(ASKS), most_asks), most_asks, rng) for question in questions]
    played = play(stage, questions, ScriptedPolicy(scripts, stage.tokens), RecordedExperts())
    return [episode.row for episode in played if not episode.broken]

"""What has been said so far, read off the transcript: the policy's moves, what experts answered, and what is to be done next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from routers.api import Turn
from routers.planners.router_r1.grammar import Broken, Final, Move, Search, complete, read
from routers.planners.router_r1.names import expert
from routers.planners.router_r1.wording import information, refusal, too_dear

POLICY = "policy"
EXPERT = "expert"


@dataclass(frozen=True, slots=True)
class State:
    """`written`: the policy's own words so far, with the information between them; broken turns are left out. `searches`: how often it
    asked. `broken`: how often it broke the grammar. `last`: its last turn's text, if that was broken. `pending`: whom it wants to ask, not
    asked yet. `final`: its answer. `failed`: its model did not answer.
    """

    written: str = ""
    searches: int = 0
    broken: int = 0
    last: str | None = None
    why: str = ""
    pending: Search | None = None
    final: str | None = None
    failed: bool = False


def follow(turns: Sequence[Turn], experts: Sequence[str], may_ask: Callable[[str], bool]) -> State:
    """The state after these turns. `may_ask`: whether what is left pays for an expert; asked about the last search alone, so that what was
    asked once is never taken back.
    """
    state = State()
    for place, turn in enumerate(turns):
        if turn.ask.purpose == POLICY:
            state = _moved(state, turn, experts, turns[place + 1 :], may_ask)
        elif turn.ask.purpose == EXPERT:
            state = State(state.written + information(turn), state.searches, state.broken)
    return state


def _moved(state: State, turn: Turn, experts: Sequence[str], later: Sequence[Turn], may_ask: Callable[[str], bool]) -> State:
    if turn.text is None:
        return State(state.written, state.searches, state.broken, failed=True)
    text = complete(turn.text, turn.finish)
    move: Move = read(text)
    if isinstance(move, Broken):
        return State(state.written, state.searches, state.broken + 1, last=text, why=move.why)
    written = state.written + text
    if isinstance(move, Final):
        return State(written, state.searches, state.broken, final=move.text)
    name = expert(move.name, experts)
    searches = state.searches + 1
    if name is None:
        return State(written + refusal(move.name, experts), searches, state.broken)
    asked = bool(later) and later[0].ask.purpose == EXPERT
    if not asked and (later or not may_ask(name)):
        return State(written + too_dear(name), searches, state.broken)
    return State(written, searches, state.broken, pending=None if asked else Search(name, move.question))

"""Votes that are counted while they come in: who leads, and can the rest still change that?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from routers.answers import Form, groups, point
from routers.api import Turn

EVEN = 1e-9
"""Sums of weights that differ by less are equal."""


@dataclass(frozen=True, slots=True)
class Tally:
    """`winner`: the answer that leads; None without any answer. `decided`: whatever those who are still out say, it stays.

    `lead`: by how much weight. `share`: the part of the weight of all who answered that is behind it.
    """

    winner: Turn | None
    decided: bool
    lead: float
    share: float


def count(
    turns: Sequence[Turn], weights: Mapping[str, float], rank: Mapping[str, int], out: Sequence[str], form: Form, letters: str
) -> Tally:
    """Counts the answers in `turns`. `weights`: of each model's vote, at least 0. `rank`: model -> place in the picker's order, by which
    equals are decided. `out`: models who have not answered yet. `form`, `letters`: as in `routers.answers.point`.

    An answer that settles on nothing has no vote; it wins only where nobody has one, and then the best-ranked model's does.
    """
    given = [turn for turn in turns if turn.text is not None]
    found = groups([point(turn.text or "", form, letters) for turn in given])
    if not found:
        winner = min(given, key=lambda turn: _place(rank, turn), default=None)
        return Tally(winner, not out, 0.0, 0.0)
    sums = [sum(_weight(weights, given[place]) for place in group) for group in found]
    best = [min(_place(rank, given[place]) for place in group) for group in found]
    order = sorted(range(len(found)), key=lambda n: (-round(sums[n] / EVEN), best[n]))
    first = order[0]
    second = max((sums[n] for n in order[1:]), default=0.0)
    rest = sum(weights.get(name, 0.0) for name in out)
    spokesman = min((given[place] for place in found[first]), key=lambda turn: _place(rank, turn))
    lead = sums[first] - second
    total = sum(_weight(weights, turn) for turn in given)
    return Tally(spokesman, not out or lead > rest + EVEN, lead, sums[first] / total if total > 0 else 0.0)


def _weight(weights: Mapping[str, float], turn: Turn) -> float:
    return weights.get(turn.ask.models[0], 0.0)


def _place(rank: Mapping[str, int], turn: Turn) -> int:
    return rank.get(turn.ask.models[0], len(rank))

"""Plays a planner against experts that say what they are told: what the gateway's loop does, without a gateway."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from routers.api import Answer, Ask, Budget, Model, Planner, Price, RouteRequest, Scored, Task, Transcript, Turn

Says = str | None | Sequence[str | None] | Callable[[Ask], "str | Turn | None"]


def task(names: str = "small middle large", text: str = "", costs: Sequence[float | None] = (), **request: Any) -> Task:
    """Candidates in the picker's order, the first being the best. `costs`: USD of one call, 1, 2, 3, … if not given."""
    known = names.split()
    prices = list(costs) or [float(place + 1) for place in range(len(known))]
    ranking = [
        Scored(name, 1 - place / 10, quality=1 - place / 10, cost_usd=cost)
        for place, (name, cost) in enumerate(zip(known, prices, strict=True))
    ]
    models = {name: Model(name, Price(1, 1), description=f"the {name} one") for name in known}
    return Task(RouteRequest(text=text, **request), ranking, models)


@dataclass
class Played:
    """What came of it. `asked`: the models, in the order in which they were asked."""

    end: Answer | Ask
    turns: tuple[Turn, ...]
    asks: list[Ask] = field(default_factory=list)
    cancelled: tuple[Ask, ...] = ()

    @property
    def asked(self) -> list[str]:
        return [ask.models[0] for ask in self.asks]

    @property
    def text(self) -> str:
        assert isinstance(self.end, Answer), self.end
        return self.end.text


def play(
    planner: Planner,
    of: Task,
    says: Mapping[str, Says],
    left: Budget | None = None,
    costs: Mapping[str, float] | None = None,
    rng: Random | None = None,
    most: int = 40,
) -> Played:
    """Until the planner ends. `costs`: USD of each call, by model (0). Each takes a second. What runs ends in the order in which it was
    asked, or as `rng` would have it.
    """
    rest = left or Budget()
    said = {name: iter(text) if isinstance(text, list) else None for name, text in says.items()}
    turns: list[Turn] = []
    running: list[Ask] = []
    asks: list[Ask] = []
    for _ in range(most):
        wanted = planner.next(of, Transcript(tuple(turns), tuple(running)), rest)
        if isinstance(wanted, Answer):
            return Played(wanted, tuple(turns), asks, tuple(running))
        assert len(wanted) == 1 or not any(ask.final for ask in wanted), "a final ask stands alone"
        assert all(ask.models for ask in wanted)
        if wanted and wanted[0].final:
            return Played(wanted[0], tuple(turns), [*asks, wanted[0]], tuple(running))
        running += wanted
        asks += wanted
        assert running, "it waits for nobody"
        ask = running.pop(0 if rng is None else rng.randrange(len(running)))
        turn = _turn(ask, says, said, (costs or {}).get(ask.models[0], 0.0))
        turns.append(turn)
        rest = Budget(
            None if rest.cost_usd is None else rest.cost_usd - (turn.cost_usd or 0.0), None if rest.seconds is None else rest.seconds - 1.0
        )
    raise AssertionError("the planner does not end")


def _turn(ask: Ask, says: Mapping[str, Says], said: Mapping[str, Any], cost: float) -> Turn:
    name = ask.models[0]
    words: Any = next(said[name]) if said.get(name) is not None else says.get(name)
    if callable(words):
        words = words(ask)
    if isinstance(words, Turn):
        return replace(words, ask=ask)
    return Turn(ask, name, words, cost, 1.0, None if words is not None else "upstream_error", finish="stop")

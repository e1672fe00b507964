"""What planners of more than one call share: when they step back to one call, and what the caller's bounds still pay for."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Literal, Protocol

from routers.api import Ask, Budget, Candidate, RouteRequest, Scored, Task, Transcript, Turn
from routers.expectation import expected_cost as cost_of_request
from routers.judges.api import ANSWER

Unfit = Literal["endpoint", "tools", "response_format", "n", "images", "logprobs", "only_candidate", "budget"]
"""Why a request gets one call: what it asks for is the answer of one model, or there is no other model, or no money for a second call."""

SINGLE = "single: "
"""How the purpose of a final ask begins that stands for the planner `single`; the reason follows."""
_NEEDS: tuple[tuple[str, Unfit], ...] = (("tools", "tools"), ("json_schema", "response_format"), ("vision", "images"))


class BadPlan(ValueError):
    """A planner or a judge whose configuration cannot work. `path`: the parameter."""

    def __init__(self, path: tuple[str | int, ...], message: str) -> None:
        super().__init__(message)
        self.path = path


class Checked(Protocol):
    """A planner that knows what it wants of its route.

    `named_models`: models that it asks by name, candidates or not. `check` raises BadPlan if it cannot work among the route's candidates
    and the gateway's models. `instant`: False if `next` may block (it runs code), so that it must not run on an event loop.
    """

    @property
    def named_models(self) -> tuple[str, ...]: ...

    @property
    def instant(self) -> bool: ...

    def check(self, candidates: Sequence[str], models: Collection[str]) -> None: ...


def unfit(request: RouteRequest) -> Unfit | None:
    """Why a request must get one call, as far as the request itself tells; None if it may get several."""
    if request.endpoint != "chat":
        return "endpoint"
    if request.n > 1:
        return "n"
    return next((reason for need, reason in _NEEDS if need in request.needs), None)


def single(task: Task, reason: Unfit) -> Ask:
    """The one ask of the planner `single`; its purpose says why: "single: tools"."""
    return Ask(tuple(scored.name for scored in task.ranking), purpose=f"{SINGLE}{reason}")


def why_single(ask: Ask) -> str | None:
    """The reason in the purpose of such an ask; None if it is another one."""
    return ask.purpose.removeprefix(SINGLE) if ask.purpose.startswith(SINGLE) else None


def check_named(named: Sequence[str], models: Collection[str], path: tuple[str | int, ...]) -> None:
    """Raises BadPlan for a model that is asked by name and that there is not."""
    for name in named:
        if name not in models:
            raise BadPlan(path, f"there is no model named {name!r}; known: {', '.join(sorted(models))}")


def expected_cost(task: Task, names: Sequence[str]) -> float:
    """USD for one call of this request's size to each of these models. A candidate without a price may cost anything: infinity; a model
    that is no candidate and of which nothing is known counts as 0, since the gateway holds every ask to what is left.
    """
    return math.fsum(_cost(task, name) for name in names)


def _cost(task: Task, name: str) -> float:
    for scored in task.ranking:
        if scored.name == name and scored.cost_usd is not None:
            return scored.cost_usd
    if name not in task.models:
        return 0.0
    found = cost_of_request(task.request, Candidate(task.models[name]))
    return math.inf if found is None else found


def expected_seconds(turns: Sequence[Turn], name: str | None = None) -> float:
    """How long a call will take: as long as the model's own so far took on average, else as all did. 0 before the first one."""
    own = [turn.seconds for turn in turns if turn.ask.models[0] == name and turn.text is not None]
    seen = own or [turn.seconds for turn in turns if turn.text is not None]
    return math.fsum(seen) / len(seen) if seen else 0.0


def ended(left: Budget) -> bool:
    """Whether money or time is used up."""
    return (left.cost_usd is not None and left.cost_usd <= 0) or (left.seconds is not None and left.seconds <= 0)


def pays(left: Budget, cost_usd: float, seconds: float = 0.0) -> bool:
    """Whether what is left is expected to be enough."""
    enough = left.cost_usd is None or cost_usd <= left.cost_usd
    return enough and not ended(left) and (left.seconds is None or seconds <= left.seconds)


def answered(so_far: Transcript) -> list[Turn]:
    """The turns that may be the answer: those with a text whose purpose is `answer`, and final ones."""
    return [turn for turn in so_far.turns if turn.text is not None and (turn.ask.purpose == ANSWER or turn.ask.final)]


def quality(scored: Scored) -> float:
    """Expected quality; where nobody predicts it, the score."""
    return scored.score if scored.quality is None else scored.quality


def by_cost(task: Task) -> list[str]:
    """The candidates from the cheapest to the dearest; those of unknown price come last, equals in the picker's order."""
    return sorted((scored.name for scored in task.ranking), key=lambda name: _cost(task, name))

"""What a route's planner wants for one request. A planner that breaks costs its plan: then the ranking's first model answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from gateway.account.metrics import Metrics
from gateway.account.records import Decision
from gateway.fleet import Fleet
from gateway.flow.decide import Route
from gateway.flow.wire import Wire
from routers.api import Answer, Ask, Budget, Planner, RouteRequest, Task, Transcript
from routers.pipeline import step
from routers.planners.single import Single

Step = Sequence[Ask] | Answer


def final_of(wanted: Step) -> Ask | None:
    """The ask that is relayed, if that is what a planner wants."""
    return wanted[0] if not isinstance(wanted, Answer) and len(wanted) == 1 and wanted[0].final else None


@dataclass(frozen=True, slots=True)
class Plan:
    """A planner at work on one request. `first`: what it wants at the start. `label`: of its errors, in metrics."""

    planner: Planner
    task: Task
    first: Step
    label: str
    count_error: Callable[[str], None]
    threads: ThreadPoolExecutor

    async def next(self, so_far: Transcript, left: Budget) -> Step:
        """What it wants now. Nothing that it says in vain gets past here. A planner that computes for long does so in a thread."""
        if getattr(self.planner, "instant", True):
            wanted = step(self.planner, self.task, so_far, left)
        else:
            wanted = await asyncio.get_running_loop().run_in_executor(self.threads, step, self.planner, self.task, so_far, left)
        if wanted is None or (not isinstance(wanted, Answer) and not wanted and not so_far.running):
            self.count_error(self.label)
            return (self.fallback(),)
        return wanted

    def permitted(self, ask: Ask) -> Ask:
        """An ask of those models alone that the caller may use."""
        return replace(ask, models=tuple(name for name in ask.models if name in self.task.models and _may(self.task.request, name)))

    def fallback(self) -> Ask:
        """The ranking's first model answers, and the others may stand in for it."""
        return Ask(tuple(scored.name for scored in self.task.ranking))


class Plans:
    """Begins the plans of all routes. `threads`: where prompts are embedded for planners that want it."""

    def __init__(self, fleet: Fleet, routes: Mapping[str, Route], threads: ThreadPoolExecutor, metrics: Metrics) -> None:
        self._fleet = fleet
        self._routes = dict(routes)
        self._threads = threads
        self._metrics = metrics

    async def begin(self, decision: Decision, request: RouteRequest, wire: Wire, left: Budget) -> Plan | Ask:
        """The final ask, where one call makes the answer; else the plan."""
        route = self._routes.get(decision.route or "")
        if route is None:
            return Ask((decision.choice.model,))
        planner = route.policy.planner
        if isinstance(planner, Single) or wire.endpoint != "chat":
            return Ask(tuple(scored.name for scored in decision.choice.ranking if _may(request, scored.name)))
        task = await self._task(route, planner, decision, request, wire)
        plan = Plan(planner, task, (), "planner", lambda name: self._metrics.plugin_errors.labels(name).inc(), self._threads)
        first = await plan.next(Transcript(), left)
        final = final_of(first)
        return replace(plan, first=first) if final is None else plan.permitted(final)

    async def _task(self, route: Route, planner: Planner, decision: Decision, request: RouteRequest, wire: Wire) -> Task:
        ranking = [scored for scored in decision.choice.ranking if _may(request, scored.name)]
        if planner.needs & {"text", "embedding"}:
            request = replace(request, text=wire.prompt.text(route.text_cap))
        encoder = getattr(planner, "encoder", None)
        if "embedding" in planner.needs and encoder is not None:
            loop = asyncio.get_running_loop()
            vectors = await loop.run_in_executor(self._threads, encoder.encode, [request.text])
            request = replace(request, embedding=vectors[0])
        return Task(request, ranking, {served.model.name: served.model for served in self._fleet})


def _may(request: RouteRequest, name: str) -> bool:
    return request.allowed is None or name in request.allowed

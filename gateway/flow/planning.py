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
from routers.planners.plain import SINGLE
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
        return replace(ask, models=tuple(name for name in ask.models if name in self.task.models and may_ask(self.task.request, name)))

    def fallback(self) -> Ask:
        """The ranking's first model answers, and the others may stand in for it."""
        return Ask(tuple(scored.name for scored in self.task.ranking))


class Plans:
    """Begins the plans of all routes. `threads`: where prompts are embedded for planners that want it."""

    def __init__(self, fleet: Fleet, routes: Mapping[str, Route], threads: ThreadPoolExecutor, metrics: Metrics) -> None:
        self._fleet = fleet
        self._planned = {name: route for name, route in routes.items() if not isinstance(route.policy.planner, Single)}
        self._threads = threads
        self._metrics = metrics

    def planned(self, decision: Decision) -> Route | None:
        """The decision's route, if its planner may make several calls; None: one call makes the answer always."""
        return self._planned.get(decision.route or "") if self._planned else None

    def models(self, decision: Decision, request: RouteRequest) -> tuple[str, ...]:
        """Who answers where one call makes the answer, and who may stand in."""
        if decision.route is None:
            return (decision.choice.model,)
        ranking = decision.choice.ranking
        if request.allowed is None:
            return tuple([scored.name for scored in ranking])
        return tuple(scored.name for scored in ranking if may_ask(request, scored.name))

    async def begin(self, route: Route, decision: Decision, request: RouteRequest, wire: Wire, left: Budget) -> Plan:
        """The plan of a planned route, and what it wants first. A request that must get one call gets it, and its planner is not asked."""
        planner = route.policy.planner
        task = await self._task(route, planner, decision, request, wire)
        plan = Plan(planner, task, (), "planner", self._count_error, self._threads)
        if decision.single is not None:
            return replace(plan, first=(replace(plan.fallback(), purpose=f"{SINGLE}{decision.single}"),))
        return replace(plan, first=await plan.next(Transcript(), left))

    def _count_error(self, name: str) -> None:
        self._metrics.plugin_errors.labels(name).inc()

    async def _task(self, route: Route, planner: Planner, decision: Decision, request: RouteRequest, wire: Wire) -> Task:
        ranking = [scored for scored in decision.choice.ranking if may_ask(request, scored.name)]
        models = {served.model.name: served.model for served in self._fleet}
        if decision.single is not None:
            return Task(request, ranking, models)
        if planner.needs & {"text", "embedding"}:
            request = replace(request, text=wire.prompt.text(route.text_cap))
        encoder = getattr(planner, "encoder", None)
        if "embedding" in planner.needs and encoder is not None:
            loop = asyncio.get_running_loop()
            vectors = await loop.run_in_executor(self._threads, encoder.encode, [request.text])
            request = replace(request, embedding=vectors[0])
        return Task(request, ranking, models)


def may_ask(request: RouteRequest, name: str) -> bool:
    """Whether the caller may use this model."""
    return request.allowed is None or name in request.allowed

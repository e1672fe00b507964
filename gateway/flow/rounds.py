"""Carries out a plan: asks models, tells the planner what came of it, until it ends. Every ask goes the way of any request.

Every ask is written down with what it cost, however it ended: what was cancelled while a model worked on it has cost something too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from msgspec import structs

from backends.retry import Outcome
from gateway.account.costs import Usage, cost_usd
from gateway.account.planned import Planned, Round, Step
from gateway.account.records import Attempt, Record
from gateway.errors import GatewayError
from gateway.fleet import Fleet
from gateway.flow.execute import Errand, Executor, Reply
from gateway.flow.inner import read_answer, size_of, wire_of, work_of
from gateway.flow.planning import Plan, final_of
from gateway.flow.purse import Bound, Held, Price, Purse
from gateway.flow.refusals import cheapest, unpaid
from gateway.flow.wire import Wire
from routers.api import Answer, Ask, Budget, RouteRequest, Transcript, Turn
from routers.expectation import expected_cost, possible_cost
from routers.planners.plain import answered

MOST_ASKS = 64
"""For one request, whatever its planner wants."""

SILENCE_SECONDS = 10.0
"""A client hears something at least so often."""

CANCELLED = "cancelled"
"""The error of a turn whose ask was ended before it had an answer: nobody needed it any more, or the client left."""
_BROKEN_OFF = ("cancelled", "total_timeout")
"""How an attempt ends that a model was at work on."""


class Listener(Protocol):
    """Hears of a plan as it goes on."""

    async def hear(self, turn: Turn) -> None:
        """An ask in between is over."""

    async def wait(self) -> None:
        """Nothing has happened for SILENCE_SECONDS."""


@dataclass(slots=True)
class _Course:
    """A plan on its way. `asked`: by its planner so far. `refused`: a final ask could not be paid."""

    plan: Plan
    wire: Wire
    errand: Errand
    purse: Purse
    record: Record
    planned: Planned
    running: dict[asyncio.Task[Round], tuple[Ask, int]] = field(default_factory=dict)
    asked: int = 0
    refused: bool = False


@dataclass(slots=True)
class _Call:
    """One ask on its way. `own`: the request that it is. `begun`: on the clock. `trail`: its attempts. `held`: money for it."""

    ask: Ask
    number: int
    own: RouteRequest
    begun: float
    trail: list[Attempt] = field(default_factory=list)
    held: Held | None = None


class Rounds:
    """For all requests. `clock`: that of the errands' deadlines."""

    def __init__(self, executor: Executor, fleet: Fleet, *, clock: Callable[[], float]) -> None:
        self._executor = executor
        self._fleet = fleet
        self._clock = clock

    async def run(
        self, plan: Plan, wire: Wire, errand: Errand, purse: Purse, record: Record, planned: Planned, listener: Listener
    ) -> Ask | Answer:
        """How the plan ends: with an answer, or with an ask of models that may answer and are paid for.

        Every turn is written into `planned`. What still runs at the end is cancelled, and its connections close. Raises GatewayError if
        there is no money for any answer.
        """
        course, wanted = _Course(plan, wire, errand, purse, record, planned), plan.first
        try:
            while True:
                final = final_of(wanted)
                if isinstance(wanted, Answer):
                    planned.end = wanted
                    return wanted
                if final is None and not self._start(course, wanted):
                    return await self._last(course, plan.fallback())
                if final is not None:
                    end = await self._final(course, final)
                    if end is not None:
                        return end
                else:
                    for one in await self._wait(course, listener):
                        planned.rounds.append(one)
                        await listener.hear(one.turn)
                wanted = await self._next(course)
        finally:
            await self._end(course)

    def left(self, purse: Purse, errand: Errand) -> Budget:
        """What is left of the caller's bounds."""
        return Budget(purse.left, None if errand.deadline is None else max(0.0, errand.deadline - self._clock()))

    async def _next(self, course: _Course) -> Sequence[Ask] | Answer:
        left, planned = self.left(course.purse, course.errand), course.planned
        planned.steps.append(Step(len(planned.rounds), left))
        return await course.plan.next(Transcript(planned.turns, tuple(ask for ask, _ in course.running.values())), left)

    def _start(self, course: _Course, asks: Sequence[Ask]) -> bool:
        """Whether there is something to wait for now. Beyond MOST_ASKS nobody is asked any more."""
        if course.asked + len(asks) > MOST_ASKS:
            return False
        for ask in asks:
            course.running[asyncio.ensure_future(self._ask(course, ask, course.asked))] = (ask, course.asked)
            course.asked += 1
        return bool(course.running)

    async def _wait(self, course: _Course, listener: Listener) -> Sequence[Round]:
        """The rounds that ended next, at least one."""
        running = course.running
        while True:
            done, _ = await asyncio.wait(running, timeout=SILENCE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if done:
                ended = [task for task in running if task in done]
                for task in ended:
                    del running[task]
                return [task.result() for task in ended]
            await listener.wait()

    async def _end(self, course: _Course) -> None:
        """Cancels what runs, and writes down what came of it, even if this is cancelled itself meanwhile."""
        for task in course.running:
            task.cancel()
        waiting, interrupted = set(course.running), None
        while waiting:
            try:
                _, waiting = await asyncio.wait(waiting)
            except asyncio.CancelledError as error:
                interrupted = error
        for task, (ask, number) in course.running.items():
            if task.cancelled():  # before it began
                turn = Turn(ask, ask.models[0], None, None, 0.0, CANCELLED)
                course.planned.rounds.append(Round(turn, number, self._clock() - course.planned.started))
            elif task.exception() is None:
                course.planned.rounds.append(task.result())
        course.running.clear()
        if interrupted is not None:
            raise interrupted

    async def _ask(self, course: _Course, ask: Ask, number: int) -> Round:
        """What came of an ask; also when it was cancelled."""
        call = _Call(ask, number, self._own(course, ask), self._clock())
        try:
            found = await self._carry_out(course, call)
        except GatewayError as error:
            found = self._failed(course, call, error.code)
        except asyncio.CancelledError:
            found = self._failed(course, call, CANCELLED)
        course.record.attempts += call.trail
        if call.held is not None:
            unknown = found.turn.cost_usd is None and (found.turn.error is None or found.estimated)
            course.purse.settle(call.held, None if unknown else found.turn.cost_usd or 0.0)
        return found

    async def _carry_out(self, course: _Course, call: _Call) -> Round:
        models = course.plan.permitted(call.ask).models
        if not models:
            return self._failed(course, call, "not_allowed")
        held = await course.purse.hold(self._price(models, call.own))
        if not isinstance(held, Held):
            return self._failed(course, call, held)
        call.held = held
        course.planned.calls += 1
        inner = wire_of(course.wire, call.ask)
        work = work_of(course.errand.work, call.ask, call.own.prompt_tokens)
        errand = structs.replace(course.errand, models=models, wire=inner, work=work, purpose=call.ask.purpose)
        reply = await self._executor.open(errand, call.trail)
        reply.close(Outcome(status=reply.status))
        if reply.passed_on:
            return self._failed(course, call, f"status {reply.status}")
        return self._answered(course, call, reply)

    def _answered(self, course: _Course, call: _Call, reply: Reply) -> Round:
        served, usage = reply.served.model, reply.usage
        if usage is not None:
            self._fleet.observe(served.name, usage, size_of(course.wire, call.ask))
        counted = usage or Usage(call.own.prompt_tokens, self._fleet.estimate.tokens(len(reply.first)))
        read, cost = read_answer(reply.first), cost_usd(served.price, counted)
        tokens = (counted.prompt_tokens, counted.completion_tokens)
        seconds = self._clock() - call.begun
        turn = Turn(call.ask, served.name, read.text, cost, seconds, None, *tokens, read.logprobs, read.finish)
        return Round(turn, call.number, call.begun - course.planned.started, usage is None)

    def _failed(self, course: _Course, call: _Call, error: str) -> Round:
        """An ask without an answer. If a model was at work on it, it has read the prompt."""
        seconds, started = self._clock() - call.begun, call.begun - course.planned.started
        if error not in (CANCELLED, "deadline_exceeded") or not call.trail or call.trail[-1].outcome not in _BROKEN_OFF:
            return Round(Turn(call.ask, call.ask.models[0], None, None, seconds, error), call.number, started)
        model, usage = call.trail[-1].model, Usage(call.own.prompt_tokens, 0)
        cost = cost_usd(self._fleet[model].model.price, usage)
        turn = Turn(call.ask, model, None, cost, seconds, error, usage.prompt_tokens, usage.completion_tokens)
        return Round(turn, call.number, started, estimated=True)

    async def _final(self, course: _Course, ask: Ask) -> Ask | Answer | None:
        """The ask that is to be relayed; None if there is no money for it, and the planner has another word.

        From then on it is told that nothing is left. If it wants another one all the same, that is the last.
        """
        if course.refused or course.record.decision.single is not None or course.asked >= MOST_ASKS:
            return await self._last(course, ask)
        paid = await self._paid(course, ask)
        if isinstance(paid, Ask):
            return paid
        course.refused = True
        course.purse.close()
        turn = Turn(ask, ask.models[0], None, None, 0.0, paid)
        course.planned.rounds.append(Round(turn, course.asked, self._clock() - course.planned.started))
        course.asked += 1
        return None

    async def _last(self, course: _Course, ask: Ask) -> Ask | Answer:
        """The ask that is to be relayed; else the newest answer that there is. Raises GatewayError if there is none."""
        paid = await self._paid(course, ask)
        if isinstance(paid, Ask):
            return paid
        given = answered(Transcript(course.planned.turns))
        if given:
            course.planned.end = end = Answer(given[-1].text or "", given[-1].model)
            return end
        own, price = self._own(course, ask), possible_cost if paid == "budget" else expected_cost
        raise unpaid(paid, cheapest({name: price(own, self._fleet.candidate(name)) for name in ask.models}))

    async def _paid(self, course: _Course, ask: Ask) -> Ask | Bound:
        """A final ask of its models from the first one on that there is money for; or which bound pays for none.

        It is held to what calls of its kind usually cost, as a request of one call is, and to the dearest that it may cost where a budget
        pays. What stands in for a model may be dearer.
        """
        permitted, own, bound = course.plan.permitted(ask), self._own(course, ask), None
        for place, name in enumerate(permitted.models):
            candidate = self._fleet.candidate(name)
            likely = expected_cost(own, candidate) if course.planned.rounds else 0.0  # else the filters have looked at it already
            held = await course.purse.hold(Price(likely, possible_cost(own, candidate)))
            if isinstance(held, Held):
                course.planned.end = ask
                return replace(permitted, models=permitted.models[place:])
            bound = held
        if bound is None:
            course.planned.end = ask
        return bound or permitted

    def _own(self, course: _Course, ask: Ask) -> RouteRequest:
        """An ask as a request of its own, for what it may cost."""
        request, wire = course.plan.task.request, course.wire
        tokens = request.prompt_tokens if ask.prompt is None else self._fleet.estimate.tokens(size_of(wire, ask))
        most = wire.max_tokens if ask.max_tokens is None else ask.max_tokens
        return replace(request, prompt_tokens=tokens, max_tokens=most, n=wire.n if ask.final else 1)

    def _price(self, models: Sequence[str], own: RouteRequest) -> Price:
        """Of an ask in between, at the dearest of its models: at most, where its answer is bounded, else also as answers usually are."""
        candidates = [self._fleet.candidate(name) for name in models]
        most = _dearest([possible_cost(own, candidate) for candidate in candidates])
        if own.max_tokens is not None:
            return Price(most, most)
        return Price(_dearest([expected_cost(own, candidate) for candidate in candidates]), most)


def _dearest(costs: Sequence[float | None]) -> float | None:
    return None if any(cost is None for cost in costs) else max(cost for cost in costs if cost is not None)

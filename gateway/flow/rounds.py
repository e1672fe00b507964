"""Carries out a plan: asks models, tells the planner what came of it, until it ends. Every ask goes the way of any request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from msgspec import structs

from backends.retry import Outcome
from gateway.account.costs import cost_usd
from gateway.account.records import Record
from gateway.errors import GatewayError
from gateway.fleet import Fleet
from gateway.flow.execute import Errand, Executor
from gateway.flow.inner import read_answer, wire_of
from gateway.flow.planning import Plan, Step, final_of
from gateway.flow.wire import Wire
from routers.api import Answer, Ask, Budget, RouteRequest, Transcript, Turn
from routers.expectation import expected_cost, possible_cost

MOST_ASKS = 64
"""For one request, whatever its planner wants."""

SILENCE_SECONDS = 10.0
"""A client hears something at least so often."""


class Listener(Protocol):
    """Hears of a plan as it goes on."""

    async def hear(self, turn: Turn) -> None:
        """An ask in between is over."""

    async def wait(self) -> None:
        """Nothing has happened for SILENCE_SECONDS."""


def least(*amounts: float | None) -> float | None:
    """The smallest of those that are bounds; None if none is."""
    return min((amount for amount in amounts if amount is not None), default=None)


class Purse:
    """What a request may spend. `most`: USD; None: as much as it takes. Money for asks that are under way is held."""

    def __init__(self, most: float | None) -> None:
        self._most = most
        self._spent = 0.0

    @property
    def left(self) -> float | None:
        return None if self._most is None else max(0.0, self._most - self._spent)

    def hold(self, cost: float | None) -> bool:
        """Whether there is as much. An unknown cost is not paid for where money is bounded."""
        if self._most is None:
            return True
        if cost is None or cost > self._most - self._spent:
            return False
        self._spent += cost
        return True

    def settle(self, held: float | None, cost: float | None) -> None:
        """What was held is free again, and what it did cost is spent; as much as was held, if that is unknown."""
        if self._most is not None:
            self._spent += (held if cost is None else cost) or 0.0
            self._spent -= held or 0.0


class Rounds:
    """For all requests. `clock`: that of the errands' deadlines."""

    def __init__(self, executor: Executor, fleet: Fleet, *, clock: Callable[[], float]) -> None:
        self._executor = executor
        self._fleet = fleet
        self._clock = clock

    async def run(self, plan: Plan, wire: Wire, errand: Errand, purse: Purse, record: Record, listener: Listener) -> Ask | Answer:
        """How the plan ends. Every turn is written into `record`. What still runs at the end is cancelled, and its connections close."""
        running: dict[asyncio.Task[Turn], Ask] = {}
        wanted, asked = plan.first, 0
        try:
            while True:
                ended = _ended(wanted)
                if ended is not None:
                    return ended if isinstance(ended, Answer) else plan.permitted(ended)
                asks = () if isinstance(wanted, Answer) else tuple(wanted)
                asked += len(asks)
                if asked > MOST_ASKS or (not asks and not running):
                    return plan.fallback()
                for ask in asks:
                    running[asyncio.ensure_future(self._ask(plan, ask, wire, errand, purse, record))] = ask
                for turn in await self._wait(running, listener):
                    record.turns.append(turn)
                    await listener.hear(turn)
                wanted = await plan.next(Transcript(tuple(record.turns), tuple(running.values())), self._left(purse, errand))
        finally:
            await _end(running)

    def _left(self, purse: Purse, errand: Errand) -> Budget:
        return Budget(purse.left, None if errand.deadline is None else max(0.0, errand.deadline - self._clock()))

    async def _wait(self, running: dict[asyncio.Task[Turn], Ask], listener: Listener) -> Sequence[Turn]:
        """The turns that ended next, at least one."""
        while True:
            done, _ = await asyncio.wait(running, timeout=SILENCE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if done:
                ended = [task for task in running if task in done]
                for task in ended:
                    del running[task]
                return [task.result() for task in ended]
            await listener.wait()

    async def _ask(self, plan: Plan, ask: Ask, wire: Wire, errand: Errand, purse: Purse, record: Record) -> Turn:
        started, models = self._clock(), plan.permitted(ask).models

        def failed(error: str) -> Turn:
            return Turn(ask, ask.models[0], None, None, self._clock() - started, error)

        if not models:
            return failed("not_allowed")
        inner = wire_of(wire, ask)
        held = self._most(models, plan.task.request, inner)
        if not purse.hold(held):
            return failed("max_cost")
        cost = 0.0 if held is None else None
        try:
            reply = await self._executor.open(structs.replace(errand, models=models, wire=inner), record.attempts)
            reply.close(Outcome(status=reply.status))
            served, usage = reply.served.model, reply.usage
            if reply.passed_on:
                cost = 0.0
                return failed(f"status {reply.status}")
            cost = cost_usd(served.price, usage)
            if usage is not None:
                self._fleet.observe(served.name, usage, inner.prompt.size)
            read, seconds = read_answer(reply.first), self._clock() - started
            tokens = (None, None) if usage is None else (usage.prompt_tokens, usage.completion_tokens)
            return Turn(ask, served.name, read.text, cost, seconds, None, *tokens, read.logprobs, read.finish)
        except GatewayError as error:
            cost = 0.0
            return failed(error.code)
        finally:
            purse.settle(held, cost)

    def _most(self, models: Sequence[str], request: RouteRequest, wire: Wire) -> float | None:
        """USD that an ask may cost at the dearest of its models: at most, where its answer is bounded, else as answers usually are."""
        own = replace(request, max_tokens=wire.max_tokens, n=wire.n)
        costs = []
        for name in models:
            candidate = self._fleet.candidate(name)
            costs.append(expected_cost(own, candidate) if wire.max_tokens is None else possible_cost(own, candidate))
        return None if any(cost is None for cost in costs) else max(cost for cost in costs if cost is not None)


def _ended(wanted: Step) -> Ask | Answer | None:
    return wanted if isinstance(wanted, Answer) else final_of(wanted)


async def _end(running: dict[asyncio.Task[Turn], Ask]) -> None:
    for task in running:
        task.cancel()
    if running:
        await asyncio.wait(running)

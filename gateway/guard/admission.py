"""Waiting for a place at a backend when all are taken: bounded, fair between callers, and given up as soon as it is in vain."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

from gateway.guard.callers import Priority
from gateway.guard.lines import Bounds, Lines, Rejected, Ticket, Waiter

T = TypeVar("T")


def class_of(key: Priority, wish: Priority | None) -> Priority:
    """A request's class. `key`: of its caller. `wish`: the request's own. Whoever says `batch` is heard; nothing lifts a batch key."""
    return "batch" if "batch" in (key, wish) else "interactive"


class Admission(Generic[T]):
    """The lines before the backends. T is a place, whatever the caller makes of it. `clock`: monotonic seconds, that of the tickets.

    When places may have become free for a model, `freed` must be called; it hands out all that there are.
    """

    def __init__(self, bounds: Mapping[Priority, Bounds], batch_share: float, *, clock: Callable[[], float]) -> None:
        self._lines: Lines[T] = Lines(bounds, batch_share)
        self._turns: dict[Waiter[T], asyncio.Future[T]] = {}
        self._clock = clock

    @property
    def waiting(self) -> Mapping[Priority, int]:
        """How many requests of each class wait."""
        return self._lines.waiting

    def must_wait(self, models: Sequence[str], priority: Priority) -> bool:
        """Whether a newcomer has to get in line, as others of its class or a higher one wait for every model that it could use."""
        return bool(self._turns) and self._lines.must_wait(models, priority)

    async def wait(self, ticket: Ticket, find: Callable[[], T | None], give_back: Callable[[T], None]) -> T:
        """Returns a place when it is this request's turn.

        `find` takes a free place and returns it, or None; it is called from `freed`, does not wait and does not raise. `give_back` returns
        a place that came at the moment in which whoever waited was cancelled. Raises Rejected: 429 with an honest `retry_after`, or
        "deadline_exceeded" when the ticket's deadline leaves no time.
        """
        turn: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        waiter = self._lines.enter(ticket, find, turn.done)
        self._turns[waiter] = turn
        timer = asyncio.get_running_loop().call_later(waiter.latest - ticket.arrived, self._late, waiter)
        try:
            self._ring(ticket.models)
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                give_back(turn.result())
            self._leave(waiter)
            # What was offered to this one alone, or passed it while it left, is somebody else's now.
            self._ring(ticket.models)
            raise
        finally:
            timer.cancel()
            self._leave(waiter)

    def freed(self, model: str) -> None:
        """Places of this model may be free: whoever is next takes them. Those who wait in vain are told so."""
        if not self._turns:
            return
        now = self._clock()
        while (given := self._lines.next(model, now)) is not None:
            waiter, place = given
            self._turns.pop(waiter).set_result(place)
        for waiter, seconds in self._lines.sweep(model, now):
            self._reject(waiter, Rejected("wait_too_long", seconds))

    def _ring(self, models: Sequence[str]) -> None:
        for model in models:
            self.freed(model)

    def _leave(self, waiter: Waiter[T]) -> None:
        self._lines.leave(waiter, self._clock())
        self._turns.pop(waiter, None)

    def _late(self, waiter: Waiter[T]) -> None:
        now = self._clock()
        self._lines.leave(waiter, now)
        self._reject(waiter, Rejected(waiter.late, self._lines.wait(waiter.ticket, now)))

    def _reject(self, waiter: Waiter[T], rejected: Rejected) -> None:
        turn = self._turns.pop(waiter, None)
        if turn is not None and not turn.done():
            turn.set_exception(rejected)

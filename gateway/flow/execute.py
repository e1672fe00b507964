"""The one attempt loop: from an order of models to an answer whose first bytes are here, or the error that the client gets.

Nothing has gone to the client yet, so whatever fails here goes to the next backend or the next model: a refused or reset connection,
a timeout before the first byte, 408, 429 and 5xx, a stream that ends before its first event, a whole answer that breaks off. Once the
first byte is out (`relay`), nothing is ever tried again.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from random import Random
from typing import Any

from msgspec import Struct, structs

from backends.api import BackendError, Call, Header, InvalidResponse, Response, Take
from backends.pool import Backend
from backends.retry import Outcome, Retries, RetryBudget, delay, is_retryable, parse_retry_after
from backends.work import NOTHING, Work
from gateway.account.costs import Usage
from gateway.account.records import Attempt
from gateway.account.tracing import NO_ASK, NO_TRACE, AskSpan, Trace
from gateway.errors import GatewayError
from gateway.fleet import Fleet, Served
from gateway.flow.answers import Malformed, usage_of
from gateway.flow.failures import Failure, as_error, failure_in
from gateway.flow.hedge import race
from gateway.flow.sse import EventTooLarge, Splitter, data_of, events
from gateway.flow.wire import Wire
from gateway.guard.admission import Admission
from gateway.guard.callers import Priority
from gateway.guard.lines import Rejected, Ticket
from routers.api import Endpoint

PATHS: dict[Endpoint, str] = {"chat": "/chat/completions", "completions": "/completions", "embeddings": "/embeddings"}
MAX_ERROR_BYTES = 1_000_000
HOPE_SECONDS = 0.8
"""So long a request waits for the one call that tries a backend while nobody is in service."""


class Errand(Struct, frozen=True, gc=False):
    """What is to be answered. `models`: who may, in this order. `headers`: sent along. `deadline`: on the clock; None for none.

    `work`: what pools know of it. `caller`: id of whoever asked; with `priority` it says whose turn it is where requests wait.
    `trace`: hears of each call; `purpose`: what a planner makes it for.
    """

    models: Sequence[str]
    wire: Wire
    headers: Sequence[Header]
    deadline: float | None = None
    work: Work = NOTHING
    caller: str = "anyone"
    priority: Priority = "interactive"
    trace: Trace = NO_TRACE
    purpose: str = ""


class Place(Struct, frozen=True, gc=False):
    """A backend that has been told that a call starts; `work` and `era` are what it will be told again at the end."""

    served: Served
    backend: Backend
    work: Work
    era: int

    def answered(self, seconds: float, stream: bool, outcome: Outcome) -> None:
        """The first token of a stream, or a whole answer, is here so long after the start; or there will be none."""
        if self.backend.answered(seconds if stream else None, outcome, self.era):
            self.served.heard(seconds, stream)

    def leave(self, outcome: Outcome) -> None:
        """The call is over."""
        self.backend.finished(outcome, self.work, self.era)


class Reply:
    """An answer that has begun. `first`: its first events, or the whole of it. Close it, whatever happens.

    `passed_on`: a client error of the backend, which goes to the client as it came. `usage`: in a whole answer; of a stream, once it is
    known. `span`: hears of its end.
    """

    __slots__ = ("_place", "_response", "first", "headers", "passed_on", "served", "span", "splitter", "status", "usage")

    def __init__(self, place: Place, response: Response, first: bytes, splitter: Splitter | None, usage: Usage | None = None) -> None:
        self.served = place.served
        self.status = response.status
        self.headers = response.headers
        self.first = first
        self.usage = usage
        self.splitter = splitter
        self.passed_on = response.status >= 400
        self.span: AskSpan = NO_ASK
        self._place = place
        self._response = response

    @property
    def label(self) -> str:
        """For metrics and records: how the attempt ended."""
        return str(self.status) if self.passed_on else "ok"

    def read(self) -> Awaitable[bytes]:
        """The next bytes of a stream; b"" at its end. Raises BackendError."""
        return self._response.read()

    def pour(self, take: Take) -> Awaitable[bool]:
        """The bytes of a stream as they come; see `Response.pour`."""
        return self._response.pour(take)

    def close(self, outcome: Outcome) -> None:
        """Frees the connection (or closes it, if the answer was not read to its end) and tells the backend how it went."""
        self._response.close()
        self._place.leave(outcome)
        self.span.end(outcome, self.usage)


class Executor:
    """Asks backends until one answers. `wait_seconds`: how long a request waits for room in the budget of retries."""

    def __init__(
        self,
        fleet: Fleet,
        admission: Admission[Place],
        budget: RetryBudget,
        max_attempts: int,
        wait_seconds: float,
        max_answer_bytes: int,
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        rng: Random,
    ) -> None:
        self._fleet = fleet
        self._admission = admission
        self._budget = budget
        self._max_attempts = max_attempts
        self._wait_seconds = wait_seconds
        self._max_answer_bytes = max_answer_bytes
        self._clock = clock
        self._wall_clock = wall_clock
        self._rng = rng

    async def open(self, errand: Errand, trail: list[Attempt]) -> Reply:
        """The first answer that any of the errand's models gives. `trail` gets every attempt. Raises GatewayError."""
        tried: set[Backend] = set()
        with self._budget.request() as retries:
            while True:
                place = await self._place(errand, tried)
                tried.add(place.backend)
                late = place.served.late_after(errand.wire.stream)
                if late is None:
                    found = await self._noted(place, errand, trail)
                else:
                    found = await self._hedged(place, late, errand, tried, retries, trail)
                if isinstance(found, Reply):
                    return found
                if not await self._may_retry(found, errand, tried, len(trail), retries):
                    raise as_error(found, found.outcome.cancelled or (errand.deadline is not None and self._clock() >= errand.deadline))
                if not self._is_left(errand, tried):
                    tried.clear()
                    await asyncio.sleep(delay(len(trail), found.retry_after, self._rng))

    async def _place(self, errand: Errand, tried: set[Backend]) -> Place:
        """A place at a backend, at once or when it is this errand's turn. Raises GatewayError.

        Whoever chose a model that sleeps knew that it does: it is woken, and the others stand in only if that takes too long.
        """
        residence = self._fleet[errand.models[0]].pool.residence if errand.models else None
        if residence is None:
            return await self._search(errand, tried)
        residence.arrived()
        try:
            if residence.may_wait() and len(errand.models) > 1:
                with suppress(GatewayError):
                    return await self._search(structs.replace(errand, models=errand.models[:1]), tried)
            return await self._search(errand, tried)
        finally:
            residence.left()

    async def _search(self, errand: Errand, tried: set[Backend]) -> Place:
        in_line = bool(errand.models) and self._admission.must_wait(errand.models, errand.priority)
        place = None if in_line else self._take(errand, tried)
        if place is not None:
            return place
        pools = [self._fleet[name].pool for name in errand.models]
        nobody = GatewayError("no_healthy_backend", "no backend of the models that may answer is up", retry_after=1)
        if not any(pool.may_wait(tried) or (in_line and pool.usable()) for pool in pools):
            raise nobody
        # With nobody in service there is a call that tries the least bad: what comes of it is worth a moment, and no more.
        hopes = not any(pool.serves(tried) for pool in pools)
        now = self._clock()
        deadline, needs = errand.deadline, 0.0 if hopes else self._needs(errand)
        if hopes:
            deadline = min(now + HOPE_SECONDS, math.inf if deadline is None else deadline)
        ticket = Ticket(tuple(errand.models), errand.caller, errand.priority, deadline, now, needs)
        try:
            return await self._admission.wait(ticket, lambda: self._take(errand, tried), lambda place: place.leave(Outcome(cancelled=True)))
        except Rejected as rejected:
            if hopes and not (rejected.reason == "deadline" and errand.deadline == deadline):
                raise nobody from None
            raise

    def _needs(self, errand: Errand) -> float:
        """Seconds that most answers of the quickest of its models take to begin, once they have a place; 0 while nothing is known."""
        known = (self._fleet[name].usual_start(errand.wire.stream) for name in errand.models)
        return min((seconds for seconds in known if seconds is not None), default=0.0)

    def _take(self, errand: Errand, tried: set[Backend]) -> Place | None:
        """A place at the first model that has one; with none of them in service, at the least bad backend."""
        for name in errand.models:
            served = self._fleet[name]
            backend = served.pool.pick(errand.work, tried)
            if backend is not None:
                return Place(served, backend, errand.work, backend.started(errand.work))
        if any(self._fleet[name].pool.in_service() for name in errand.models):
            return None
        for name in errand.models:
            served = self._fleet[name]
            backend = served.pool.least_bad(tried)
            if backend is not None:
                return Place(served, backend, errand.work, backend.started(errand.work))
        return None

    def _is_left(self, errand: Errand, tried: set[Backend]) -> bool:
        """Whether some backend that was not tried yet can be had, or waited for."""
        pools = [self._fleet[name].pool for name in errand.models]
        return any(pool.pick(excluded=tried) is not None or (pool.in_service() and pool.may_wait(tried)) for pool in pools)

    async def _may_retry(self, failure: Failure, errand: Errand, tried: set[Backend], attempts: int, retries: Retries) -> bool:
        """Whether there may be one more attempt. Where somebody is left to ask, it is worth to wait for the budget."""
        if not is_retryable(failure.outcome) or attempts >= self._max_attempts:
            return False
        if not any(self._fleet[name].pool.in_service() for name in errand.models):
            return False
        left = math.inf if errand.deadline is None else errand.deadline - self._clock()
        seconds = min(left, self._wait_seconds) if self._is_left(errand, tried) else 0.0
        return left > 0 and await retries.wait(seconds, lambda: self._is_left(errand, tried))

    async def _hedged(
        self, place: Place, late: float, errand: Errand, tried: set[Backend], retries: Retries, trail: list[Attempt]
    ) -> Reply | Failure:
        """An attempt, and another one beside it if the first one's answer is late."""
        waiting = [place]

        def second() -> Coroutine[Any, Any, Reply | Failure] | None:
            other = self._take(errand, tried) if len(trail) + 1 < self._max_attempts else None
            if other is None:
                return None
            if not retries.acquire():
                other.leave(Outcome(cancelled=True))
                return None
            tried.add(other.backend)
            waiting.append(other)
            return self._noted(other, errand, trail, waiting)

        try:
            return await race(self._noted(place, errand, trail, waiting), late, second, wins=_is_reply, discard=_discard)
        finally:
            for unused in waiting:  # cancelled before it began
                unused.leave(Outcome(cancelled=True))

    async def _noted(self, place: Place, errand: Errand, trail: list[Attempt], waiting: list[Place] | None = None) -> Reply | Failure:
        """An attempt that is written down, however it ends. `waiting`: places whose attempts have not begun."""
        if waiting is not None:
            waiting.remove(place)
        started, label = self._clock(), "cancelled"
        try:
            found = await (self._attempt(place, errand) if errand.deadline is None else self._in_time(place, errand, errand.deadline))
            label = found.label
        finally:
            trail.append(Attempt(place.served.model.name, place.backend.name, label, self._clock() - started))
        if isinstance(found, Failure) and found.retry_after:
            place.backend.rest(found.retry_after)
        return found

    async def _in_time(self, place: Place, errand: Errand, deadline: float) -> Reply | Failure:
        """An attempt within what is left of the request's own time. The client's impatience is no fault of the backend."""
        try:
            async with asyncio.timeout(max(0.0, deadline - self._clock())):
                return await self._attempt(place, errand)
        except TimeoutError:
            return Failure(Outcome(kind="total_timeout", cancelled=True))

    async def _attempt(self, place: Place, errand: Errand) -> Reply | Failure:
        served, started = place.served, self._clock()
        span = errand.trace.ask(served.model.name, place.backend.served_as, place.backend.url, errand.wire, errand.purpose)
        path, body = PATHS[errand.wire.endpoint], errand.wire.body(served.served_json)
        call = Call("POST", path, (*served.headers, *errand.headers, *span.headers), body, served.timeouts)
        response: Response | None = None
        outcome, is_open = Outcome(cancelled=True), False
        try:
            response = await place.backend.transport.send(call)
            found = await self._receive(place, errand, response)
            if isinstance(found, Reply):
                is_open, outcome, found.span = True, Outcome(status=found.status), span
                span.answered(self._clock() - started)
            else:
                outcome = found.outcome
            return found
        except BackendError as error:
            outcome = Outcome(kind=error.kind)
            return Failure(outcome)
        finally:
            place.answered(self._clock() - started, errand.wire.stream, outcome)
            if not is_open:
                span.end(outcome, None)
                if response is not None:
                    response.close()
                place.leave(outcome)

    async def _receive(self, place: Place, errand: Errand, response: Response) -> Reply | Failure:
        status, stream = response.status, errand.wire.stream
        media = _header(response, b"content-type").partition(b";")[0].strip().lower()
        if status == 200 and _header(response, b"content-encoding").strip().lower() in (b"", b"identity"):
            if stream and media == b"text/event-stream":
                return await self._receive_stream(place, errand, response)
            if media == b"application/json" and not stream:
                return await self._receive_whole(place, response)
        elif status >= 400:
            return await self._receive_error(place, errand, response, media)
        raise InvalidResponse("invalid", f"status {status} with content type {media[:60].decode('latin-1')!r}")

    async def _receive_whole(self, place: Place, response: Response) -> Reply:
        body = await _whole(response, self._max_answer_bytes)
        try:
            return Reply(place, response, body, None, usage_of(body))
        except Malformed as malformed:
            raise InvalidResponse("invalid", str(malformed)) from None

    async def _receive_stream(self, place: Place, errand: Errand, response: Response) -> Reply | Failure:
        """Waits for the first event with data. An error there is a failed attempt: the client has seen nothing yet."""
        splitter = Splitter(self._max_answer_bytes)
        first = b""
        while True:
            data = await response.read()
            try:
                first += splitter.feed(data) if data else splitter.flush()
            except EventTooLarge:
                raise InvalidResponse("invalid", "an event exceeds the bound") from None
            content = next((found for event in events(first) if (found := data_of(event)) is not None), None) if first else None
            if content is not None:
                break
            if not data:
                return Failure(Outcome(kind="lost"))
        failure = failure_in(content)
        return failure or Reply(place, response, first, splitter)

    async def _receive_error(self, place: Place, errand: Errand, response: Response, media: bytes) -> Reply | Failure:
        outcome = Outcome(status=response.status)
        retry_after = parse_retry_after(_header(response, b"retry-after").decode("latin-1"), self._wall_clock())
        if is_retryable(outcome):
            return Failure(outcome, retry_after)
        body = await _whole(response, MAX_ERROR_BYTES)
        if media != b"application/json" or response.status >= 500:
            return Failure(outcome, retry_after)
        return Reply(place, response, body, None)


def _is_reply(found: Reply | Failure) -> bool:
    return isinstance(found, Reply)


def _discard(found: Reply | Failure) -> None:
    """Ends an answer that another one has overtaken."""
    if isinstance(found, Reply):
        found.close(Outcome(cancelled=True))


def _header(response: Response, name: bytes) -> bytes:
    for key, value in response.headers:
        if key == name:
            return value
    return b""


async def _whole(response: Response, bound: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while data := await response.read():
        parts.append(data)
        size += len(data)
        if size > bound:
            raise InvalidResponse("invalid", f"the answer exceeds {bound} bytes")
    return b"".join(parts)

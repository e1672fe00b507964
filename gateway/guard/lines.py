"""Lines of those who wait for a place at a model: who is next, how long it takes, and who waits in vain. A pure state machine.

Each model has a line for each class. `interactive` comes before `batch`, but for the share of the turns that is kept for batch. Within a
line the turns go round between callers: whoever sends a thousand requests gets as many turns as whoever sends ten (fair queuing with
equal weights), and each caller's own are served in the order of their arrival.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Generic, Literal, TypeVar

from msgspec import Struct

from gateway.errors import Code, GatewayError
from gateway.guard.callers import Priority

T = TypeVar("T")
Reason = Literal["queue_full", "wait_too_long", "deadline", "queue_timeout"]
TRIES = 3
"""How many of each class are offered a place before it is taken for one that nobody who waits can use."""

STAMPS = 64
FORGOTTEN = 60.0
HOPELESS = 1.5
SWEEP_SECONDS = 0.1
LONGEST_RETRY_AFTER = 300.0
_KNOWN = 4
_MESSAGES: dict[Reason, tuple[Code, str]] = {
    "queue_full": ("overloaded", "every backend that may answer is busy, and too many requests wait already"),
    "wait_too_long": ("overloaded", "every backend that may answer is busy, and so many requests wait that this one would be too late"),
    "queue_timeout": ("overloaded", "every backend that may answer was busy for as long as a request may wait"),
    "deadline": ("deadline_exceeded", "no backend was free within the request's max_latency_ms"),
}


class Rejected(GatewayError):
    """There is no place for a request. `reason`: for the metric; the client reads it in the header `x-router-reason`."""

    def __init__(self, reason: Reason, wait: float) -> None:
        """`wait`: seconds that a request of this kind waits now."""
        code, message = _MESSAGES[reason]
        late = reason == "deadline"
        retry_after = None if late else min(LONGEST_RETRY_AFTER, max(1.0, wait))
        super().__init__(code, message, param="router.max_latency_ms" if late else None, retry_after=retry_after)
        self.reason = reason
        self.headers = ((b"x-router-reason", reason.encode()),)


class Bounds(Struct, frozen=True):
    """Of one class: how many may wait for one model (`size`), and for how many seconds at most (`max_wait`)."""

    size: int
    max_wait: float


class Ticket(Struct, frozen=True):
    """What a request brings. Times are seconds on the clock of the lines.

    `models`: any of them will do. `key`: the caller's id. `deadline`: when its first token must be there; None: never. `arrived`: when it
    came here. `needs`: seconds from its place to its first token; so much before its deadline it is too late.
    """

    models: tuple[str, ...]
    key: str
    priority: Priority
    deadline: float | None
    arrived: float
    needs: float = 0.0


class Waiter(Generic[T]):
    """One who waits. `find` takes a place and returns it, or None. `gone`: whether it waits no longer, though it is still in line.

    `latest`: when it must have a place; `late`: what it is told if it has none then.
    """

    __slots__ = ("expected", "find", "gone", "late", "latest", "lines", "ticket")

    def __init__(self, ticket: Ticket, max_wait: float, find: Callable[[], T | None], gone: Callable[[], bool]) -> None:
        self.ticket = ticket
        self.find = find
        self.gone = gone
        self.lines: tuple[Line[T], ...] = ()
        self.expected: dict[Line[T], float] = {}
        self.latest = ticket.arrived + max_wait
        self.late: Reason = "queue_timeout"
        if ticket.deadline is not None and ticket.deadline - ticket.needs < self.latest:
            self.latest = ticket.deadline - ticket.needs
            self.late = "deadline"

    def hopeless(self, now: float) -> bool:
        """Whether each of its lines takes far longer than it may wait."""
        return min(self.expected.values()) - now > HOPELESS * max(0.0, self.latest - now)


class Pace:
    """How fast a line moves: by its last STAMPS turns, on a clock that runs only while somebody waits."""

    __slots__ = ("_busy", "_since", "_stamps", "_stopped")

    def __init__(self) -> None:
        self._busy = 0.0
        self._since: float | None = None
        self._stopped = 0.0
        self._stamps: deque[float] = deque(maxlen=STAMPS)

    def start(self, now: float) -> None:
        """Somebody waits. After a long silence what was before is forgotten: the backends may be others now."""
        self._since = now
        if not self._stamps or now - self._stopped > FORGOTTEN:
            self._stamps.clear()
            self._stamps.append(self._busy)

    def stop(self, now: float) -> None:
        """Nobody waits any more."""
        self._busy, self._since, self._stopped = self._at(now), None, now

    def turn(self, now: float) -> None:
        """Somebody got a place."""
        self._stamps.append(self._at(now))

    def known(self) -> bool:
        """Whether there were turns enough to rely on."""
        return len(self._stamps) > _KNOWN

    def seconds(self, turns: int, now: float) -> float:
        """How long so many turns take. Before the first turn, as if one came just now: the least that it can be."""
        return turns * (self._at(now) - self._stamps[0]) / len(self._stamps) if self._stamps else 0.0

    def _at(self, now: float) -> float:
        return self._busy if self._since is None else self._busy + now - self._since


class Line(Generic[T]):
    """Those of one class who wait for one model."""

    __slots__ = ("_ring", "_size", "pace")

    def __init__(self) -> None:
        self._ring: OrderedDict[str, OrderedDict[Waiter[T], None]] = OrderedDict()
        self._size = 0
        self.pace = Pace()

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Waiter[T]]:
        """Whoever still waits, in the order of their turns."""
        going: list[Iterator[Waiter[T]]] = []
        for queue in self._ring.values():
            mine = iter(queue)
            yield from _next(mine)
            going.append(mine)
        while going:
            still = []
            for mine in going:
                found = _next(mine)
                yield from found
                if found:
                    still.append(mine)
            going = still

    def add(self, waiter: Waiter[T], now: float) -> None:
        if not self._size:
            self.pace.start(now)
        self._ring.setdefault(waiter.ticket.key, OrderedDict())[waiter] = None
        self._size += 1

    def remove(self, waiter: Waiter[T], now: float, served: bool) -> None:
        """`served`: it has got its place, so that its caller's turn is over."""
        key = waiter.ticket.key
        queue = self._ring[key]
        del queue[waiter]
        self._size -= 1
        if served:
            self.pace.turn(now)
            self._ring.move_to_end(key)
        if not queue:
            del self._ring[key]
        if not self._size:
            self.pace.stop(now)

    def turns(self, key: str) -> int:
        """How many turns it takes until a newcomer of this caller is served."""
        own = len(self._ring.get(key, ()))
        return 1 + own + sum(min(len(queue), own + 1) for other, queue in self._ring.items() if other != key)


def _next(waiters: Iterator[Waiter[T]]) -> list[Waiter[T]]:
    """The next one who still waits, if there is one."""
    return list(islice((waiter for waiter in waiters if not waiter.gone()), 1))


class _Model(Generic[T]):
    """The lines before one model. `passed`: turns of interactive requests since the last one of a batch request that waited all along."""

    __slots__ = ("lines", "passed", "swept")

    def __init__(self) -> None:
        self.lines: dict[Priority, Line[T]] = {"interactive": Line(), "batch": Line()}
        self.passed = 0
        self.swept = float("-inf")


class Lines(Generic[T]):
    """All lines of a gateway. `batch_share`: of a model's turns, at least so many are for batch while one waits; 0: none."""

    def __init__(self, bounds: Mapping[Priority, Bounds], batch_share: float) -> None:
        self._bounds = dict(bounds)
        self._every = int(1 / batch_share) if batch_share > 0 else None
        self._models: dict[str, _Model[T]] = {}
        self.waiting: dict[Priority, int] = {"interactive": 0, "batch": 0}

    def must_wait(self, models: Sequence[str], priority: Priority) -> bool:
        """Whether for each of these models somebody waits already who comes before a newcomer of this class."""
        before: tuple[Priority, ...] = ("interactive",) if priority == "interactive" else ("interactive", "batch")
        return all(any(self._line(model, one) for one in before) for model in models)

    def enter(self, ticket: Ticket, find: Callable[[], T | None], gone: Callable[[], bool]) -> Waiter[T]:
        """Gets in line for each model where there is room. Raises Rejected: the lines are full, or nobody who comes now is in time."""
        now, bounds = ticket.arrived, self._bounds[ticket.priority]
        waiter = Waiter(ticket, bounds.max_wait, find, gone)
        lines = [self._line(model, ticket.priority) for model in dict.fromkeys(ticket.models)]
        expected = {line: now + line.pace.seconds(line.turns(ticket.key), now) for line in lines}
        soonest = min(expected.values())
        if waiter.latest <= now:
            raise Rejected(waiter.late, soonest - now)
        waiter.lines = tuple(line for line in lines if len(line) < bounds.size)
        if not waiter.lines:
            raise Rejected("queue_full", soonest - now)
        waiter.expected = {line: expected[line] for line in waiter.lines}
        # Whoever comes first is always let in: a line that turned everybody away could not notice that it moves again.
        if min(waiter.expected.values()) > waiter.latest and all(len(line) and line.pace.known() for line in waiter.lines):
            raise Rejected("wait_too_long", soonest - now)
        for line in waiter.lines:
            line.add(waiter, now)
        self.waiting[ticket.priority] += 1
        return waiter

    def leave(self, waiter: Waiter[T], now: float) -> None:
        """It waits no longer. Nothing happens if it has left already."""
        self._remove(waiter, now, served=False)

    def next(self, model: str, now: float) -> tuple[Waiter[T], T] | None:
        """Lets the next in line for a model take a place. None if none of those who were asked could."""
        lines = self._models.get(model)
        if lines is None:
            return None
        order: tuple[Priority, ...] = ("interactive", "batch")
        if self._every is not None and lines.passed >= self._every - 1:
            order = ("batch", "interactive")
        for priority in order:
            for waiter in islice(lines.lines[priority], TRIES):
                place = waiter.find()
                if place is not None:
                    lines.passed = lines.passed + 1 if priority == "interactive" and lines.lines["batch"] else 0
                    self._remove(waiter, now, served=True)
                    return waiter, place
        return None

    def sweep(self, model: str, now: float) -> list[tuple[Waiter[T], float]]:
        """Takes out those who would be too late by far, with the seconds that they would have to wait. At most ten times a second."""
        lines = self._models.get(model)
        if lines is None or now - lines.swept < SWEEP_SECONDS:
            return []
        lines.swept = now
        found: list[tuple[Waiter[T], float]] = []
        for line in lines.lines.values():
            turns = 1
            for waiter in line if line.pace.known() else ():
                waiter.expected[line] = now + line.pace.seconds(turns, now)
                if waiter.hopeless(now):
                    found.append((waiter, min(waiter.expected.values()) - now))
                else:
                    turns += 1
        for waiter, _ in found:
            self.leave(waiter, now)
        return found

    def wait(self, ticket: Ticket, now: float) -> float:
        """How many seconds a newcomer with such a ticket waits."""
        lines = (self._line(model, ticket.priority) for model in ticket.models)
        return min(line.pace.seconds(line.turns(ticket.key), now) for line in lines)

    def _line(self, model: str, priority: Priority) -> Line[T]:
        lines = self._models.get(model)
        if lines is None:
            lines = self._models[model] = _Model()
        return lines.lines[priority]

    def _remove(self, waiter: Waiter[T], now: float, served: bool) -> None:
        if waiter.lines:
            self.waiting[waiter.ticket.priority] -= 1
        for line in waiter.lines:
            line.remove(waiter, now, served)
        waiter.lines = ()

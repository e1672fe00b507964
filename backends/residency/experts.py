"""One expert of a group: where it stands, who uses it, who waits for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from backends.residency.costs import Costs, FirstCosts, Rate

State = Literal["unknown", "awake", "waking", "falling_asleep", "asleep", "unloaded", "gone"]
HOLDING: frozenset[State] = frozenset({"unknown", "awake", "waking", "falling_asleep"})
"""States in which an expert holds its memory, or may hold it."""

MOVING: frozenset[State] = frozenset({"waking", "falling_asleep"})


@dataclass(frozen=True, slots=True)
class Expert:
    """A model of a group. `size`: of the GPU memory that it takes while awake, in the units of the group's capacity.

    `pinned`: always awake.
    """

    name: str
    size: float = 1.0
    pinned: bool = False
    first_costs: FirstCosts = field(default_factory=FirstCosts)


class Resident:
    """An expert as it stands. Times are those of the group's clock. Only the group changes it; policies read.

    `level`: at which it sleeps, 0 if it does not. `draining`: awake, but no new request may start. `busy`: calls that run. `waiting`:
    requests that look for it; `since`: when the first of them came. `woken_at`, `used_at`: its last awakening, its last call.
    `failures`: in a row; after one, nothing is tried before `retry_at`, and `why` says what went wrong.
    """

    __slots__ = (
        "_came",
        "arrivals",
        "busy",
        "changed_at",
        "costs",
        "draining",
        "expert",
        "failures",
        "level",
        "retry_at",
        "since",
        "state",
        "used_at",
        "waiting",
        "why",
        "woken_at",
    )

    def __init__(self, expert: Expert, costs: Costs, memory: float, now: float) -> None:
        self.expert = expert
        self.state: State = "unknown"
        self.level = 0
        self.draining = False
        self.busy = 0
        self.waiting = 0
        self.since: float | None = None
        self._came = 0.0
        self.changed_at = self.woken_at = self.used_at = self.retry_at = now
        self.failures = 0
        self.why = ""
        self.arrivals = Rate(memory, now)
        self.costs = costs

    @property
    def name(self) -> str:
        return self.expert.name

    @property
    def size(self) -> float:
        return self.expert.size

    @property
    def holds(self) -> bool:
        """Whether its memory must be taken for used."""
        return self.state in HOLDING

    @property
    def serves(self) -> bool:
        """Whether a request may start on it."""
        return self.state == "awake" and not self.draining

    def came(self, now: float) -> None:
        """One more waits."""
        self.arrivals.add(now)
        self.waiting += 1
        self._came += now
        self.since = now if self.since is None else self.since

    def went(self) -> None:
        """One waits no more; which one is not known, so a mean one is taken off."""
        if self.waiting:
            self._came -= self._came / self.waiting
            self.waiting -= 1
        if not self.waiting:
            self.since, self._came = None, 0.0

    def waited(self, now: float) -> float:
        """Seconds that all who wait have waited together."""
        return max(0.0, self.waiting * now - self._came)

    def enter(self, state: State, now: float, level: int = 0) -> None:
        self.state, self.level, self.changed_at, self.draining = state, level, now, False
        if state == "awake":
            self.woken_at = now
            if self.waiting:
                self.since, self._came = now, self.waiting * now

"""The experts that share GPU memory, as a pure state machine: events go in, actions come out. It does no I/O and holds no timer.

Three promises. What is awake never exceeds the capacity: room is made before it is taken. An expert with calls is never put to sleep:
it drains first, which means that nothing new starts on it. Nobody starves: an expert that was asked for `max_wait` seconds ago is woken
next, whatever the policy thinks of it.

Switches are spared by keeping still: requests of an awake expert are served before it makes room, an expert stays at least `min_stay`
seconds, and the policy says from when on a switch is worth it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from backends.residency.actions import Action, Load, Ready, Sleep, Unload, Wake
from backends.residency.costs import Costs
from backends.residency.experts import MOVING, Expert, Resident, State
from backends.residency.policies.api import Policy

How = Literal["sleep", "lora"]
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Rules:
    """How a group switches. `how`: by vLLM's sleep mode, or by loading adapters. `level`: of sleep. Seconds: `min_stay` that an expert
    which was woken stays awake at least, `max_wait` after which nobody is held back any longer, `retry` between two tries of an action
    that failed, doubled each time up to `retry_cap`.
    """

    how: How = "sleep"
    level: int = 1
    min_stay: float = 5.0
    max_wait: float = 30.0
    retry: float = 1.0
    retry_cap: float = 60.0


class Group:
    """`arrived` and `left` enclose a request's search for a place, `started` and `finished` its call; they need not be paired with each
    other. Each tells whether `actions` may have something new. `actions` says what to begin now; `done` or `failed` must follow.
    """

    def __init__(
        self, experts: Sequence[Expert], capacity: float, policy: Policy, rules: Rules, *, clock: Callable[[], float], rng: Random
    ) -> None:
        now = clock()
        down, up = (Unload(""), Load("")) if rules.how == "lora" else (Sleep("", rules.level), Wake("", rules.level))
        self.capacity = capacity
        self.rules = rules
        self.residents: Mapping[str, Resident] = {e.name: Resident(e, Costs(e.first_costs, down, up), policy.memory, now) for e in experts}
        self.switches = 0
        self._policy = policy
        self._clock = clock
        self._rng = rng
        self._targets: list[Resident] = []
        self._ready: list[str] = []
        self._look_at: float | None = None
        self._unserved = False

    # What happens.

    def arrived(self, name: str) -> bool:
        """A request looks for a place on this expert. `left` must follow."""
        resident = self.residents[name]
        resident.came(self._clock())
        return not resident.serves

    def left(self, name: str) -> bool:
        """It looks no more: it has its place, here or elsewhere, or it gave up."""
        resident = self.residents[name]
        resident.went()
        return resident in self._targets or (self._unserved and resident.waiting == 0)

    def started(self, name: str) -> None:
        """A call starts."""
        resident = self.residents[name]
        resident.busy += 1
        resident.used_at = self._clock()

    def finished(self, name: str) -> bool:
        """It is over."""
        resident = self.residents[name]
        resident.busy = max(0, resident.busy - 1)
        resident.used_at = self._clock()
        return resident.draining and resident.busy == 0

    def done(self, action: Action, seconds: float) -> None:
        """An action was carried out, and took so long."""
        resident = self.residents[action.expert]
        resident.costs.observe(action, seconds)
        resident.failures, resident.why = 0, ""
        if resident.state == "waking":
            self._enter(resident, "awake")
        elif resident.state == "falling_asleep":
            self._enter(resident, *self._down())

    def failed(self, action: Action, why: str) -> None:
        """An action failed: nobody knows where the expert stands until `found` tells."""
        resident = self.residents[action.expert]
        resident.failures += 1
        pause = min(self.rules.retry_cap, self.rules.retry * 2.0 ** min(resident.failures - 1, 16))
        resident.why = why
        resident.retry_at = self._clock() + pause * self._rng.uniform(0.8, 1.2)
        resident.enter("unknown", self._clock())

    def found(self, name: str, state: State, level: int, asked_at: float) -> None:
        """Its server was asked at `asked_at` where it stands. Older news than our own is ignored."""
        resident = self.residents[name]
        if resident.state in MOVING or asked_at < resident.changed_at:
            return
        if (resident.state, resident.level) != (state, level):
            self._enter(resident, state, level)

    # What follows.

    def serves(self, name: str) -> bool:
        """Whether a request may start on it now."""
        return self.residents[name].serves

    def wake_seconds(self, name: str) -> float:
        """Seconds until it can serve a request that comes now: 0 if it does, infinity if nobody knows."""
        now, resident = self._clock(), self.residents[name]
        if resident.serves:
            return 0.0
        if resident.state in ("unknown", "gone"):
            return math.inf
        gone_by = now - resident.changed_at
        wake = resident.costs.of(self._wake(resident))
        if resident.state == "waking":
            return max(0.0, wake - gone_by)
        seconds = max(0.0, resident.retry_at - now) if resident.failures else 0.0
        if resident.state == "falling_asleep":
            seconds += max(0.0, resident.costs.down - gone_by)
        elif resident.state == "awake":
            seconds += resident.costs.down
        return seconds + wake + (0.0 if resident in self._targets else self._room_seconds(resident, now))

    def actions(self) -> list[Action]:
        """What to begin now. Each action counts as begun."""
        now = self._clock()
        self._look_at, self._unserved = None, False
        self._targets = [r for r in self._targets if self._is_wanted(r, now)]
        self._make_room_for_all(now)
        for wanted in sorted(self._wanted(now), key=lambda r: self._order(r, now)):
            if not self._aim_at(wanted, now):
                break
        self._reopen(now)
        begun = [*self._wakings(now), *self._sleepings(now)]
        ready, self._ready = self._ready, []
        return [*(Ready(name) for name in ready), *begun]

    def look_at(self) -> float | None:
        """When, on the clock, `actions` may have something new even if nothing happens; None: never."""
        return self._look_at

    @property
    def held(self) -> float:
        """Memory that is taken, in units of the capacity."""
        return sum(r.size for r in self.residents.values() if r.holds)

    # How it is decided.

    def _is_wanted(self, resident: Resident, now: float) -> bool:
        if resident.state not in ("asleep", "unloaded") or not (resident.waiting or resident.expert.pinned):
            return False
        if resident.failures and now < resident.retry_at:
            self._look_again(resident.retry_at)
            return False
        return True

    def _wanted(self, now: float) -> Iterator[Resident]:
        return (r for r in self.residents.values() if r not in self._targets and self._is_wanted(r, now))

    def _is_overdue(self, wanted: Resident, now: float) -> bool:
        return wanted.expert.pinned or (wanted.since is not None and now - wanted.since >= self.rules.max_wait - _ROUNDING)

    def _order(self, wanted: Resident, now: float) -> tuple[bool, float]:
        if self._is_overdue(wanted, now):
            return False, now if wanted.since is None else wanted.since
        return True, -self._policy.urgency(wanted, now)

    def _aim_at(self, wanted: Resident, now: float) -> bool:
        """Makes an expert a target, if there is room for it or room can be made. False: nobody after it may take the room that it needs."""
        short = self._short() + wanted.size
        overdue = self._is_overdue(wanted, now)
        if short > _ROUNDING:
            if short > sum(r.size for r in self.residents.values() if self._may_ever_go(r, now)) + _ROUNDING:
                self._unserved = True
                return True
            if not overdue:
                self._look_again((now if wanted.since is None else wanted.since) + self.rules.max_wait)
            victims = self._victims(short, now, overdue)
            if victims is None:
                self._unserved = True
                return not overdue
            due = now if overdue else self._policy.due(wanted, victims, self._under_way(), now)
            if due > now + _ROUNDING:
                self._look_again(due)
                return True
            for victim in victims:
                victim.draining = True
        self._targets.append(wanted)
        return True

    def _make_room_for_all(self, now: float) -> None:
        """Somebody else woke more than there is room for, beside what was promised."""
        may_go = [r for r in self.residents.values() if self._may_ever_go(r, now)]
        most = sum(r.size for r in may_go)
        while self._targets and self._short() > most + _ROUNDING:
            self._targets.pop()
        if self._short() > _ROUNDING:
            for victim in self._least_valuable(may_go, self._short(), now):
                victim.draining = True

    def _may_ever_go(self, resident: Resident, now: float) -> bool:
        if resident.failures and now < resident.retry_at:
            self._look_again(resident.retry_at)
            return False
        if resident.expert.pinned or resident.draining:
            return False
        return resident.state in ("awake", "waking")

    def _victims(self, short: float, now: float, overdue: bool) -> list[Resident] | None:
        """Who should make room; None if not enough may do so yet."""
        eligible = []
        for resident in self.residents.values():
            if resident.state != "awake" or not self._may_ever_go(resident, now):
                continue
            stays_until = resident.woken_at + self.rules.min_stay
            if now < stays_until - _ROUNDING:
                self._look_again(stays_until)
            elif overdue or not resident.waiting:
                eligible.append(resident)
        victims = self._least_valuable(eligible, short, now)
        return victims if sum(r.size for r in victims) >= short - _ROUNDING else None

    def _least_valuable(self, residents: Sequence[Resident], short: float, now: float) -> list[Resident]:
        """The least valuable ones that make up for what is short; nobody who is not needed for it."""
        chosen: list[Resident] = []
        room = 0.0
        for resident in sorted((r for r in residents if r.state == "awake"), key=lambda r: self._policy.value(r, now)):
            if room >= short - _ROUNDING:
                break
            chosen.append(resident)
            room += resident.size
        for resident in reversed(chosen[:-1]):
            if room - resident.size >= short - _ROUNDING:
                chosen.remove(resident)
                room -= resident.size
        return chosen

    def _reopen(self, now: float) -> None:
        """Those that need not make room any more take requests again."""
        spare = -self._short()
        draining = [r for r in self.residents.values() if r.draining]
        for resident in sorted(draining, key=lambda r: self._policy.value(r, now), reverse=True):
            if resident.size <= spare + _ROUNDING:
                resident.draining = False
                spare -= resident.size
                self._ready.append(resident.name)

    def _wakings(self, now: float) -> Iterator[Action]:
        while self._targets and self._targets[0].size <= self._free() + _ROUNDING:
            resident = self._targets.pop(0)
            action = self._wake(resident)
            resident.enter("waking", now)
            self.switches += 1
            yield action

    def _sleepings(self, now: float) -> Iterator[Action]:
        for resident in self.residents.values():
            if resident.draining and not resident.busy:
                resident.enter("falling_asleep", now)
                yield Unload(resident.name) if self.rules.how == "lora" else Sleep(resident.name, self.rules.level)

    def _wake(self, resident: Resident) -> Action:
        if self.rules.how == "lora":
            return Load(resident.name)
        return Wake(resident.name, resident.level or self.rules.level)

    def _down(self) -> tuple[State, int]:
        return ("unloaded", 0) if self.rules.how == "lora" else ("asleep", self.rules.level)

    def _enter(self, resident: Resident, state: State, level: int = 0) -> None:
        resident.enter(state, self._clock(), level)
        if state == "awake":
            self._ready.append(resident.name)

    def _room_seconds(self, wanted: Resident, now: float) -> float:
        """Seconds until there would be room for it."""
        short = self._short() + wanted.size
        if short <= _ROUNDING:
            return 0.0
        victims = self._least_valuable([r for r in self.residents.values() if self._may_ever_go(r, now)], short, now)
        if not victims:
            return self.rules.max_wait
        held_back = max(0.0, min(self._policy.due(wanted, victims, self._under_way(), now) - now, self.rules.max_wait))
        stay = max(0.0, *(r.woken_at + self.rules.min_stay - now for r in victims))
        return max(held_back, stay) + max(r.costs.down for r in victims)

    def _under_way(self) -> int:
        """Switches that are being made."""
        return len(self._targets) + sum(r.state == "waking" for r in self.residents.values())

    def _free(self) -> float:
        return self.capacity - self.held

    def _short(self) -> float:
        """Memory that is promised, less what is free or soon will be."""
        coming = sum(r.size for r in self.residents.values() if r.draining or r.state == "falling_asleep")
        return sum(r.size for r in self._targets) - coming - self._free()

    def _look_again(self, at: float) -> None:
        self._look_at = at if self._look_at is None else min(self._look_at, at)

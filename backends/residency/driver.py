"""Carries out what a group decides, and keeps the group's picture of the servers true."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct

from backends.residency.actions import Action, Load, Ready, Sleep, Unload, Wake
from backends.residency.experts import MOVING, State
from backends.residency.group import Group
from backends.residency.servers import Server, Standing, SwitchFailed

_log = logging.getLogger("pointsman.residency")


class ExpertReport(Struct, frozen=True):
    """An expert for the operator's eyes. `seconds`: since it is in this state. `wake_seconds`: until it could serve."""

    expert: str
    state: State
    level: int
    draining: bool
    size: float
    busy: int
    waiting: int
    seconds: float
    wake_seconds: float
    failures: int
    why: str


class Residence:
    """One expert of a group, for whoever sends calls to it. `arrived` and `left` enclose a request's search for a place, whatever comes
    of it; `started` and `finished` enclose a call.
    """

    __slots__ = ("_changed", "_group", "_name")

    def __init__(self, group: Group, name: str, changed: asyncio.Event) -> None:
        self._group = group
        self._name = name
        self._changed = changed

    def arrived(self) -> None:
        if self._group.arrived(self._name):
            self._changed.set()

    def left(self) -> None:
        if self._group.left(self._name):
            self._changed.set()

    def started(self) -> None:
        self._group.started(self._name)

    def finished(self) -> None:
        if self._group.finished(self._name):
            self._changed.set()

    def serves(self) -> bool:
        """Whether a call may start now."""
        return self._group.serves(self._name)

    def may_wait(self) -> bool:
        """Whether it does not serve now, and probably will if a request waits for it."""
        return not self._group.serves(self._name) and self._group.residents[self._name].state != "gone"

    def wake_seconds(self) -> float:
        """Seconds until it can serve: 0 if it does, infinity if nobody knows."""
        return self._group.wake_seconds(self._name)


class Driver:
    """One group and its servers. `run` is a task for as long as the gateway lives.

    `ready` is called with an expert's name when requests may go to it. `look_seconds`: between two looks at where the servers stand.
    An expert with several servers is switched on all of them; one whose process is gone is passed over while another one lives.
    """

    def __init__(
        self,
        group: Group,
        servers: Mapping[str, Sequence[Server]],
        ready: Callable[[str], None],
        *,
        clock: Callable[[], float],
        look_seconds: float = 10.0,
    ) -> None:
        self._group = group
        self._servers = servers
        self._ready = ready
        self._clock = clock
        self._look_seconds = look_seconds
        self._changed = asyncio.Event()
        self._locks = {name: asyncio.Lock() for name in servers}
        self.residences: Mapping[str, Residence] = {name: Residence(group, name, self._changed) for name in servers}
        """By expert."""

    @property
    def held(self) -> float:
        """Memory that is taken, in units of the group's capacity."""
        return self._group.held

    @property
    def switches(self) -> int:
        """Experts woken or loaded so far."""
        return self._group.switches

    def report(self) -> list[ExpertReport]:
        """All experts of the group."""
        now = self._clock()
        return [
            ExpertReport(
                r.name,
                r.state,
                r.level,
                r.draining,
                r.size,
                r.busy,
                r.waiting,
                now - r.changed_at,
                self._group.wake_seconds(r.name),
                r.failures,
                r.why,
            )
            for r in self._group.residents.values()
        ]

    # What it does.

    async def run(self) -> None:
        """Looks where the servers stand, then switches until it is cancelled, which leaves the servers as they are."""
        async with asyncio.TaskGroup() as tasks:
            await self.look_at_all()
            tasks.create_task(self._keep_looking())
            while True:
                self._changed.clear()
                for action in self._group.actions():
                    if isinstance(action, Ready):
                        self._ready(action.expert)
                    else:
                        tasks.create_task(self._carry_out(action))
                await self._until_something_changes()

    async def _until_something_changes(self) -> None:
        look_at = self._group.look_at()
        try:
            async with asyncio.timeout(None if look_at is None else max(0.0, look_at - self._clock())):
                await self._changed.wait()
        except TimeoutError:
            pass

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(self._look_seconds)
            await self.look_at_all()

    async def look_at_all(self) -> None:
        """Asks every server where it stands."""
        await asyncio.gather(*(self._look(name) for name in self._servers))

    async def _carry_out(self, action: Action) -> None:
        name = action.expert
        async with self._locks[name]:
            started = self._clock()
            failures = await _on_each(action, self._servers[name])
            if failures:
                _log.warning("%s failed: %s", _described(action), "; ".join(failures))
                self._group.failed(action, "; ".join(failures))
                await self._find(name)
            else:
                _log.info("%s took %.2f s", _described(action), self._clock() - started)
                self._group.done(action, self._clock() - started)
        self._changed.set()

    async def _look(self, name: str) -> None:
        """Tells the group where an expert stands, unless it is being switched anyway."""
        if self._group.residents[name].state in MOVING:
            return
        async with self._locks[name]:
            await self._find(name)
        self._changed.set()

    async def _find(self, name: str) -> None:
        """A server that does not say where it stands leaves the group's opinion as it is. Only under the expert's lock."""
        asked_at, resident = self._clock(), self._group.residents[name]
        found = await asyncio.gather(*(_standing(server) for server in self._servers[name]))
        if None in found:
            return
        living = [(server, s) for server, s in zip(self._servers[name], found, strict=True) if s is not None and s.state != "gone"]
        standing = living[0][1] if living else Standing("gone", why="no server of it answers")
        if len({s.state for _, s in living}) > 1:
            agreed = await self._align(name, living)
            if agreed is None:
                return
            standing = agreed
        if standing.why and standing.why != resident.why:
            _log.warning("%s: %s", name, standing.why)
        if standing.why or not resident.failures:
            resident.why = standing.why
        self._group.found(name, standing.state, standing.level, asked_at)

    async def _align(self, name: str, living: Sequence[tuple[Server, Standing]]) -> Standing | None:
        """Some servers of an expert are awake and some are not: the group's opinion decides. Where they stand now; None if that failed."""
        should = self._group.serves(name)
        wanted = next(s for _, s in living if (s.state == "awake") == should)
        asleep = next(s for _, s in living if s.state != "awake")
        lora = asleep.state == "unloaded"
        up: Action = Load(name) if lora else Wake(name, asleep.level)
        down: Action = Unload(name) if lora else Sleep(name, asleep.level)
        odd = [server for server, s in living if (s.state == "awake") != should]
        return wanted if not await _on_each(up if should else down, odd) else None


async def _on_each(action: Action, servers: Sequence[Server]) -> list[str]:
    """What went wrong; nothing if it worked on every server that lives."""
    results = await asyncio.gather(*(_attempt(server, action) for server in servers))
    failed = [result for result in results if result is not None]
    living = [failure for failure in failed if not failure.gone]
    return [str(failure) for failure in (living if len(failed) < len(servers) else failed)]


async def _attempt(server: Server, action: Action) -> SwitchFailed | None:
    try:
        await server.carry_out(action)
    except SwitchFailed as failure:
        return failure
    return None


async def _standing(server: Server) -> Standing | None:
    try:
        return await server.look()
    except SwitchFailed as failure:
        return Standing("gone") if failure.gone else None


def _described(action: Action) -> str:
    return f"{type(action).__name__.lower()} of {action.expert}"

"""What a gateway is made of, so that the next one can go on with every part that would be made the same."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from inspect import iscoroutinefunction
from typing import Protocol, TypeGuard, TypeVar, cast

T = TypeVar("T")


class Running(Protocol):
    """Works beside the requests until it is cancelled."""

    async def run(self) -> None: ...


class Closing(Protocol):
    """Holds what must be given back: connections, files, unwritten records."""

    async def aclose(self) -> None: ...


Service = Running | Closing
"""A part that has a life of its own."""


@dataclass(frozen=True, slots=True)
class _Made:
    """A part, what it was made from, and the names of the parts that were made on the way."""

    part: object
    settings: object
    within: tuple[Hashable, ...]


class Parts:
    """Parts by name, each with the settings that it was made from. What the gateway before made from equal settings is taken over,
    with all that it has learned, counted and connected to; anything else is made anew.

    `before`: the parts of the gateway that serves now. They are only read, so a new gateway can be made in a thread beside it.
    """

    def __init__(self, before: Parts | None = None) -> None:
        self._made: dict[Hashable, _Made] = {}
        self._before = {} if before is None else before._made
        self._open: list[list[Hashable]] = []

    def get(self, name: Hashable, settings: object, make: Callable[[], T]) -> T:
        """The part of this name. `settings`: all that `make` depends on and that may change, other parts included; compared by `==`.

        `make` may get parts in turn. They stay as long as this one does.
        """
        if self._open:
            self._open[-1].append(name)
        found = self._before.get(name)
        if found is not None and found.settings == settings:
            self._keep(name, found)
            return cast(T, found.part)
        within: list[Hashable] = []
        self._open.append(within)
        try:
            part = make()
        finally:
            self._open.pop()
        self._made[name] = _Made(part, settings, tuple(within))
        return part

    def _keep(self, name: Hashable, found: _Made) -> None:
        for inner in found.within:
            if inner not in self._made:
                self._keep(inner, self._before[inner])
        self._made[name] = found

    def finish(self) -> None:
        """Everything is made: the parts of the gateway before need not be kept for this one."""
        self._before = {}

    def services(self) -> tuple[Service, ...]:
        """The parts that run or must be closed, each after those that it was made from."""
        parts = {id(made.part): made.part for made in self._made.values()}
        return tuple(part for part in parts.values() if runs(part) or closes(part))


def runs(part: object) -> TypeGuard[Running]:
    return iscoroutinefunction(getattr(part, "run", None))


def closes(part: object) -> TypeGuard[Closing]:
    return iscoroutinefunction(getattr(part, "aclose", None))

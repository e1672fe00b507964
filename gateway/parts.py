"""What a gateway is made of, so that the next one can go on with every part that would be made the same."""

from __future__ import annotations

from collections.abc import Callable, Hashable
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


class Parts:
    """Parts by name, each with the settings that it was made from. What the gateway before made from equal settings is taken over,
    with all that it has learned, counted and connected to; anything else is made anew.

    `before`: the parts of the gateway that serves now. They are only read, so a new gateway can be made in a thread beside it.
    """

    def __init__(self, before: Parts | None = None) -> None:
        self._made: dict[Hashable, tuple[object, object]] = {}
        self._before = {} if before is None else before._made

    def get(self, name: Hashable, settings: object, make: Callable[[], T]) -> T:
        """The part of this name. `settings`: all that `make` depends on and that may change, other parts included; compared by `==`."""
        found = self._before.get(name)
        part = found[1] if found is not None and found[0] == settings else make()
        self._made[name] = (settings, part)
        return cast(T, part)

    def finish(self) -> None:
        """Everything is made: the parts of the gateway before need not be kept for this one."""
        self._before = {}

    def services(self) -> tuple[Service, ...]:
        """The parts that run or must be closed, each after those that it was made from."""
        parts = {id(part): part for _, part in self._made.values()}
        return tuple(part for part in parts.values() if runs(part) or closes(part))


def runs(part: object) -> TypeGuard[Running]:
    return iscoroutinefunction(getattr(part, "run", None))


def closes(part: object) -> TypeGuard[Closing]:
    return iscoroutinefunction(getattr(part, "aclose", None))

"""What a group asks to be done. Whoever carries an action out answers with `done` or `failed`; `Ready` needs no answer."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct


class Sleep(Struct, frozen=True):
    """Put a server to sleep. `level`: 1 keeps the weights in CPU memory, 2 discards them."""

    expert: str
    level: int


class Wake(Struct, frozen=True):
    """Wake a server up that sleeps at this level."""

    expert: str
    level: int


class Load(Struct, frozen=True):
    """Load an adapter."""

    expert: str


class Unload(Struct, frozen=True):
    """Unload an adapter."""

    expert: str


class Ready(Struct, frozen=True):
    """Requests may go to this expert: whoever waits for it can go on."""

    expert: str


Action: TypeAlias = Sleep | Wake | Load | Unload | Ready

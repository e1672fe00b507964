"""What switches cost, in seconds, and how often an expert is asked for: both learned from what really happens."""

from __future__ import annotations

import math
from dataclasses import dataclass

from backends.residency.actions import Action, Load, Ready, Sleep, Unload, Wake

_MEMORY = 0.2
"""Share of the newest switch in a mean: about the last five count."""


@dataclass(frozen=True, slots=True)
class FirstCosts:
    """Seconds that a switch takes, until the first one of its kind was seen.

    The defaults lie between those that vLLM's blog measured for models of 4 and 30 billion parameters on an A100
    (https://blog.vllm.ai/2025/10/26/sleep-mode.html): level 1 sleeps in 0.4 to 2.8 s and wakes in 0.8 to 2.9 s; waking from level 2
    reads the weights from disk. vLLM says nothing of adapters.
    """

    sleep: float = 1.0
    wake: float = 1.5
    wake_from_level_2: float = 5.0
    load: float = 1.0
    unload: float = 0.1


class Costs:
    """Running means for one expert. `down`, `up`: what usually is done with it, to put it to sleep and to wake it."""

    __slots__ = ("_counts", "_down", "_seconds", "_up")

    def __init__(self, first: FirstCosts, down: Action, up: Action) -> None:
        self._down, self._up = _kind(down), _kind(up)
        self._seconds = {
            "sleep 1": first.sleep,
            "sleep 2": first.sleep,
            "wake 1": first.wake,
            "wake 2": first.wake_from_level_2,
            "load": first.load,
            "unload": first.unload,
        }
        self._counts = dict.fromkeys(self._seconds, 1)

    @property
    def down(self) -> float:
        """Seconds until it sleeps."""
        return self._seconds[self._down]

    @property
    def switch(self) -> float:
        """Seconds to put it to sleep and to wake it again."""
        return self._seconds[self._down] + self._seconds[self._up]

    def of(self, action: Action) -> float:
        """Seconds to expect."""
        return self._seconds.get(_kind(action), 0.0)

    def observe(self, action: Action, seconds: float) -> None:
        """An action of this kind took so long."""
        kind = _kind(action)
        if kind in self._seconds:
            self._counts[kind] += 1
            self._seconds[kind] += max(_MEMORY, 1 / self._counts[kind]) * (seconds - self._seconds[kind])


def _kind(action: Action) -> str:
    match action:
        case Sleep(level=level):
            return f"sleep {level}"
        case Wake(level=level):
            return f"wake {level}"
        case Load():
            return "load"
        case Unload():
            return "unload"
        case Ready():
            return ""


class Rate:
    """How often something happens, per second: a count in which what is older than `memory` seconds hardly counts any more."""

    __slots__ = ("_at", "_born", "_count", "_memory")

    def __init__(self, memory: float, now: float) -> None:
        self._memory = memory
        self._born = self._at = now
        self._count = 0.0

    def add(self, now: float) -> None:
        self._count = self._faded(now) + 1
        self._at = now

    def per_second(self, now: float) -> float:
        """0 before the first. Young counts are scaled to the time that they had."""
        lived = max(1.0, now - self._born)
        return self._faded(now) / (self._memory * -math.expm1(-lived / self._memory))

    def _faded(self, now: float) -> float:
        return self._count * math.exp(-max(0.0, now - self._at) / self._memory)

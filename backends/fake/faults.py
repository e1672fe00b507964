"""What can go wrong with a fake server, one name for each; asked for in a request (`fake_fault` in the body) or by a schedule.

| name | what the client of the server sees |
|---|---|
| `reset_before_headers`, `close_before_headers` | RST, or FIN, instead of an answer |
| `close_after_headers`, `hang_after_headers` | 200 and headers, then FIN, or nothing for ever |
| `hang_before_headers` | nothing for ever |
| `cut_after:K`, `reset_after:K`, `hang_after:K` | K chunks of a stream, then FIN amid a chunk, RST, or nothing |
| `drip:N` | N bytes a second |
| `status:CODE[:RETRY_AFTER]` | that status with a JSON error |
| `error_first` | 200, and an error as the first event |
| `malformed_json`, `missing_blank_line`, `crlf`, `comments`, `event_field`, `bom`, `split_utf8`, `halved` | odd streams |
| `giant_line:MB`, `endless`, `gzip_bomb:MB` | more than anyone should take |
| `no_done` | a stream without its last line |
| `html`, `no_content`, `redirect:URL`, `bad_http`, `truncated`, `slow_headers` | no answer of an OpenAI-style server |
| `model_absent`, `loading:S`, `flap:S`, `unhealthy` | to health checks: no model, none for S seconds, up and down every S seconds, 503 |
| `sleep_fails`, `wake_fails`, `reload_fails`, `load_fails` | to whoever switches it: 500 |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

REQUEST_FAULTS = frozenset(
    "reset_before_headers close_before_headers close_after_headers hang_after_headers hang_before_headers cut_after reset_after "
    "hang_after drip status error_first malformed_json missing_blank_line crlf comments event_field bom split_utf8 halved "
    "giant_line endless gzip_bomb no_done html no_content redirect bad_http truncated slow_headers".split()
)
STATE_FAULTS = frozenset("model_absent loading flap unhealthy sleep_fails wake_fails reload_fails load_fails".split())


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault by name, with its argument as text ("" if it has none)."""

    name: str
    argument: str = ""

    @property
    def text(self) -> str:
        """As it is written."""
        return f"{self.name}:{self.argument}" if self.argument else self.name

    @property
    def number(self) -> float:
        """The argument as a number; 0 if it is none."""
        try:
            return float(self.argument.partition(":")[0] or 0)
        except ValueError:
            return 0.0


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A fault and when it strikes: every n-th request, the first n, all after n, or by chance."""

    fault: Fault
    every: int = 1
    first: int | None = None
    after: int = 0
    chance: float = 1.0


def parse(text: str) -> Scheduled:
    """`NAME[:ARG][@every=N|@first=N|@after=N|@p=X]`. Raises ValueError that names what is known."""
    spec, *conditions = text.split("@")
    name, _, argument = spec.partition(":")
    if name not in REQUEST_FAULTS | STATE_FAULTS:
        raise ValueError(f"no fault named {name!r}; known: {', '.join(sorted(REQUEST_FAULTS | STATE_FAULTS))}")
    every, first, after, chance = 1, None, 0, 1.0
    for condition in conditions:
        key, _, value = condition.partition("=")
        if key == "every":
            every = int(value)
        elif key == "first":
            first = int(value)
        elif key == "after":
            after = int(value)
        elif key == "p":
            chance = float(value)
        else:
            raise ValueError(f"unknown condition {key!r}; known: every, first, after, p")
    return Scheduled(Fault(name, argument), every, first, after, chance)


class Schedule:
    """The faults of a server. Counts the requests that it is asked about."""

    def __init__(self, faults: Sequence[Scheduled], rng: Random) -> None:
        self.faults = list(faults)
        self._rng = rng
        self._count = 0

    def for_request(self) -> Fault | None:
        """The fault that strikes the next request, if one does."""
        self._count += 1
        for scheduled in self.faults:
            if scheduled.fault.name in REQUEST_FAULTS and self._strikes(scheduled):
                return scheduled.fault
        return None

    def for_state(self, name: str) -> Fault | None:
        """A fault of the server's state, if it is scheduled."""
        return next((s.fault for s in self.faults if s.fault.name == name), None)

    def _strikes(self, scheduled: Scheduled) -> bool:
        if scheduled.first is not None and self._count > scheduled.first:
            return False
        if self._count <= scheduled.after or self._count % scheduled.every:
            return False
        return scheduled.chance >= 1.0 or self._rng.random() < scheduled.chance

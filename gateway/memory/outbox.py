"""Writes that nobody waits for: a bounded line, sent in batches, which outlasts an outage as long as the line holds."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha1

MAX_WAITING = 10_000
MAX_BATCH = 64
PATIENCE = 3  # how often one write alone may use up its time before it is given up

Part = str | bytes | int
Command = Sequence[Part]
Later = Command | Callable[[], Command]


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script. `name`: for logs. In a Cluster all keys of a call share one hash tag (`Store.tagged`)."""

    name: str
    text: str
    sha: str = field(init=False)
    """What EVALSHA takes."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "sha", sha1(self.text.encode(), usedforsecurity=False).hexdigest())


@dataclass(frozen=True, slots=True)
class Entry:
    """One write: a command or what makes one, or, with `script`, what follows the script (the number of keys, keys, arguments)."""

    what: Later
    script: Script | None = None

    def command(self, whole: bool = False) -> tuple[Part, ...]:
        """What goes to the server; with `whole` the text of the script in place of its hash. Raises TypeError for other types, and
        UnicodeError for what is no text.
        """
        name, *rest = self.what() if callable(self.what) else self.what
        if not all(isinstance(part, str | bytes | int) and not isinstance(part, bool) for part in (name, *rest)):
            raise TypeError("a command is made of str, bytes and int")
        made = (name, *(part.encode() if isinstance(part, str) else part for part in rest))
        if self.script is None:
            return made
        return ("EVAL", self.script.text, *made) if whole else ("EVALSHA", self.script.sha, *made)


class Outbox:
    """The line. `take` a batch, then say how it went: `sent` or `keep`. Beyond `size` the oldest are dropped, counted in `dropped`."""

    __slots__ = ("_batch", "_failures", "_line", "_size", "_taken", "dropped")

    def __init__(self, size: int = MAX_WAITING) -> None:
        self._size = size
        self._line: deque[Entry] = deque()
        self._taken: list[Entry] = []
        self._batch = MAX_BATCH
        self._failures = 0
        self.dropped = 0

    def __len__(self) -> int:
        """Those on their way count too, as nobody knows yet whether they arrive."""
        return len(self._line) + len(self._taken)

    def add(self, entry: Entry) -> None:
        if len(self._line) >= self._size:
            self._line.popleft()
            self.dropped += 1
        self._line.append(entry)

    def take(self) -> list[Entry]:
        """The oldest, as many as go at once."""
        self._taken = [self._line.popleft() for _ in range(min(self._batch, len(self._line)))]
        return self._taken

    def sent(self) -> None:
        """The batch has arrived, or will never: its writes are done with."""
        self._taken = []
        self._failures = 0
        self._batch = min(MAX_BATCH, self._batch * 2)

    def keep(self, entries: Sequence[Entry], slow: bool = False) -> None:
        """These writes of the batch go again, first in the line. `slow`: the batch used up its time, so the next one is smaller; and
        one write that is too slow even alone is dropped in the end, as it would hold up the others for ever.
        """
        alone = slow and len(self._taken) == 1
        self._taken = []
        if slow:
            self._batch = max(1, self._batch // 2)
        self._failures = self._failures + 1 if alone else 0
        room = self._size - len(self._line)
        kept = [] if alone and self._failures >= PATIENCE else list(entries)[max(0, len(entries) - room) :]
        if not kept:
            self._failures = 0
        self.dropped += len(entries) - len(kept)
        self._line.extendleft(reversed(kept))

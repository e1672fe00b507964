"""Server-sent events as bytes: where events end, and what the few that we read hold. https://html.spec.whatwg.org/#server-sent-events"""

from __future__ import annotations

import re
from collections.abc import Iterator

_BOUNDARY = re.compile(rb"\r\n\r\n|\n\n|\n\r\n|\r\r")
_LINES = re.compile(rb"\r\n|\n|\r")


class EventTooLarge(Exception):
    """An event exceeds the bound."""


class Splitter:
    """Hands over whole events only, whatever the boundaries of the reads were. Bytes are never changed.

    `bound`: most bytes of one unfinished event.
    """

    __slots__ = ("_bound", "_rest")

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        """All events that are complete now, as they came; b"" if there is none. Raises EventTooLarge."""
        if not self._rest and data.endswith(b"\n\n"):
            return data
        data = self._rest + data
        cut = max(data.rfind(b"\n\n") + 2, data.rfind(b"\n\r\n") + 3, data.rfind(b"\r\r") + 2)
        if cut < 4:  # none found
            cut = 0
        self._rest = data[cut:]
        if len(self._rest) > self._bound:
            raise EventTooLarge
        return data[:cut]

    def flush(self) -> bytes:
        """What is left at the end of the stream."""
        rest, self._rest = self._rest, b""
        return rest


def events(block: bytes) -> Iterator[bytes]:
    """The events of a block, each with its closing blank line."""
    start = 0
    for boundary in _BOUNDARY.finditer(block):
        yield block[start : boundary.end()]
        start = boundary.end()
    if start < len(block):
        yield block[start:]


def data_of(event: bytes) -> bytes | None:
    """The data of one event, its lines joined by newlines; None for comments and for events without data."""
    lines = [line[5:].removeprefix(b" ") for line in _LINES.split(event.removeprefix(b"\xef\xbb\xbf")) if line.startswith(b"data:")]
    return b"\n".join(lines) if lines else None


def event(data: bytes) -> bytes:
    """An event with one line of data."""
    return b"data: " + data + b"\n\n"

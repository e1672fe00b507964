"""The seam between the gateway and the servers that answer: one call goes out, a status, headers and a stream of bytes come back.

BackendError                 nothing usable came back; `kind` says how it failed
 ├─ ConnectError             refused, unreachable, name not found, TLS: no byte was sent
 ├─ TimedOut                 connect, first byte, idle between chunks, or total; `kind` says which
 ├─ ConnectionLost           the peer closed or reset before its answer was complete
 └─ InvalidResponse          what came is not HTTP/1.1, or beyond our bounds
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from msgspec import Struct

Header = tuple[bytes, bytes]

# "stale": a kept-alive connection proved dead before a byte came back; that says nothing about the backend.
FailureKind = Literal["connect", "connect_timeout", "first_byte_timeout", "idle_timeout", "total_timeout", "lost", "stale", "invalid"]


class BackendError(Exception):
    """A call that failed. `kind` comes from a closed set; the text names no secret and is safe to log."""

    def __init__(self, kind: FailureKind, message: str) -> None:
        super().__init__(message)
        self.kind: FailureKind = kind


class ConnectError(BackendError):
    """No connection could be made: nothing was sent."""


class TimedOut(BackendError):
    """One of the four timeouts ran out; `kind` says which."""


class ConnectionLost(BackendError):
    """The peer closed or reset the connection before its answer was complete."""


class InvalidResponse(BackendError):
    """The answer breaks HTTP or one of our bounds."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. `first_byte`: from the request written to the response's first byte. `idle`: between two reads of the body.

    `total`: from the start of the call to its last byte.
    """

    connect: float = 5.0
    first_byte: float = 120.0
    idle: float = 60.0
    total: float = 600.0


class Call(Struct, frozen=True, gc=False):
    """One HTTP request to one backend. `path` starts with a slash and is added to the path of the backend's URL.

    `from_root`: it is added to the server's root instead, which is the URL without its `/v1`.
    """

    method: str
    path: str
    headers: Sequence[Header]
    body: bytes
    timeouts: Timeouts
    from_root: bool = False


Take = Callable[[bytes], bool]
"""Takes the next bytes of a body, and says whether it takes more now. It neither waits nor raises."""


class Response(Protocol):
    """The answer to a call, its body still to come. Header names are lower case."""

    status: int

    @property
    def headers(self) -> Sequence[Header]: ...

    async def read(self) -> bytes:
        """The next bytes of the body as they came off the wire, unframed; b"" at its end. Raises BackendError."""

    async def pour(self, take: Take) -> bool:
        """Hands over what has come, and all that comes, the moment it is here. Raises BackendError.

        True: `take` has said that it is enough for now; what comes then waits. False: that was the body's end.
        """

    def close(self) -> None:
        """Give the connection back if the body was read to its end, else close the socket at once. May be called twice."""


class Transport(Protocol):
    """Sends calls to one backend URL. The whole seam: replace it and nothing else changes."""

    async def send(self, call: Call) -> Response:
        """Returns when status and headers are there. Raises BackendError; cancelling it closes the socket."""

    async def aclose(self) -> None:
        """Closes every connection."""


def root_path(path: str) -> str:
    """The path of a server's root, from the path of an OpenAI-style base URL such as `/prefix/v1`."""
    return path.rstrip("/").removesuffix("/v1")

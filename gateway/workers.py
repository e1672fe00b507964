"""What a supervisor and its workers say to each other, by a pair of sockets for each worker.

A worker says that it is READY, and RELOADED when an operator had it read the configuration anew, so that the others do so too. The
supervisor says nothing; but when it is gone, the socket is closed, and the worker ends as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable

READY = b"r"
RELOADED = b"c"


class Leash:
    """A worker's end. `lost`: called when the supervisor is gone."""

    def __init__(self, channel: socket.socket, lost: Callable[[], None] = lambda: None) -> None:
        self._channel = channel
        self.lost = lost
        channel.setblocking(False)

    @classmethod
    def of(cls, descriptor: int) -> Leash:
        """From an inherited file descriptor."""
        return cls(socket.socket(fileno=descriptor))

    def tell(self) -> None:
        """This worker has read the configuration anew because somebody asked for it."""
        self._say(RELOADED)

    async def run(self) -> None:
        """Says that this worker's signals are in order, and listens until the supervisor is gone."""
        self._say(READY)
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            while await loop.sock_recv(self._channel, 64):
                pass
        self.lost()

    async def aclose(self) -> None:
        self._channel.close()

    def _say(self, word: bytes) -> None:
        with contextlib.suppress(OSError):
            self._channel.send(word)

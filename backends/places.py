"""A number of places, and a line of those who wait for one."""

from __future__ import annotations

import asyncio
from collections import deque


class Places:
    """`take` a place, or `wait` for one; `leave` it in any case. Whoever waits the longest comes first.

    `taken` and `waiting` are counts.
    """

    __slots__ = ("_line", "_total", "taken")

    def __init__(self, total: int) -> None:
        self._total = total
        self._line: deque[asyncio.Future[None]] = deque()
        self.taken = 0

    @property
    def waiting(self) -> int:
        return len(self._line)

    def take(self) -> bool:
        """Takes a place if one is free."""
        if self.taken >= self._total:
            return False
        self.taken += 1
        return True

    async def wait(self) -> None:
        """Returns with a place. Cancelled, it leaves the line, and passes on a place that came at the same moment."""
        turn = asyncio.get_running_loop().create_future()
        self._line.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave()
            elif turn in self._line:
                self._line.remove(turn)
            raise

    def leave(self) -> None:
        """Gives a place back: to the next in line, if anybody waits."""
        while self._line:
            turn = self._line.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.taken -= 1

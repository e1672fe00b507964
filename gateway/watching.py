"""Notices that a file has changed, however it is changed: written into, replaced, or behind a link that now leads elsewhere."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

POLL_SECONDS = 0.5
SETTLE_SECONDS = 0.2
SETTLE_TRIES = 10


class Watch:
    """What stands in a file, compared with when it was last looked at: here, or by `look`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = _digest(path)

    def look(self) -> None:
        """Whoever calls this is about to read the file: only what is changed from now on is news. Blocks."""
        self._seen = _digest(self._path)

    async def change(self) -> None:
        """Returns when something else stands in the file, and has stood still for a moment.

        Whoever writes into a file, rather than replacing it, leaves half of it there for a while, and half a file can be a valid one.
        """
        while True:
            await asyncio.sleep(POLL_SECONDS)
            digest = await asyncio.to_thread(_digest, self._path)
            if digest == self._seen:
                continue
            for _ in range(SETTLE_TRIES):
                await asyncio.sleep(SETTLE_SECONDS)
                before, digest = digest, await asyncio.to_thread(_digest, self._path)
                if digest == before:
                    break
            if digest != self._seen:
                self._seen = digest
                return


def _digest(path: Path) -> bytes:
    """Of what stands there; empty if nothing can be read."""
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError:
        return b""

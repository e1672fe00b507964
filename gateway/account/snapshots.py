"""What learners have learned, kept on disk now and then, and at the end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from routers.api import Keeper

LOOK_SECONDS = 5.0
"""So soon does a process follow a version that another one made to serve."""
_log = logging.getLogger("pointsman")


class Snapshots:
    """Keeps what each of `keepers` (by the name of its plugin) learns. `thread`: the one in which they learn.

    `clock`: seconds. `wall_clock`: Unix time. `failures`: times that something could not be read or written; all else goes on.
    """

    def __init__(
        self,
        keepers: Sequence[tuple[str, Keeper]],
        thread: ThreadPoolExecutor,
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self._keepers = tuple(keepers)
        self._thread = thread
        self._clock = clock
        self._wall_clock = wall_clock
        self.failures = 0

    async def run(self) -> None:
        """Looks every few seconds, and keeps each learner's state as often as it asks for."""
        if not self._keepers:
            return
        pause = min(LOOK_SECONDS, *(keeper.snapshot_seconds for _, keeper in self._keepers))
        kept = [self._clock()] * len(self._keepers)
        while True:
            await asyncio.sleep(pause)
            for place, (name, keeper) in enumerate(self._keepers):
                due = self._clock() - kept[place] >= keeper.snapshot_seconds
                await self._keep(name, keeper, due)
                if due:
                    kept[place] = self._clock()

    async def aclose(self) -> None:
        """Keeps what was told so far. Nothing may be told after that."""
        for name, keeper in self._keepers:
            await self._keep(name, keeper, True)
            keeper.close()

    async def _keep(self, name: str, keeper: Keeper, due: bool) -> None:
        now = datetime.fromtimestamp(self._wall_clock(), UTC)
        try:
            version = await asyncio.get_running_loop().run_in_executor(self._thread, keeper.keep, now, due)
        except (OSError, ValueError) as error:
            self.failures += 1
            _log.warning("plugin %s cannot keep what it learned: %s", name, error)
            return
        if version is not None:
            _log.info("plugin %s keeps what it learned as version %s", name, version)

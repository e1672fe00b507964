"""One call, relayed as it comes."""

from __future__ import annotations

from collections.abc import Sequence

from routers.api import Answer, Ask, Budget, Need, Task, Transcript


class Single:
    """Asks the first of the ranking; the rest may stand in for it."""

    needs: frozenset[Need] = frozenset()

    def next(self, task: Task, so_far: Transcript, left: Budget) -> Sequence[Ask] | Answer:
        return (Ask(tuple(scored.name for scored in task.ranking)),)

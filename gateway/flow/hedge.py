"""A second attempt beside one that is slow: whoever comes first wins, and the other is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")


async def race(
    first: Coroutine[Any, Any, T],
    delay: float,
    second: Callable[[], Coroutine[Any, Any, T] | None],
    *,
    wins: Callable[[T], bool],
    discard: Callable[[T], None],
) -> T:
    """The result of `first`, or that of `second` if it wins earlier. (Dean and Barroso, The Tail at Scale, 2013.)

    When `first` has taken `delay` seconds, `second` is asked for another attempt; it may say None. A result that does not win, such as a
    failure, waits for the other attempt; if neither wins, the later one is returned. This returns when the loser, cancelled, has ended. A
    result that is not returned goes to `discard`, also when this is cancelled itself.

    What an attempt raises is raised here. Where the other has a result already, or both raise, the loop's exception handler gets it.
    """
    tasks = [asyncio.ensure_future(first)]
    try:
        await asyncio.wait(tasks, timeout=max(0.0, delay))
        if not tasks[0].done() and (other := second()) is not None:
            tasks.append(asyncio.ensure_future(other))
        winner = await _winner(tasks, wins)
    except BaseException as error:
        await _end([task for task in tasks if not _raised(task, error)], discard)
        raise
    try:
        await _end([task for task in tasks if task is not winner], discard)
    except asyncio.CancelledError:
        discard(winner.result())
        raise
    return winner.result()


async def _winner(tasks: Sequence[asyncio.Task[T]], wins: Callable[[T], bool]) -> asyncio.Task[T]:
    """The first task whose result wins, else the last one. Raises what an attempt raises."""
    running = set(tasks)
    while True:
        done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        ended = [task for task in tasks if task in done]
        found = next((task for task in ended if wins(task.result())), None)
        if found is not None or not running:
            return found or ended[-1]


def _raised(task: asyncio.Task[T], error: BaseException) -> bool:
    return task.done() and not task.cancelled() and task.exception() is error


async def _end(tasks: Sequence[asyncio.Task[T]], discard: Callable[[T], None]) -> None:
    """Cancels and waits. The callbacks see to what comes of it even if nobody waits any more, as this was cancelled too."""
    for task in tasks:
        if task.done():
            _clear(discard, task)
        else:
            task.add_done_callback(partial(_clear, discard))
            task.cancel()
    running = [task for task in tasks if not task.done()]
    if running:
        await asyncio.wait(running)


def _clear(discard: Callable[[T], None], task: asyncio.Task[T]) -> None:
    if task.cancelled():
        return
    error = task.exception()
    if error is None:
        discard(task.result())
    else:
        context = {"message": "an attempt that lost its race failed", "exception": error, "task": task}
        task.get_loop().call_exception_handler(context)

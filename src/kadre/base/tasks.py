"""Background tasks with a name, a guard and an owner.

Every task in Kadre is made by `Tasks.spawn`: an exception that nobody awaits is logged with the task's
name instead of vanishing, and whoever owns the `Tasks` ends them all in `aclose`.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, NoReturn, TypeVar

log = logging.getLogger(__name__)
T = TypeVar("T")


class Tasks:
    """A set of running tasks that belong together and end together."""

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def spawn(self, name: str, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start `work` as a task of this owner; its failure is logged unless someone awaits it."""
        task = asyncio.get_running_loop().create_task(work, name=f"{self.owner}/{name}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("task %s failed", task.get_name(), exc_info=error)

    async def aclose(self, grace: float = 5.0) -> None:
        """Cancel what still runs and wait at most `grace` seconds for it to end."""
        pending = set(self._tasks)
        for task in pending:
            task.cancel()
        if pending:
            _, stuck = await asyncio.wait(pending, timeout=grace)
            for task in stuck:
                log.error("task %s did not end within %.0f s of being cancelled", task.get_name(), grace)


async def all_of(works: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """What all of these come to, in their order. Where one fails the others are ended before that is raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


async def first_of(*waits: Coroutine[Any, Any, Any]) -> None:
    """Wait until one of these has ended, and end the others."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


async def settled(work: Awaitable[T]) -> Callable[[], T]:
    """What it returned or raised, to be asked for: nobody may be left to raise it to."""
    try:
        result = await work
    except Exception as error:  # noqa: BLE001 - it is the caller's, who gets it raised
        return functools.partial(_raise, error)
    return lambda: result


def _raise(error: Exception) -> NoReturn:
    raise error

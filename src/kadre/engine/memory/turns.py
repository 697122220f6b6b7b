"""Runs of one session that wait for their turn, woken inside the process: no polling.

A store calls `wake` for whoever may be able to go on; the waiter looks for itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator


class Turns:
    """Waiters by run id. All methods belong to the event loop's thread."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}

    @contextlib.contextmanager
    def expecting(self, run_id: str) -> Iterator[asyncio.Future[None]]:
        """What is done when somebody wakes that run from now on, for who must look first where looking takes time."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiters = self._waiting.setdefault(run_id, [])
        waiters.append(waiter)
        try:
            yield waiter
        finally:
            waiters.remove(waiter)
            if not waiters and self._waiting.get(run_id) is waiters:
                del self._waiting[run_id]

    async def changed(self, run_id: str) -> None:
        """Wait until somebody wakes that run."""
        with self.expecting(run_id) as woken:
            await woken

    def wake(self, run_id: str) -> None:
        """Let everyone who waits for that run look again."""
        for waiter in self._waiting.pop(run_id, ()):
            if not waiter.done():
                waiter.set_result(None)

    def wake_all(self) -> None:
        """Let everyone look again: what happened is not known."""
        for run_id in list(self._waiting):
            self.wake(run_id)

"""Level-triggered reconciling: a key in, an outcome out, and what it says is done."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar, assert_never

from kadre.base.tasks import Tasks
from kadre.kube.errors import ApiError
from kadre.kube.outcome import After, Done, Outcome, Retry, Stop
from kadre.kube.queue import Queue

log = logging.getLogger(__name__)
K = TypeVar("K", bound=Hashable)

WORKERS = 16
"""Objects reconciled at once: each waits for the API server most of the time."""


class Controller(Generic[K]):
    """Reconciles the keys added to its queue, each by one worker at a time."""

    def __init__(self, name: str, reconcile: Callable[[K], Awaitable[Outcome]], workers: int = WORKERS) -> None:
        self.name = name
        self.queue: Queue[K] = Queue()
        self.reconciled = 0
        self.failed = 0
        self._reconcile = reconcile
        self._workers = workers

    async def run(self) -> None:
        """Work until cancelled."""
        tasks = Tasks(self.name)
        try:
            await asyncio.gather(*[tasks.spawn(f"worker-{number}", self._work()) for number in range(self._workers)])
        finally:
            await tasks.aclose()
            self.queue.close()

    async def _work(self) -> None:
        while True:
            key = await self.queue.get()
            try:
                self._heed(key, await self._outcome(key))
            finally:
                self.queue.done(key)

    async def _outcome(self, key: K) -> Outcome:
        try:
            return await self._reconcile(key)
        except ApiError as error:
            return Retry(str(error), error.retry_after)
        except Exception as error:
            log.exception("%s: %s could not be reconciled", self.name, key)
            return Retry(f"{type(error).__name__}: {error}")

    def _heed(self, key: K, outcome: Outcome) -> None:
        self.reconciled += 1
        match outcome:
            case Done() | Stop():
                self.queue.forget(key)
            case After(seconds):
                self.queue.forget(key)
                self.queue.add_after(key, seconds)
            case Retry(error, after):
                self.failed += 1
                wait = self.queue.retry(key, after)
                log.warning("%s: %s: %s; trying again in %.1f s", self.name, key, error, wait)
            case _:
                assert_never(outcome)

"""A thread for blocking work, fed in batches by an event loop and answering it once a batch.

While the thread works, jobs gather; the next batch is handed over when the last one has been answered and those it
answered have run. So the busier the process, the larger the batches: no timer and no setting. Knows nothing of stores.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from kadre.base import errors
from kadre.engine.memory.port import CLOSED

MOST = 512
"""Jobs in a batch, so that none waits for the work of thousands."""


class Job:
    """Something to be done by the thread, which leaves a `result` or an `error` here.

    `alone`: set by the thread to be asked again with no other job in the batch.
    """

    __slots__ = ("alone", "error", "future", "result", "settled")

    def __init__(self) -> None:
        self.alone = False
        self.error: Exception | None = None
        self.future: asyncio.Future[Any] | None = None
        self.result: Any = None
        self.settled = False


J = TypeVar("J", bound=Job)
R = TypeVar("R")


class Lane(Generic[J, R]):
    """`work` runs in the thread; `done`, with what work returned (None: nothing), in the loop, before callers go on."""

    def __init__(
        self,
        name: str,
        work: Callable[[Sequence[J]], R | None],
        done: Callable[[R], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._work = work
        self._done = done
        self._loop = loop
        self._waiting: list[J] = []
        self._busy = False
        self._closed = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._queue: queue.SimpleQueue[Sequence[J] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    async def do(self, job: J) -> Any:
        """The job's result, or its error raised. A caller that is cancelled meanwhile may leave: nobody needs it."""
        return await self._submit(job)

    async def see_through(self, job: J) -> Any:
        """As `do`, but a caller that is cancelled leaves only when the job is settled, so that it can look what is so.

        Its cancellation is raised then, whatever came of the job.
        """
        future = self._submit(job)
        try:
            return await future
        except asyncio.CancelledError:
            while not job.settled:
                job.future = self._loop.create_future()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await job.future
            raise

    def _submit(self, job: J) -> asyncio.Future[Any]:
        if self._closed:
            raise errors.Unavailable("the journal is closed", reason=CLOSED)
        job.future = future = self._loop.create_future()
        self._waiting.append(job)
        if not self._busy:
            self._busy = True
            self._idle.clear()
            self._loop.call_soon(self._hand_over)
        return future

    def _hand_over(self) -> None:
        count = min(len(self._waiting), MOST)
        alone = next((index for index, job in enumerate(self._waiting[:count]) if job.alone), count)
        count = alone or 1
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        self._queue.put(batch)

    def _run(self) -> None:
        while (batch := self._queue.get()) is not None:
            outcome: R | None = None
            try:
                outcome = self._work(batch)
            except Exception as error:  # noqa: BLE001 - whoever asked is told; the thread must live on
                for job in batch:
                    job.error = error
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._answer, batch, outcome)

    def _answer(self, batch: Sequence[J], outcome: R | None) -> None:
        if outcome is not None:
            self._done(outcome)
        again: list[J] = []
        for job in batch:
            if job.alone and len(batch) > 1:
                again.append(job)
            else:
                _settle(job)
        self._waiting[:0] = again
        self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        """Those just answered have had their chance to bring more."""
        if self._waiting:
            self._hand_over()
        else:
            self._busy = False
            self._idle.set()

    async def aclose(self) -> None:
        """Take no more, finish what waits, end the thread."""
        self._closed = True
        await self._idle.wait()
        self._queue.put(None)
        if self._thread.is_alive():
            self._thread.join()


def _settle(job: Job) -> None:
    job.settled = True
    future = job.future
    if future is None or future.done():
        return
    if job.error is not None:
        future.set_exception(job.error)
    else:
        future.set_result(job.result)

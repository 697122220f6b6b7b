"""A store that fails, breaks or gets stuck at the call it is told to; otherwise an in-memory one."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, Literal, TypeVar

from kadre.base.errors import Unavailable
from kadre.engine import events as ev
from kadre.engine.memory.inmemory import InMemoryJournal
from kadre.engine.memory.port import Created, NewRun, RunInfo

T = TypeVar("T")
Fault = Literal["fails", "is down", "breaks", "is stuck before", "is stuck after"]
"""`is down`: every call fails from that one on, until `heal`. Stuck before or after what the call does is done."""


class Unsteady(InMemoryJournal):
    """Does to its call number `at` (from 1) what `fault` says. Lets others go on at every call, as a disk would."""

    def __init__(self, fault: Fault | None = None, at: int = 0) -> None:
        super().__init__()
        self.fault = fault
        self.at = at
        self.calls: list[str] = []
        self.stuck: asyncio.Future[asyncio.Task[Any] | None] = asyncio.get_running_loop().create_future()
        """Done with whoever is stuck."""
        self._well = asyncio.Event()

    @property
    def struck(self) -> bool:
        """Whether the fault has happened."""
        return 0 < self.at <= len(self.calls)

    def heal(self) -> None:
        """Be well from now on."""
        self.fault = None
        self._well.set()

    async def _do(self, name: str, work: Coroutine[Any, Any, T]) -> T:
        self.calls.append(name)
        number = len(self.calls)
        fault = self.fault if number == self.at or (self.fault == "is down" and number > self.at) else None
        try:
            await asyncio.sleep(0)
            if fault in ("fails", "is down"):
                raise Unavailable("the disk is full", reason="JournalUnavailable")
            if fault == "breaks":
                raise RuntimeError("a mistake in the store")
            if fault == "is stuck before":
                await self._stop()
            result = await work
            if fault == "is stuck after":
                await self._stop()
            await asyncio.sleep(0)
            return result
        finally:
            work.close()

    async def _stop(self) -> None:
        self.stuck.set_result(asyncio.current_task())
        await self._well.wait()

    async def create(self, new: NewRun, first: Sequence[ev.Event]) -> Created:
        return await self._do("create", super().create(new, first))

    async def append(self, run_id: str, expected_seq: int, events: Sequence[ev.Event], epoch: int) -> None:
        await self._do("append", super().append(run_id, expected_seq, events, epoch))

    async def turn(self, run_id: str) -> None:
        await self._do("turn", super().turn(run_id))

    async def claim(self, run_id: str, seen: RunInfo | None = None) -> RunInfo:
        return await self._do("claim", super().claim(run_id, seen))

    async def run(self, run_id: str) -> RunInfo | None:
        return await self._do("run", super().run(run_id))

    async def events(self, run_id: str, after: int = 0, limit: int = 10_000) -> Sequence[ev.Event]:
        return await self._do("events", super().events(run_id, after, limit))

    async def runs(self, **wanted: Any) -> Sequence[RunInfo]:
        return await self._do("runs", super().runs(**wanted))

    async def history(self, agent: str, session_id: str, before_order: int, limit: int) -> Sequence[ev.Event]:
        return await self._do("history", super().history(agent, session_id, before_order, limit))

    async def put_blob(self, data: bytes) -> str:
        return await self._do("put_blob", super().put_blob(data))

    async def get_blob(self, digest: str) -> bytes:
        return await self._do("get_blob", super().get_blob(digest))

    async def recover(self) -> Sequence[RunInfo]:
        return await self._do("recover", super().recover())

    def kept(self, run_id: str) -> Sequence[ev.Event]:
        """The run's events now, asked of nobody."""
        run = self._runs.get(run_id)
        return tuple(run.events) if run else ()

    def infos(self) -> Sequence[RunInfo]:
        """Every run now, asked of nobody."""
        return [run.head.info for run in self._runs.values()]

"""The journal in a SQLite file: what `kadre up` uses unless told otherwise. One process owns the file.

Callers hand their writes to one thread, which commits everything that waits as one transaction and one flush of the
disk. Reads go to two more threads: one for what a turn needs, one for lists, which may take longer. The event loop
itself never waits for the disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sqlite3
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from kadre.base import errors
from kadre.base.clock import Clock, SystemClock
from kadre.engine import events as ev
from kadre.engine.memory import projection, sqlite_file, sqlite_reads, sqlite_rows, sqlite_writer
from kadre.engine.memory.lane import Job, Lane
from kadre.engine.memory.port import Age, Created, NewRun, RunInfo, SessionInfo
from kadre.engine.memory.sqlite_writer import Changes, Write
from kadre.engine.memory.turns import Turns

DELETE_AT_ONCE = 100
"""Sessions forgotten by one transaction: other writes go between."""
BLOB_GRACE = timedelta(hours=1)
"""How long a blob may wait for the event that names it."""
T = TypeVar("T")


class _Read(Job):
    __slots__ = ("call",)

    def __init__(self, call: Callable[[sqlite3.Connection], Any]) -> None:
        super().__init__()
        self.call = call


class SqliteJournal:
    """See `port.Journal`. Made by `open`."""

    durable = True
    shared = False

    def __init__(self, path: Path, owned: contextlib.ExitStack, clock: Clock, loop: asyncio.AbstractEventLoop) -> None:
        self.path = path
        self._owned = owned
        self._clock = clock
        self._turns = Turns()
        self._db = self._connected()
        sqlite_file.prepare(self._db, path)
        self._remembered = sqlite_reads.remember(self._db)
        self.presence = sqlite_file.Presence(path)
        self._writer = sqlite_writer.Writer(self._db, self.presence, self._remembered)
        self._writes: Lane[Write, Changes] = Lane("journal-writes", self._writer.work, self._written, loop)
        self._reads = self._reader("journal-reads", loop)
        self._lists = self._reader("journal-lists", loop)

    @classmethod
    async def open(cls, data_dir: Path | str, *, clock: Clock | None = None) -> SqliteJournal:
        """The journal of that directory, which is made where it is missing and is this process's from now on.

        Raises ProblemError: another process has it, it cannot be used, or a newer version wrote it.
        """
        loop = asyncio.get_running_loop()
        return await asyncio.to_thread(cls._opened, Path(data_dir), clock or SystemClock(), loop)

    @classmethod
    def _opened(cls, data_dir: Path, clock: Clock, loop: asyncio.AbstractEventLoop) -> SqliteJournal:
        path = data_dir / sqlite_file.FILE
        with contextlib.ExitStack() as owned:
            owned.callback(sqlite_file.DataDir(data_dir).close)
            try:
                journal = cls(path, owned, clock, loop)
            except (sqlite3.Error, msgspec.DecodeError) as error:
                raise sqlite_file.unusable(path, error) from error
            journal._owned = owned.pop_all()
        for lane in (journal._writes, journal._reads, journal._lists):
            lane.start()
        return journal

    def _connected(self) -> sqlite3.Connection:
        db = sqlite_file.connect(self.path)
        self._owned.callback(db.close)
        return db

    def _reader(self, name: str, loop: asyncio.AbstractEventLoop) -> Lane[_Read, None]:
        db = self._connected()

        def work(batch: Sequence[_Read]) -> None:
            for job in batch:
                try:
                    job.result = job.call(db)
                except sqlite3.Error as error:
                    job.error = sqlite_file.unavailable(self.path, error)
                except Exception as error:  # noqa: BLE001 - it is the caller's, who gets it raised
                    job.error = error

        return Lane(name, work, lambda _: None, loop)

    def _written(self, changes: Changes) -> None:
        self._remembered.take(changes.runs, {**changes.loaded, **changes.sessions})
        for run_id in changes.woken:
            self._turns.wake(run_id)

    async def _read(self, call: Callable[..., T], *args: Any) -> T:
        result: T = await self._reads.do(_Read(lambda db: call(db, *args)))
        return result

    async def create(self, new: NewRun, first: Sequence[ev.Event]) -> Created:
        """See `port.Journal.create`."""
        created: Created = await self._writes.see_through(sqlite_writer.Create(new, first))
        return created

    async def append(self, run_id: str, expected_seq: int, events: Sequence[ev.Event], epoch: int) -> None:
        """See `port.Journal.append`."""
        await self._writes.see_through(sqlite_writer.Append(run_id, expected_seq, events, epoch))

    async def turn(self, run_id: str) -> None:
        """See `port.Journal.turn`."""
        while True:
            row = self._remembered.runs.get(run_id)
            if row is None:
                ended = await self._known(run_id)
                raise errors.Fenced(f"run {run_id} has ended ({ended.status})")
            info = row.head.info
            if self._remembered.sessions[(info.agent, info.session_id)].open[0] == run_id:
                if info.status == "queued":
                    await self._writes.see_through(sqlite_writer.Move(run_id, claim=False))
                return
            await self._turns.changed(run_id)

    async def claim(self, run_id: str, seen: RunInfo | None = None) -> RunInfo:
        """See `port.Journal.claim`."""
        if run_id not in self._remembered.runs:
            projection.claimed(projection.Head(await self._known(run_id)))
        info: RunInfo = await self._writes.see_through(sqlite_writer.Move(run_id, claim=True, seen=seen))
        return info

    async def _known(self, run_id: str) -> RunInfo:
        info = await self.run(run_id)
        if info is None:
            raise errors.NotFound(f"no run {run_id}")
        return info

    async def run(self, run_id: str) -> RunInfo | None:
        """See `port.Journal.run`."""
        row = self._remembered.runs.get(run_id)
        return row.head.info if row else await self._read(sqlite_reads.run, run_id)

    async def events(self, run_id: str, after: int = 0, limit: int = 10_000) -> Sequence[ev.Event]:
        """See `port.Journal.events`."""
        return await self._read(sqlite_reads.events, run_id, after, limit)

    async def runs(
        self,
        *,
        agent: str | None = None,
        session_id: str | None = None,
        status: ev.RunStatus | None = None,
        caller: str | None = None,
        before: Age | None = None,
        limit: int = 100,
    ) -> Sequence[RunInfo]:
        """See `port.Journal.runs`."""
        wanted = {"s.agent =": agent, "s.session_id =": session_id, "r.status =": status, "s.caller =": caller}
        found: Sequence[RunInfo] = await self._lists.do(_Read(lambda db: sqlite_reads.runs(db, wanted, before, limit)))
        return found

    async def sessions(
        self,
        *,
        agent: str | None = None,
        session_id: str | None = None,
        caller: str | None = None,
        limit: int = 100,
    ) -> Sequence[SessionInfo]:
        """See `port.Journal.sessions`."""
        wanted = {"s.agent =": agent, "s.session_id =": session_id, "s.caller =": caller}
        found: Sequence[SessionInfo] = await self._lists.do(_Read(lambda db: sqlite_reads.sessions(db, wanted, limit)))
        return found

    async def rename_session(self, agent: str, session_id: str, title: str) -> None:
        """See `port.Journal.rename_session`."""
        await self._session(agent, session_id)
        await self._writes.do(sqlite_writer.Rename(agent, session_id, title))

    async def delete_session(self, agent: str, session_id: str) -> None:
        """See `port.Journal.delete_session`."""
        session = await self._session(agent, session_id)
        blobs_before = sqlite_rows.microseconds(self._clock.now() - BLOB_GRACE)
        while not await self._writes.do(sqlite_writer.Delete([session], blobs_before)):
            session = await self._session(agent, session_id)  # it got a run meanwhile, or has one under way
            known = self._remembered.sessions.get((agent, session_id))
            if known is not None and known.open:
                raise projection.still_busy(session_id)

    async def _session(self, agent: str, session_id: str) -> sqlite_rows.SessionRow:
        found = await self._read(sqlite_reads.session, agent, session_id)
        if found is None:
            raise projection.no_session(session_id)
        return found

    async def history(self, agent: str, session_id: str, before_order: int, limit: int) -> Sequence[ev.Event]:
        """See `port.Journal.history`."""
        if before_order <= 1:
            return ()
        return await self._read(sqlite_reads.history, agent, session_id, before_order, limit)

    async def put_blob(self, data: bytes) -> str:
        """See `port.Journal.put_blob`."""
        put = sqlite_rows.microseconds(self._clock.now())
        digest: str = await self._writes.do(sqlite_writer.PutBlob(data, put))
        return digest

    async def get_blob(self, digest: str) -> bytes:
        """See `port.Journal.get_blob`."""
        data = await self._read(sqlite_reads.blob, digest)
        if data is None:
            raise errors.NotFound(f"no blob {digest}")
        return data

    async def delete_sessions_before(self, agent: str, before: datetime) -> int:
        """See `port.Journal.delete_sessions_before`."""
        read = functools.partial(
            sqlite_reads.sessions_before, agent=agent, before=sqlite_rows.microseconds(before), limit=DELETE_AT_ONCE
        )
        blobs_before = sqlite_rows.microseconds(self._clock.now() - BLOB_GRACE)
        count = 0
        while sessions := await self._lists.do(_Read(read)):
            deleted: int = await self._writes.do(sqlite_writer.Delete(sessions, blobs_before))
            if not deleted:
                break
            count += deleted
        if self._writer.leftovers:
            await self._writes.do(sqlite_writer.Prune(blobs_before))
        return count

    async def recover(self) -> Sequence[RunInfo]:
        """See `port.Journal.recover`."""
        cut_off = [
            self._interrupt(row.head.info)
            for row in list(self._remembered.runs.values())
            if row.head.info.status in ("queued", "running")
        ]
        return await asyncio.gather(*cut_off)

    async def _interrupt(self, info: RunInfo) -> RunInfo:
        events = await self.events(info.run_id, limit=info.last_seq)
        if projection.decided(events):
            return info
        last = projection.interruption(info, events, self._clock.now())
        await self.append(info.run_id, info.last_seq, last, info.epoch)
        return await self._known(info.run_id)

    async def aclose(self) -> None:
        """See `port.Journal.aclose`."""
        for lane in (self._writes, self._reads, self._lists):
            await lane.aclose()
        self._owned.close()

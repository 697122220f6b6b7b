"""The journal in a PostgreSQL database, which several processes may share.

Nothing of a run or session is remembered here: every decision is taken by the database, or from what was read of it
under a lock. A turn that comes in another process is heard of by the connection that listens.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

from kadre.base import errors
from kadre.base.clock import Clock, SystemClock
from kadre.base.tasks import Tasks, settled
from kadre.engine import events as ev
from kadre.engine.memory import (
    postgres_reads,
    postgres_schema,
    postgres_server,
    postgres_watch,
    postgres_writes,
)
from kadre.engine.memory.port import Age, Created, NewRun, RunInfo, SessionInfo
from kadre.engine.memory.turns import Turns

DELETE_AT_ONCE = 100
"""Sessions forgotten by one transaction: other writes go between."""
BLOB_GRACE = timedelta(hours=1)
"""How long a blob may wait for the event that names it; and how often blobs that wait for none are looked for."""
T = TypeVar("T")


class PostgresJournal:
    """See `port.Journal`. Made by `open`."""

    durable = True
    shared = True

    def __init__(self, server: postgres_server.Server, watch: postgres_watch.Watch, turns: Turns, clock: Clock) -> None:
        self._server = server
        self._watch = watch
        self._turns = turns
        self._clock = clock
        self._tasks = Tasks("journal")
        self._writing: set[asyncio.Task[Any]] = set()
        self._closed = False
        self._pruned: datetime | None = None

    @classmethod
    async def open(
        cls,
        address: Callable[[], postgres_server.Address] | str,
        *,
        schema: str = postgres_server.SCHEMA,
        connections: int = postgres_server.CONNECTIONS,
        lease: float = postgres_watch.LEASE_SECONDS,
        clock: Clock | None = None,
    ) -> PostgresJournal:
        """The journal in that schema of `postgresql://user:password@host:port/database`, made where it is missing.

        `address`: asked again before every connection. `connections`: at most so many, beside one that listens.
        `lease`: seconds of silence after which others take this process for dead. Raises ProblemError: the address
        cannot be read, the server refuses us, or a newer version wrote it; Unavailable: the server is not reached now.
        """
        clock = clock or SystemClock()
        where = postgres_server.place(address, schema)
        turns = Turns()
        watch = postgres_watch.Watch(where, turns, clock, lease)
        async with contextlib.AsyncExitStack() as owned:
            try:
                server = await postgres_server.Server.open(where, clock, connections)
                owned.push_async_callback(server.aclose)
                await server.once(lambda db: postgres_schema.prepare(db, where))
                await watch.open()
            except postgres_server.FAILURES as error:
                raise postgres_server.unusable(where, error) from error
            owned.pop_all()
        journal = cls(server, watch, turns, clock)
        journal._tasks.spawn("watch", watch.follow())
        return journal

    async def _read(self, call: Callable[..., Awaitable[T]], *args: Any) -> T:
        return await self._server.do(lambda db: call(db, *args))

    async def _see_through(self, work: Callable[[postgres_server.Connection], Coroutine[Any, Any, T]]) -> T:
        """What the write comes to. A caller that is cancelled leaves only when it is settled, to look what is so."""
        if self._closed:
            raise postgres_server.closed()
        task = self._tasks.spawn("write", settled(self._server.do(work)))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)
        try:
            outcome = await asyncio.shield(task)
        except asyncio.CancelledError:
            while not task.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([task])
            raise
        return outcome()

    async def create(self, new: NewRun, first: Sequence[ev.Event]) -> Created:
        """See `port.Journal.create`."""
        return await self._see_through(postgres_writes.Creation(new, first, self._watch.owner))

    async def append(self, run_id: str, expected_seq: int, events: Sequence[ev.Event], epoch: int) -> None:
        """See `port.Journal.append`."""
        appending = postgres_writes.Appending(run_id, expected_seq, events, epoch)
        try:
            next_run = await self._see_through(appending)
        finally:
            if events and isinstance(events[-1], ev.RunFinished):
                self._turns.wake(run_id)
        if next_run:
            self._turns.wake(next_run)

    async def turn(self, run_id: str) -> None:
        """See `port.Journal.turn`."""
        while True:
            with self._turns.expecting(run_id) as woken:
                try:
                    if await self._is_next(run_id):
                        return
                except postgres_server.JournalUnavailable:  # it can wait longer than a caller can
                    if self._closed:
                        raise
                await woken

    async def _is_next(self, run_id: str) -> bool:
        """Whether it is the run's turn, which is then marked running."""
        found = await self._read(postgres_reads.turn, run_id)
        if found is None:
            raise errors.NotFound(f"no run {run_id}")
        status, blocked = found
        if status in ev.ENDED:
            raise errors.Fenced(f"run {run_id} has ended ({status})")
        if status == "queued" and not blocked:
            await self._see_through(lambda db: postgres_writes.running(db, run_id))
        return not blocked

    async def claim(self, run_id: str, seen: RunInfo | None = None) -> RunInfo:
        """See `port.Journal.claim`."""
        return await self._see_through(lambda db: postgres_writes.claim(db, run_id, self._watch.owner, seen))

    async def run(self, run_id: str) -> RunInfo | None:
        """See `port.Journal.run`."""
        return await self._read(postgres_reads.run, run_id)

    async def events(self, run_id: str, after: int = 0, limit: int = 10_000) -> Sequence[ev.Event]:
        """See `port.Journal.events`."""
        return await self._read(postgres_reads.events, run_id, after, limit)

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
        wanted = {"s.agent": agent, "s.session_id": session_id, "r.status": status, "s.caller": caller}
        return await self._read(postgres_reads.runs, wanted, before, limit)

    async def sessions(
        self, *, agent: str | None = None, caller: str | None = None, limit: int = 100
    ) -> Sequence[SessionInfo]:
        """See `port.Journal.sessions`."""
        return await self._read(postgres_reads.sessions, {"s.agent": agent, "s.caller": caller}, limit)

    async def history(self, agent: str, session_id: str, before_order: int, limit: int) -> Sequence[ev.Event]:
        """See `port.Journal.history`."""
        if before_order <= 1:
            return ()
        return await self._read(postgres_reads.history, (agent, session_id), before_order, limit)

    async def put_blob(self, data: bytes) -> str:
        """See `port.Journal.put_blob`."""
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        await self._read(postgres_writes.put_blob, digest, data, self._clock.now())
        return digest

    async def get_blob(self, digest: str) -> bytes:
        """See `port.Journal.get_blob`."""
        data = await self._read(postgres_reads.blob, digest)
        if data is None:
            raise errors.NotFound(f"no blob {digest}")
        return data

    async def delete_sessions_before(self, agent: str, before: datetime) -> int:
        """See `port.Journal.delete_sessions_before`."""
        now = self._clock.now()
        old = now - BLOB_GRACE
        count = 0
        forget = functools.partial(postgres_writes.forget, agent=agent, before=before, blobs_before=old)
        while forgotten := await self._server.do(functools.partial(forget, most=DELETE_AT_ONCE)):
            count += forgotten
        if self._pruned is None or self._pruned <= old:
            await self._read(postgres_writes.prune, old)
            self._pruned = now
        return count

    async def held(self) -> Sequence[RunInfo]:
        """See `port.SharedJournal.held`."""
        return await self._read(postgres_watch.held, self._watch.owner)

    async def abandoned(self, agents: Collection[str]) -> Sequence[RunInfo]:
        """See `port.SharedJournal.abandoned`."""
        return await self._read(self._watch.abandoned, agents)

    async def news(self) -> None:
        """See `port.SharedJournal.news`."""
        await self._watch.news.wait()
        self._watch.news.clear()

    async def aclose(self) -> None:
        """See `port.Journal.aclose`."""
        self._closed = True
        while self._writing:
            await asyncio.wait(self._writing)
        await self._tasks.aclose()
        await self._watch.aclose()
        await self._server.aclose()

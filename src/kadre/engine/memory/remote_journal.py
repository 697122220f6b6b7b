"""The journal on a server that several processes may share, whichever server it is.

Nothing of a run or session is remembered here: every decision is taken by the server, or from what was read of it and
is still so. A turn that comes in another process is heard of by the connection that listens.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar

from kadre.base import errors
from kadre.base.clock import Clock
from kadre.base.tasks import Tasks, settled
from kadre.engine import events as ev
from kadre.engine.memory import deleted, projection, remote
from kadre.engine.memory.port import Age, Created, NewRun, RunInfo, SessionInfo
from kadre.engine.memory.remote_watch import Watch
from kadre.engine.memory.turns import Turns

DELETE_AT_ONCE = 100
"""Sessions forgotten by one transaction: other writes go between."""
BLOB_GRACE = timedelta(hours=1)
"""How long a blob may wait for the event that names it; and how often blobs that wait for none are looked for."""
T = TypeVar("T")


class Reads(Protocol):
    """What is read of a server, each by a connection of it; see `Journal`. A module is one."""

    async def turn(self, db: Any, run_id: str, /) -> tuple[ev.RunStatus, bool] | None:
        """The run's status, and whether a lower one of its session is open."""

    async def run(self, db: Any, run_id: str, /) -> RunInfo | None:
        """The run, or None."""

    async def events(self, db: Any, run_id: str, after: int, limit: int, /) -> Sequence[ev.Event]:
        """At most so many of its events after that number."""

    async def runs(
        self, db: Any, wanted: Mapping[str, str | None], before: Age | None, limit: int, /
    ) -> Sequence[RunInfo]:
        """Runs that are as wanted, the newest first."""

    async def sessions(self, db: Any, wanted: Mapping[str, str | None], limit: int, /) -> Sequence[SessionInfo]:
        """Sessions that are as wanted, the latest used first."""

    async def history(self, db: Any, key: tuple[str, str], before_order: int, limit: int, /) -> Sequence[ev.Event]:
        """What was said in the session with that agent and id."""

    async def blob(self, db: Any, digest: str, /) -> bytes | None:
        """The value, or None."""


class Writes(Protocol):
    """What is written to a server, each by a connection of it and, where that breaks, again; see `Journal`."""

    def Creation(  # noqa: N802 - a class, in the modules that are one
        self, new: NewRun, first: Sequence[ev.Event], owner: Any
    ) -> Callable[[Any], Coroutine[Any, Any, Created]]:
        """The run, new or known."""

    def Appending(  # noqa: N802 - as above
        self, run_id: str, expected_seq: int, events: Sequence[ev.Event], epoch: int
    ) -> Callable[[Any], Coroutine[Any, Any, str]]:
        """The run whose turn it is where this one has ended and another waits; else the empty string."""

    def Deletion(  # noqa: N802 - as above
        self, agent: str, session_id: str, blobs_before: datetime
    ) -> Callable[[Any], Coroutine[Any, Any, bool]]:
        """Whether the session rested, and is gone."""

    async def rename(self, db: Any, agent: str, session_id: str, title: str, /) -> bool:
        """Give the session that title; whether it is there."""

    async def claim(self, db: Any, run_id: str, owner: Any, seen: RunInfo | None = None, /) -> RunInfo:
        """The run, which is that owner's now."""

    async def running(self, db: Any, run_id: str, /) -> None:
        """Mark a queued run as running."""

    async def put_blob(self, db: Any, digest: str, data: bytes, put: datetime, /) -> None:
        """Keep the value; one that is there is as young as new."""

    async def forget(self, db: Any, agent: str, before: datetime, blobs_before: datetime, most: int, /) -> int:
        """Forget some of the agent's sessions that rest since then; how many, 0: there are no more."""

    async def prune(self, db: Any, before: datetime, /) -> None:
        """Forget blobs put before that moment that no event names."""


class RemoteJournal:
    """See `port.SharedJournal`. A store says what it reads and writes, and opens its server and its watch."""

    durable = True
    shared = True
    reads: Reads
    writes: Writes

    def __init__(self, server: remote.Server[Any], watch: Watch[Any], turns: Turns, clock: Clock) -> None:
        self._server = server
        self._watch = watch
        self._turns = turns
        self._clock = clock
        self._tasks = Tasks("journal")
        self._writing: set[asyncio.Task[Any]] = set()
        self._closed = False
        self._pruned: datetime | None = None

    def start(self) -> None:
        """Keep the lease from now on."""
        self._tasks.spawn("watch", self._watch.follow())

    async def _read(self, call: Callable[..., Awaitable[T]], *args: Any) -> T:
        return await self._server.do(lambda db: call(db, *args))

    async def _see_through(self, work: Callable[[Any], Coroutine[Any, Any, T]]) -> T:
        """What the write comes to. A caller that is cancelled leaves only when it is settled, to look what is so."""
        if self._closed:
            raise remote.closed()
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
        return await self._see_through(self.writes.Creation(new, first, self._watch.owner))

    async def append(self, run_id: str, expected_seq: int, events: Sequence[ev.Event], epoch: int) -> None:
        """See `port.Journal.append`."""
        appending = self.writes.Appending(run_id, expected_seq, events, epoch)
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
                except remote.JournalUnavailable:  # it can wait longer than a caller can
                    if self._closed:
                        raise
                await woken

    async def _is_next(self, run_id: str) -> bool:
        """Whether it is the run's turn, which is then marked running."""
        found = await self._read(self.reads.turn, run_id)
        if found is None:
            raise errors.NotFound(f"no run {run_id}")
        status, blocked = found
        if status in ev.ENDED:
            raise errors.Fenced(f"run {run_id} has ended ({status})")
        if status == "queued" and not blocked:
            await self._see_through(lambda db: self.writes.running(db, run_id))
        return not blocked

    async def claim(self, run_id: str, seen: RunInfo | None = None) -> RunInfo:
        """See `port.Journal.claim`."""
        return await self._see_through(lambda db: self.writes.claim(db, run_id, self._watch.owner, seen))

    async def run(self, run_id: str) -> RunInfo | None:
        """See `port.Journal.run`."""
        return await self._read(self.reads.run, run_id)

    async def events(self, run_id: str, after: int = 0, limit: int = 10_000) -> Sequence[ev.Event]:
        """See `port.Journal.events`."""
        return await self._read(self.reads.events, run_id, after, limit)

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
        wanted = {"agent": agent, "session_id": session_id, "status": status, "caller": caller}
        return await self._read(self.reads.runs, wanted, before, limit)

    async def sessions(
        self,
        *,
        agent: str | None = None,
        session_id: str | None = None,
        caller: str | None = None,
        limit: int = 100,
    ) -> Sequence[SessionInfo]:
        """See `port.Journal.sessions`."""
        wanted = {"agent": agent, "session_id": session_id, "caller": caller}
        return await self._read(self.reads.sessions, wanted, limit)

    async def rename_session(self, agent: str, session_id: str, title: str) -> None:
        """See `port.Journal.rename_session`."""
        if not await self._see_through(lambda db: self.writes.rename(db, agent, session_id, title)):
            raise projection.no_session(session_id)

    async def delete_session(self, agent: str, session_id: str) -> None:
        """See `port.Journal.delete_session`."""
        with contextlib.suppress(
            remote.JournalUnavailable
        ):  # one whose memory is full may be told to forget all the same
            await self.put_blob(deleted.mark(agent, session_id))
        deletion = self.writes.Deletion(agent, session_id, self._clock.now() - BLOB_GRACE)
        if not await self._see_through(deletion):
            raise projection.still_busy(session_id)

    async def history(self, agent: str, session_id: str, before_order: int, limit: int) -> Sequence[ev.Event]:
        """See `port.Journal.history`."""
        if before_order <= 1:
            return ()
        return await self._read(self.reads.history, (agent, session_id), before_order, limit)

    async def put_blob(self, data: bytes) -> str:
        """See `port.Journal.put_blob`."""
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        await self._read(self.writes.put_blob, digest, data, self._clock.now())
        return digest

    async def get_blob(self, digest: str) -> bytes:
        """See `port.Journal.get_blob`."""
        data = await self._read(self.reads.blob, digest)
        if data is None:
            raise errors.NotFound(f"no blob {digest}")
        return data

    async def delete_sessions_before(self, agent: str, before: datetime) -> int:
        """See `port.Journal.delete_sessions_before`."""
        now = self._clock.now()
        old = now - BLOB_GRACE
        count = 0

        async def forget(db: Any) -> int:
            return await self.writes.forget(db, agent, before, old, DELETE_AT_ONCE)

        while forgotten := await self._server.do(forget):
            count += forgotten
        if self._pruned is None or self._pruned <= old:
            await self._read(self.writes.prune, old)
            self._pruned = now
        return count

    async def held(self) -> Sequence[RunInfo]:
        """See `port.SharedJournal.held`."""
        return await self._read(self._watch.held)

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

"""What is written to the PostgreSQL journal. It may be carried out twice where a connection broke in the middle."""

# ruff: noqa: S608 - only constants of these modules are put together; every value is bound

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import asyncpg
import msgspec

from kadre.base import errors
from kadre.engine import events as ev
from kadre.engine.memory import postgres_reads, projection, remote_rules
from kadre.engine.memory.port import Created, NewRun, RunInfo
from kadre.engine.memory.postgres_schema import OPEN
from kadre.engine.memory.postgres_server import Connection

_BEGIN_RUN = f"SELECT begin_run({', '.join(f'${number}' for number in range(1, 16))})"
_ADD_RUN = f"SELECT add_run({', '.join(f'${number}' for number in range(1, 14))})"
_APPEND = f"SELECT append({', '.join(f'${number}' for number in range(1, 13))})"
_CLAIM = f"""
    UPDATE runs r SET epoch = r.epoch + 1, owner = $2 FROM sessions s
    WHERE r.run_id = $1 AND s.no = r.session AND r.status IN {OPEN}
        AND ($3::integer IS NULL OR (r.epoch, r.last_seq) = ($3, $4::integer))
    RETURNING {postgres_reads.RUN_COLUMNS}, pg_notify(current_schema() || '_claims', '')"""
_RUNNING = "UPDATE runs SET status = 'running' WHERE run_id = $1 AND status = 'queued'"
_PUT_BLOB = """
    INSERT INTO blobs (digest, put, data) VALUES ($1, $2, $3) ON CONFLICT (digest) DO UPDATE SET put = excluded.put"""


def _encode(run_id: str, last_seq: int, events: Sequence[ev.Event]) -> bytes:
    remote_rules.check_room(run_id, last_seq)
    return ev.encode_lines(events)


class Creation:
    """See `Journal.create`; called with a connection, again with another one where that breaks."""

    def __init__(self, new: NewRun, first: Sequence[ev.Event], owner: int) -> None:
        self._new = new
        self._first = first
        self._owner = owner
        self._sent = False

    async def __call__(self, db: Connection) -> Created:
        """The run, new or known."""
        again, self._sent = self._sent, True
        try:
            return await self._plainly(db) or await self._closely(db, again)
        except asyncpg.UniqueViolationError:  # the id was taken at the same moment, and is known now
            return await self._closely(db, again)

    async def _plainly(self, db: Connection) -> Created | None:
        """The run if its session rests and nothing speaks against it, in one round trip; None: nothing was written."""
        new = self._new
        head, first = projection.begin(new, 1, 0, self._first)
        values = self._values(head, first)
        order = await db.fetchval(_BEGIN_RUN, new.agent, new.session_id, new.caller, *values)
        return Created(msgspec.structs.replace(head.info, order=order)) if order else None

    def _values(self, head: projection.Head, first: Sequence[ev.Event]) -> tuple[Any, ...]:
        info = head.info
        return (
            info.run_id,
            info.status,
            info.last_seq,
            self._owner,
            info.parent_run_id,
            info.created,
            info.updated,
            info.usage.prompt_tokens,
            info.usage.completion_tokens,
            info.usage.total_tokens,
            _encode(info.run_id, info.last_seq, first),
            remote_rules.digests(first),
        )

    async def _closely(self, db: Connection, again: bool) -> Created:
        """The run where somebody must be asked: its id is known, or its session has another owner or is busy."""
        new = self._new
        async with db.transaction():
            known = await postgres_reads.run(db, new.run_id)
            if known is not None:
                return await self._known(db, known, again)
            started = self._first[0].time
            session = await db.fetchrow(
                "SELECT no, caller, runs FROM enter($1, $2, $3, $4)", new.agent, new.session_id, new.caller, started
            )
            open_runs = await postgres_reads.open_runs(db, new.agent, new.session_id)
            heads = [await _whole(db, info) for info in open_runs]
            position = projection.admit(new, session["caller"], heads)
            head, first = projection.begin(new, session["runs"] + 1, position, self._first)
            await db.fetchval(_ADD_RUN, session["no"], *self._values(head, first))
        return Created(head.info, position)

    async def _known(self, db: Connection, info: RunInfo, again: bool) -> Created:
        if again:
            kept = ev.decode_lines(await postgres_reads.entry(db, info.run_id, 1) or b"")
            position = remote_rules.position_of(info, kept, self._first)
            if position is not None:  # it was committed before the connection broke
                return Created(info, position)
        open_runs = await postgres_reads.open_runs(db, info.agent, info.session_id)
        before = sum(run.order < info.order for run in open_runs)
        return Created(projection.same_run(self._new, info), position=before, existing=True)


async def _whole(db: Connection, info: RunInfo) -> projection.Head:
    """The run's head. Only one that waits has approvals that are asked for."""
    if info.status != "waiting":
        return projection.Head(info)
    return projection.replay(info, await postgres_reads.events(db, info.run_id, 0, info.last_seq))


class Appending:
    """See `Journal.append`; called with a connection, again with another one where that breaks."""

    def __init__(self, run_id: str, expected_seq: int, events: Sequence[ev.Event], epoch: int) -> None:
        self._run_id = run_id
        self._expected_seq = expected_seq
        self._events = events
        self._epoch = epoch
        self._sent = False

    async def __call__(self, db: Connection) -> str:
        """The run whose turn it is where this one has ended and another waits; else the empty string."""
        again, self._sent = self._sent, True
        events = self._events
        if not events:
            self._fence(await postgres_reads.run(db, self._run_id))
            return ""
        data = _encode(self._run_id, self._expected_seq + len(events), events)
        if again and await self._kept(db, data):
            return ""
        info = projection.follow(await self._before(db), events).info
        next_run: str | None = await db.fetchval(
            _APPEND,
            self._run_id,
            self._expected_seq,
            self._epoch,
            info.last_seq,
            None if info.status == "queued" else info.status,
            info.updated,
            info.usage.prompt_tokens,
            info.usage.completion_tokens,
            info.usage.total_tokens,
            data,
            remote_rules.digests(events),
            info.status in ev.ENDED,
        )
        if next_run is not None:
            return next_run
        if again and await self._kept(db, data):  # the server was still at it when it was asked
            return ""
        self._fence(await postgres_reads.run(db, self._run_id))
        raise errors.Fenced(f"run {self._run_id} was moved on by another writer")

    async def _kept(self, db: Connection, data: bytes) -> bool:
        """Whether it was committed when the connection broke: these events and no others stand at their number."""
        return await postgres_reads.entry(db, self._run_id, self._expected_seq + 1) == data

    async def _before(self, db: Connection) -> projection.Head:
        """What of the run counts for what the events make of it."""
        untold = remote_rules.untold(self._run_id, self._expected_seq)
        if not remote_rules.decides(self._events):
            return projection.Head(untold)
        info = self._fence(await postgres_reads.run(db, self._run_id))
        return projection.Head(untold, (await _whole(db, info)).pending)

    def _fence(self, info: RunInfo | None) -> RunInfo:
        return remote_rules.fence(info, self._run_id, self._expected_seq, self._epoch)


async def claim(db: Connection, run_id: str, owner: int, seen: RunInfo | None = None) -> RunInfo:
    """See `Journal.claim`. Done twice it raises the epoch twice, which is as good; `seen`, the second time fails."""
    row = await db.fetchrow(_CLAIM, run_id, owner, seen and seen.epoch, seen and seen.last_seq)
    if row is not None:
        return postgres_reads.run_of(row)
    info = await postgres_reads.run(db, run_id)
    if info is None:
        raise errors.NotFound(f"no run {run_id}")
    projection.claimed(projection.Head(info), seen)
    raise errors.Fenced(f"run {run_id} has moved on since it was looked at")


async def running(db: Connection, run_id: str) -> None:
    """Mark a queued run as running."""
    await db.execute(_RUNNING, run_id)


async def put_blob(db: Connection, digest: str, data: bytes, put: datetime) -> None:
    """Keep the value; one that is there is as young as new."""
    await db.execute(_PUT_BLOB, digest, put, data)


async def forget(db: Connection, agent: str, before: datetime, blobs_before: datetime, most: int) -> int:
    """See the function of that name in the schema."""
    count: int = await db.fetchval("SELECT forget($1, $2, $3, $4)", agent, before, blobs_before, most)
    return count


class Deletion:
    """See `Journal.delete_session`; called with a connection, again with another one where that breaks."""

    def __init__(self, agent: str, session_id: str, blobs_before: datetime) -> None:
        self._agent = agent
        self._session_id = session_id
        self._blobs_before = blobs_before
        self._sent = False

    async def __call__(self, db: Connection) -> bool:
        """Whether it rested, and is gone. Raises NotFound."""
        again, self._sent = self._sent, True
        sql = "SELECT forget_one($1, $2, $3)"
        gone: bool | None = await db.fetchval(sql, self._agent, self._session_id, self._blobs_before)
        if gone is None and not again:
            raise projection.no_session(self._session_id)
        return gone is not False


async def rename(db: Connection, agent: str, session_id: str, title: str) -> bool:
    """Give the session that title; whether it is there."""
    sql = "UPDATE sessions SET title = $3 WHERE agent = $1 AND session_id = $2 RETURNING TRUE"
    return bool(await db.fetchval(sql, agent, session_id, title))


async def prune(db: Connection, before: datetime) -> None:
    """Forget blobs put before that moment that no event names: a session that went, or a process, left them."""
    await db.execute(f"DELETE FROM blobs b WHERE b.put < $1 AND {postgres_reads.UNUSED}", before)

"""What is written to the Redis journal. A write may be carried out twice where a connection broke in the middle."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from kadre.base import errors
from kadre.engine import events as ev
from kadre.engine.memory import projection, redis_reads, redis_scripts, remote_rules
from kadre.engine.memory.port import Created, NewRun, RunInfo
from kadre.engine.memory.redis_link import Link
from kadre.engine.memory.redis_reads import run_of, stamp

TRIES = 500
"""To add a run to a session that others add runs to at the same moment: one of them gets on each time."""
BLOB_GRACE = 3_600_000
"""Milliseconds that a blob may wait for the event that names it; then it goes by itself."""


class Creation:
    """See `Journal.create`; called with a link, again with another one where that breaks."""

    def __init__(self, new: NewRun, first: Sequence[ev.Event], owner: str) -> None:
        self._new = new
        self._first = first
        self._owner = owner
        self._sent = False

    async def __call__(self, db: Link) -> Created:
        """The run, new or known: in one round trip where its session rests, else it is looked at first."""
        again, self._sent = self._sent, True
        seen, position = "", 0
        for _ in range(TRIES):
            head, first = projection.begin(self._new, 1, position, self._first)
            outcome, *found = await db.run(redis_scripts.CREATE, seen, *self._values(head.info, first))
            if outcome == b"added":
                return Created(msgspec.structs.replace(head.info, order=int(found[0])), position)
            if outcome == b"known":
                return await self._known(db, run_of(found[0]), found[1], again)
            if outcome == b"torn":
                raise _torn(self._new.run_id)
            seen, caller, _, rows = found
            heads = [await whole(db, run_of(row)) for row in rows]
            position = projection.admit(self._new, caller.decode(), heads)
        raise errors.Unavailable("the session gets too many messages at once", reason="SessionTooBusy", retry_after=1.0)

    def _values(self, info: RunInfo, first: Sequence[ev.Event]) -> tuple[str | bytes | int, ...]:
        remote_rules.check_room(info.run_id, info.last_seq)
        digests = remote_rules.digests(first)
        return (
            info.run_id,
            info.session_id,
            info.agent,
            info.status,
            info.last_seq,
            info.caller,
            info.parent_run_id,
            stamp(info.created),
            stamp(info.updated),
            info.usage.prompt_tokens,
            info.usage.completion_tokens,
            info.usage.total_tokens,
            self._owner,
            len(digests),
            *digests,
            *map(ev.encode, first),
        )

    async def _known(self, db: Link, info: RunInfo, before: int, again: bool) -> Created:
        if again:
            kept = await redis_reads.events(db, info.run_id, 0, len(self._first))
            position = remote_rules.position_of(info, kept, self._first)
            if position is not None:  # it was committed before the connection broke
                return Created(info, position)
        return Created(projection.same_run(self._new, info), position=before, existing=True)


def _torn(run_id: str) -> errors.Conflict:
    message = f"the server has thrown away a part of run {run_id}; set maxmemory-policy noeviction there"
    return errors.Conflict(message, reason="RunIdTaken")


async def whole(db: Link, info: RunInfo) -> projection.Head:
    """The run's head. Only one that waits has approvals that are asked for."""
    if info.status != "waiting":
        return projection.Head(info)
    return projection.replay(info, await redis_reads.events(db, info.run_id, 0, info.last_seq))


class Appending:
    """See `Journal.append`; called with a link, again with another one where that breaks."""

    def __init__(self, run_id: str, expected_seq: int, events: Sequence[ev.Event], epoch: int) -> None:
        self._run_id = run_id
        self._expected_seq = expected_seq
        self._events = events
        self._epoch = epoch
        self._sent = False

    async def __call__(self, db: Link) -> str:
        """The run whose turn it is where this one has ended and another waits; else the empty string."""
        again, self._sent = self._sent, True
        events = self._events
        if not events:
            self._fence(await redis_reads.run(db, self._run_id))
            return ""
        remote_rules.check_room(self._run_id, self._expected_seq + len(events))
        info = projection.follow(await self._before(db, again), events).info
        digests = remote_rules.digests(events)
        outcome, *found = await db.run(
            redis_scripts.APPEND,
            self._run_id,
            self._expected_seq,
            self._epoch,
            info.last_seq,
            "" if info.status == "queued" else info.status,
            stamp(info.updated),
            info.usage.prompt_tokens,
            info.usage.completion_tokens,
            info.usage.total_tokens,
            int(info.status in ev.ENDED),
            int(again),
            len(digests),
            *digests,
            *map(ev.encode, events),
        )
        if outcome == b"yes":
            next_run: bytes = found[0]
            return next_run.decode()
        self._fence(run_of(found[0]) if found else None)
        raise errors.Fenced(f"run {self._run_id} was moved on by another writer")

    async def _before(self, db: Link, again: bool) -> projection.Head:
        """What of the run counts for what the events make of it."""
        untold = remote_rules.untold(self._run_id, self._expected_seq)
        if not remote_rules.decides(self._events):
            return projection.Head(untold)
        info = await redis_reads.run(db, self._run_id)
        if info is None or not again:
            return projection.Head(untold, (await whole(db, self._fence(info))).pending)
        kept = await redis_reads.events(db, self._run_id, 0, self._expected_seq)  # of before, should it be done already
        return projection.Head(untold, projection.replay(info, kept).pending)

    def _fence(self, info: RunInfo | None) -> RunInfo:
        return remote_rules.fence(info, self._run_id, self._expected_seq, self._epoch)


async def claim(db: Link, run_id: str, owner: str, seen: RunInfo | None = None) -> RunInfo:
    """See `Journal.claim`. Done twice it raises the epoch twice, which is as good; `seen`, the second time fails."""
    looked: tuple[str | int, ...] = ("", "") if seen is None else (seen.epoch, seen.last_seq)
    outcome, *found = await db.run(redis_scripts.CLAIM, run_id, owner, *looked)
    if not found:
        raise errors.NotFound(f"no run {run_id}")
    info = run_of(found[0])
    if outcome == b"no":
        projection.claimed(projection.Head(info), seen)  # which says why
        raise errors.Fenced(f"run {run_id} has moved on since it was looked at")
    return info


async def running(db: Link, run_id: str) -> None:
    """Mark a queued run as running, whose turn it is."""
    await redis_reads.turn(db, run_id)


async def put_blob(db: Link, digest: str, data: bytes, _put: datetime) -> None:
    """Keep the value; one that no event names yet is as young as new, by the server's clock."""
    await db.run(redis_scripts.PUT_BLOB, digest, data, BLOB_GRACE)


async def forget(db: Link, agent: str, before: datetime, _blobs_before: datetime, most: int) -> int:
    """See the script of that name. What it named alone goes by itself, when others may have named it too."""
    count: int = await db.run(redis_scripts.FORGET, agent, stamp(before), most, BLOB_GRACE)
    return count


class Deletion:
    """See `Journal.delete_session`; called with a link, again with another one where that breaks."""

    def __init__(self, agent: str, session_id: str, _blobs_before: datetime) -> None:
        self._agent = agent
        self._session_id = session_id
        self._sent = False

    async def __call__(self, db: Link) -> bool:
        """Whether it rested, and is gone. Raises NotFound."""
        again, self._sent = self._sent, True
        outcome = await db.run(redis_scripts.FORGET_ONE, self._agent, self._session_id, BLOB_GRACE)
        if outcome == b"none" and not again:
            raise projection.no_session(self._session_id)
        return bool(outcome != b"busy")


async def rename(db: Link, agent: str, session_id: str, title: str) -> bool:
    """Give the session that title; whether it is there."""
    return bool(await db.run(redis_scripts.RENAME, agent, session_id, title))


async def prune(_db: Link, _before: datetime) -> None:
    """Nothing: the server forgets by itself what no event names."""

"""What is read from the Redis journal. Every function takes a link and makes one round trip, lists several.

Nothing of it is remembered: another process may have changed it by the next time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any, cast

from kadre.engine import events as ev
from kadre.engine.memory import redis_scripts
from kadre.engine.memory.port import Age, RunInfo, SessionInfo, age
from kadre.engine.memory.redis_link import Link
from kadre.engine.memory.redis_scripts import FIELDS
from kadre.engine.memory.remote_rules import MAX_SEQ
from kadre.engine.messages import Usage

AT_ONCE = 500
"""Runs or sessions that a list is looked for among in one go: the server does nothing else meanwhile."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def stamp(time: datetime) -> str:
    """The moment in microseconds, in the order of text too."""
    return f"{(time - _EPOCH) // _MICROSECOND:017d}"


def _time(stamp: bytes) -> datetime:
    return _EPOCH + timedelta(microseconds=int(stamp))


def run_of(row: Sequence[bytes]) -> RunInfo:
    """The run of a row of FIELDS."""
    return RunInfo(
        run_id=row[0].decode(),
        session_id=row[1].decode(),
        agent=row[2].decode(),
        status=cast("ev.RunStatus", row[3].decode()),
        order=int(row[4]),
        last_seq=int(row[5]),
        epoch=int(row[6]),
        caller=row[7].decode(),
        parent_run_id=row[8].decode(),
        created=_time(row[9]),
        updated=_time(row[10]),
        usage=Usage(int(row[11]), int(row[12]), int(row[13])),
    )


async def run(db: Link, run_id: str) -> RunInfo | None:
    """The run, open or ended."""
    row = await db.run(redis_scripts.RUN, run_id)
    return run_of(row) if row else None


async def turn(db: Link, run_id: str) -> tuple[ev.RunStatus, bool] | None:
    """The run's status, and whether a lower one of its session is open; where none is, it is marked running."""
    found = await db.run(redis_scripts.TURN, run_id)
    return (found[0].decode(), bool(found[1])) if found else None


async def events(db: Link, run_id: str, after: int, limit: int) -> Sequence[ev.Event]:
    """At most `limit` events of the run from number `after` + 1."""
    first = max(after, 0)
    if limit <= 0 or first >= MAX_SEQ:
        return ()
    last = min(first + limit, MAX_SEQ) - 1
    return ev.decode_lines(b"\n".join(await db.ask("LRANGE", f"{db.prefix}events:{run_id}", first, last)))


async def history(db: Link, key: tuple[str, str], before_order: int, limit: int) -> Sequence[ev.Event]:
    """What was said in the latest `limit` ended runs before that order of the session with that agent and id."""
    lines = await db.run(redis_scripts.HISTORY, "|".join(key), min(before_order, MAX_SEQ), max(limit, 0))
    return ev.decode_lines(b"\n".join(lines))


async def blob(db: Link, digest: str) -> bytes | None:
    """The value, or None."""
    data: bytes | None = await db.ask("GET", f"{db.prefix}blob:{digest}")
    return data


async def runs(db: Link, wanted: Mapping[str, str | None], before: Age | None, limit: int) -> Sequence[RunInfo]:
    """See `Journal.runs`; `wanted` by its parameters."""
    found: list[RunInfo] = []
    columns = {"agent": "agent", "session_id": "session", "status": "status", "caller": "caller"}
    filters: list[str | int] = []
    for name, value in wanted.items():
        if value is not None:
            filters += [FIELDS.index(columns[name]) + 1, value]
    start = "+" if before is None else f"({stamp(before[0])}:{before[1]}"
    while start and len(found) < limit:
        index = _index(wanted)
        start, rows = await db.run(redis_scripts.RUNS, index, start, limit - len(found), AT_ONCE, *filters)
        found += map(run_of, rows)
    return found


def _index(wanted: Mapping[str, str | None]) -> str:
    """The shortest list of runs that has all that are wanted."""
    status = wanted["status"]
    if wanted["session_id"] is not None:
        return f"named:{wanted['session_id']}"
    if status is not None and status not in ev.ENDED:
        return "open"
    return "runs" if wanted["agent"] is None else f"agent:{wanted['agent']}"


async def sessions(db: Link, wanted: Mapping[str, str | None], limit: int) -> Sequence[SessionInfo]:
    """See `Journal.sessions`; `wanted` by its parameters."""
    agent, session_id = wanted["agent"], wanted["session_id"]
    if session_id is not None:
        agents = await _agents(db, session_id) if agent is None else [agent]
        named = [row for each in agents for row in await db.run(redis_scripts.SESSIONS, f"{each}|{session_id}", "", "")]
        all_of = [
            info for info in (_session_of(row) for row in named if row) if wanted["caller"] in (None, info.caller)
        ]
        return sorted(all_of, key=attrgetter("updated"), reverse=True)[: max(limit, 0)]
    index = "sessions" if wanted["agent"] is None else f"sessions:{wanted['agent']}"
    found: dict[tuple[str, str], SessionInfo] = {}  # one that moves up between two looks is seen twice
    start = 0
    while len(found) < limit:
        rows = await db.run(redis_scripts.SESSIONS, index, start, start + AT_ONCE - 1)
        for info in (_session_of(row) for row in rows if row):
            if wanted["caller"] in (None, info.caller):
                found.setdefault((info.agent, info.session_id), info)
        start += AT_ONCE
        if len(rows) < AT_ONCE:
            break
    return sorted(found.values(), key=attrgetter("updated"), reverse=True)[: max(limit, 0)]


async def _agents(db: Link, session_id: str) -> list[str]:
    """Who have a session of that name. Its runs tell: there is no list of the sessions of a name."""
    wanted = {"agent": None, "session_id": session_id, "status": None, "caller": None}
    found: dict[str, None] = {}
    page = await runs(db, wanted, None, AT_ONCE)
    while page:
        found |= dict.fromkeys(run.agent for run in page)
        page = await runs(db, wanted, age(page[-1]), AT_ONCE) if len(page) == AT_ONCE else []
    return list(found)


def _session_of(row: Sequence[bytes]) -> SessionInfo:
    return SessionInfo(
        session_id=row[0].decode(),
        agent=row[1].decode(),
        caller=row[2].decode(),
        runs=int(row[3]),
        created=_time(row[4]),
        title=(row[5] or b"").decode(),
        updated=_time(row[6]),
    )


def in_order(rows: Sequence[Any]) -> list[RunInfo]:
    """The runs of these rows, the oldest first."""
    return sorted(map(run_of, rows), key=age)

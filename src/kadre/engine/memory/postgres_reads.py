"""What is read from the PostgreSQL journal. Every function takes a connection and makes one round trip.

Nothing of it is remembered: another process may have changed it by the next time.
"""

# ruff: noqa: S608 - only constants of these modules are put together; every value is bound

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from kadre.engine import events as ev
from kadre.engine.memory.conversation import SAID_LINES
from kadre.engine.memory.port import Age, RunInfo, SessionInfo
from kadre.engine.memory.postgres_schema import OPEN
from kadre.engine.memory.postgres_server import Connection
from kadre.engine.memory.remote_rules import MAX_SEQ
from kadre.engine.messages import Usage

RUN_COLUMNS = (
    "r.run_id, s.session_id, s.agent, r.status, r.ord, r.last_seq, r.epoch, s.caller, r.parent, r.created, r.updated,"
    " r.prompt_tokens, r.completion_tokens, r.total_tokens"
)
_COLUMNS = {"agent": "s.agent", "session_id": "s.session_id", "status": "r.status", "caller": "s.caller"}
UNUSED = "NOT EXISTS (SELECT FROM blob_uses u WHERE u.digest = b.digest)"
RUNS = f"SELECT {RUN_COLUMNS} FROM runs r JOIN sessions s ON s.no = r.session"
# The entry that holds an event is the last one that begins at it or before.
_EVENTS = """
    WITH the AS (SELECT no FROM runs WHERE run_id = $1)
    SELECT e.data FROM the JOIN entries e ON e.run = the.no
    WHERE e.seq <= $3
        AND e.seq >= coalesce((SELECT max(b.seq) FROM the JOIN entries b ON b.run = the.no WHERE b.seq <= $2), 0)
    ORDER BY e.seq"""
_HISTORY = f"""
    SELECT e.data FROM (
        SELECT r.no, r.ord FROM runs r JOIN sessions s ON s.no = r.session
        WHERE s.agent = $1 AND s.session_id = $2 AND r.ord < $3 AND r.status NOT IN {OPEN}
        ORDER BY r.ord DESC LIMIT $4
    ) r JOIN entries e ON e.run = r.no
    ORDER BY r.ord, e.seq"""
_TURN = f"""
    SELECT r.status, EXISTS (
        SELECT FROM runs b WHERE b.session = r.session AND b.ord < r.ord AND b.status IN {OPEN}) AS blocked
    FROM runs r WHERE r.run_id = $1"""


def run_of(row: Sequence[Any]) -> RunInfo:
    """The run of a row of RUN_COLUMNS."""
    return RunInfo(
        run_id=row[0],
        session_id=row[1],
        agent=row[2],
        status=row[3],
        order=row[4],
        last_seq=row[5],
        epoch=row[6],
        caller=row[7],
        parent_run_id=row[8],
        created=row[9],
        updated=row[10],
        usage=Usage(row[11], row[12], row[13]),
    )


async def run(db: Connection, run_id: str) -> RunInfo | None:
    """The run, open or ended."""
    row = await db.fetchrow(f"{RUNS} WHERE r.run_id = $1", run_id)
    return run_of(row) if row else None


async def open_runs(db: Connection, agent: str, session_id: str) -> list[RunInfo]:
    """Those of the session that have not ended, in order."""
    where = f"s.agent = $1 AND s.session_id = $2 AND r.status IN {OPEN}"
    return [run_of(row) for row in await db.fetch(f"{RUNS} WHERE {where} ORDER BY r.ord", agent, session_id)]


async def turn(db: Connection, run_id: str) -> tuple[ev.RunStatus, bool] | None:
    """The run's status, and whether a lower one of its session is open."""
    row = await db.fetchrow(_TURN, run_id)
    return (row[0], row[1]) if row else None


async def entry(db: Connection, run_id: str, seq: int) -> bytes | None:
    """What was appended to the run at that number, if it was appended as one."""
    sql = "SELECT e.data FROM runs r JOIN entries e ON e.run = r.no WHERE r.run_id = $1 AND e.seq = $2"
    data: bytes | None = await db.fetchval(sql, run_id, seq)
    return data


async def events(db: Connection, run_id: str, after: int, limit: int) -> Sequence[ev.Event]:
    """At most `limit` events of the run from number `after` + 1."""
    first = max(after, 0) + 1
    if limit <= 0 or first > MAX_SEQ:
        return ()
    rows = await db.fetch(_EVENTS, run_id, first, min(first + limit - 1, MAX_SEQ))
    found = ev.decode_lines(b"".join(row[0] for row in rows))
    skipped = first - found[0].seq if found else 0
    return found[skipped : skipped + limit]


async def history(db: Connection, key: tuple[str, str], before_order: int, limit: int) -> Sequence[ev.Event]:
    """What was said in the latest `limit` ended runs before that order of the session with that agent and id."""
    rows = await db.fetch(_HISTORY, *key, min(before_order, MAX_SEQ), max(limit, 0))
    lines = (line for row in rows for line in row[0].split(b"\n"))
    return ev.decode_lines(b"\n".join(line for line in lines if line.startswith(SAID_LINES)))


async def blob(db: Connection, digest: str) -> bytes | None:
    """The value, or None."""
    data: bytes | None = await db.fetchval("SELECT data FROM blobs WHERE digest = $1", digest)
    return data


async def runs(db: Connection, wanted: Mapping[str, str | None], before: Age | None, limit: int) -> Sequence[RunInfo]:
    """See `Journal.runs`; `wanted` by its parameters."""
    where, values = _where(wanted)
    if wanted["status"] is not None and wanted["status"] not in ev.ENDED:
        where += f" AND r.status IN {OPEN}"  # as the index of open runs says it
    if before is not None:
        where += f" AND (r.created, r.run_id) < (${len(values) + 1}, ${len(values) + 2})"
        values += before
    sql = f"{RUNS} WHERE TRUE{where} ORDER BY r.created DESC, r.run_id DESC LIMIT ${len(values) + 1}"
    return [run_of(row) for row in await db.fetch(sql, *values, max(limit, 0))]


async def sessions(db: Connection, wanted: Mapping[str, str | None], limit: int) -> Sequence[SessionInfo]:
    """See `Journal.sessions`; `wanted` by its parameters."""
    where, values = _where(wanted)
    sql = (
        "SELECT s.session_id, s.agent, s.caller, s.runs, s.created, r.updated, s.title"
        " FROM sessions s JOIN runs r ON r.session = s.no AND r.ord = s.runs"
        f" WHERE TRUE{where} ORDER BY r.updated DESC LIMIT ${len(values) + 1}"
    )
    return [
        SessionInfo(
            session_id=row[0],
            agent=row[1],
            caller=row[2],
            runs=row[3],
            created=row[4],
            updated=row[5],
            title=row[6],
        )
        for row in await db.fetch(sql, *values, max(limit, 0))
    ]


def _where(wanted: Mapping[str, str | None]) -> tuple[str, list[str | datetime]]:
    """Conditions to be added, and their values; None: any."""
    given = {_COLUMNS[name]: value for name, value in wanted.items() if value is not None}
    return "".join(f" AND {column} = ${number}" for number, column in enumerate(given, 1)), list(given.values())

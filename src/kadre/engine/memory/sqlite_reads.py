"""What is read from the SQLite journal. Every function takes a connection and is called in a reader's thread.

Events come as one value however many entries they are in: every row a statement yields gives the interpreter's lock
away, and a busy event loop takes milliseconds to give it back.
"""

# ruff: noqa: S608 - only constants of these modules are put together; every value is bound

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence

import msgspec

from kadre.base import errors
from kadre.engine import events as ev
from kadre.engine.memory import projection
from kadre.engine.memory.conversation import SAID_LINES
from kadre.engine.memory.port import Age, RunInfo, SessionInfo
from kadre.engine.memory.sqlite_file import OPEN, RUN_SHIFT
from kadre.engine.memory.sqlite_rows import (
    MAX_SEQ,
    RUN_COLUMNS,
    SESSION_COLUMNS,
    UNUSED,
    Remembered,
    Row,
    SessionRow,
    microseconds,
    moment,
    run_of,
)

_JOINED = "SELECT CAST(group_concat(data, '') AS BLOB) FROM"
_ENDED = "status IN ('completed', 'failed', 'cancelled', 'interrupted')"
_HISTORY = f"""
    {_JOINED} (
        SELECT e.data FROM (
            SELECT no FROM runs
            WHERE session = (SELECT no FROM sessions WHERE agent = ? AND session_id = ?) AND ord < ? AND {_ENDED}
            ORDER BY ord DESC LIMIT ?
        ) r JOIN entries e ON e.key BETWEEN r.no << {RUN_SHIFT} AND (r.no << {RUN_SHIFT}) + {MAX_SEQ}
        ORDER BY e.key)"""
# The entry that holds an event is the last one that begins at it or before.
_EVENTS = f"""
    {_JOINED} (
        SELECT data FROM entries
        WHERE key >= (SELECT max(key) FROM entries WHERE key BETWEEN :run AND :first) AND key <= :last
        ORDER BY key)"""
# A CROSS JOIN is done in the order it is written in. Left the choice, SQLite sorts whole tables for a short list.
_RUNS = f"SELECT {RUN_COLUMNS} FROM runs r CROSS JOIN sessions s ON s.no = r.session"
_OPEN_RUNS = f"{_RUNS.replace('runs r', 'runs r INDEXED BY open_runs')} WHERE r.status IN {OPEN}"
_RUNS_OF_SESSION = f"SELECT {RUN_COLUMNS} FROM sessions s CROSS JOIN runs r ON r.session = s.no WHERE TRUE"
_LATEST = "FROM sessions s CROSS JOIN runs r ON r.session = s.no AND r.ord = s.runs"


def run(db: sqlite3.Connection, run_id: str) -> RunInfo | None:
    """The run, open or ended."""
    row = db.execute(f"{_RUNS} WHERE r.run_id = ?", (run_id,)).fetchone()
    return run_of(row).head.info if row else None


def events(db: sqlite3.Connection, run_id: str, after: int, limit: int) -> Sequence[ev.Event]:
    """At most `limit` events of the run from number `after` + 1."""
    row = db.execute("SELECT no FROM runs WHERE run_id = ?", (run_id,)).fetchone()
    if row is None or limit <= 0:
        return ()
    first = max(after, 0) + 1
    key = row[0] << RUN_SHIFT
    bounds = {"run": key, "first": key + min(first, MAX_SEQ), "last": key + min(first + limit - 1, MAX_SEQ)}
    found = ev.decode_lines(db.execute(_EVENTS, bounds).fetchone()[0] or b"")
    skipped = first - found[0].seq if found else 0
    return found[skipped : skipped + limit]


def history(db: sqlite3.Connection, agent: str, session_id: str, before_order: int, limit: int) -> Sequence[ev.Event]:
    """What was said in the session's latest `limit` ended runs before that order."""
    data: bytes = db.execute(_HISTORY, (agent, session_id, before_order, limit)).fetchone()[0] or b""
    return ev.decode_lines(b"\n".join(line for line in data.split(b"\n") if line.startswith(SAID_LINES)))


def blob(db: sqlite3.Connection, digest: str) -> bytes | None:
    """The value, or None."""
    row = db.execute("SELECT data FROM blobs WHERE digest = ?", (digest,)).fetchone()
    return row[0] if row else None


def runs(db: sqlite3.Connection, wanted: Mapping[str, str | None], before: Age | None, limit: int) -> Sequence[RunInfo]:
    """See `Journal.runs`; `wanted` by column."""
    return [run_of(row).head.info for row in db.execute(*runs_query(wanted, before, limit)).fetchall()]


def runs_query(wanted: Mapping[str, str | None], before: Age | None, limit: int) -> tuple[str, Sequence[str | int]]:
    """The statement of `runs` and its values."""
    if wanted["s.session_id ="] is not None:
        source = _RUNS_OF_SESSION
    else:
        source = f"{_RUNS} WHERE TRUE" if wanted["r.status ="] in (None, *ev.ENDED) else _OPEN_RUNS
    where, values = _where(wanted)
    page: tuple[str | int, ...] = ()
    if before is not None:
        where += " AND (r.created, r.run_id) < (?, ?)"
        page = (microseconds(before[0]), before[1])
    return f"{source}{where} ORDER BY r.created DESC, r.run_id DESC LIMIT ?", (*values, *page, limit)


def sessions(db: sqlite3.Connection, wanted: Mapping[str, str | None], limit: int) -> Sequence[SessionInfo]:
    """See `Journal.sessions`; `wanted` by column."""
    where, values = _where(wanted)
    sql = (
        f"SELECT s.session_id, s.agent, s.caller, s.runs, s.created, r.updated, s.title {_LATEST}"
        f" WHERE TRUE{where} ORDER BY r.updated DESC LIMIT ?"
    )
    return [
        SessionInfo(
            session_id=row[0],
            agent=row[1],
            caller=row[2],
            runs=row[3],
            created=moment(row[4]),
            updated=moment(row[5]),
            title=row[6],
        )
        for row in db.execute(sql, (*values, limit)).fetchall()
    ]


def _where(wanted: Mapping[str, str | None]) -> tuple[str, list[str]]:
    """Conditions to be added, by `column operator`; None: any."""
    given = {column: value for column, value in wanted.items() if value is not None}
    return "".join(f" AND {column} ?" for column in given), list(given.values())


def sessions_before(db: sqlite3.Connection, *, agent: str, before: int, limit: int) -> Sequence[SessionRow]:
    """Sessions of the agent all of whose runs have ended, the latest before that moment."""
    sql = (
        f"SELECT {SESSION_COLUMNS} {_LATEST} WHERE s.agent = ? AND r.updated < ?"
        f" AND s.no NOT IN (SELECT session FROM runs WHERE status IN {OPEN}) LIMIT ?"
    )
    return [SessionRow(*row) for row in db.execute(sql, (agent, before, limit)).fetchall()]


def session(db: sqlite3.Connection, agent: str, session_id: str) -> SessionRow | None:
    """The session, its open runs not known; or None."""
    sql = f"SELECT {SESSION_COLUMNS} FROM sessions s WHERE s.agent = ? AND s.session_id = ?"
    row = db.execute(sql, (agent, session_id)).fetchone()
    return SessionRow(*row) if row else None


def remember(db: sqlite3.Connection) -> Remembered:
    """What a process that opens the file must know: open runs with their sessions, and the numbers given so far."""
    remembered = Remembered()
    db.execute(f"DELETE FROM blobs WHERE {UNUSED}")  # the process died between a blob and its event
    remembered.next_run += db.execute("SELECT coalesce(max(no), 0) FROM runs").fetchone()[0]
    remembered.next_session += db.execute("SELECT coalesce(max(no), 0) FROM sessions").fetchone()[0]
    for found in db.execute(f"{_OPEN_RUNS} ORDER BY r.no").fetchall():
        row = run_of(found)
        info = row.head.info
        head = projection.replay(info, events(db, info.run_id, 0, info.last_seq))
        known = remembered.sessions.get((info.agent, info.session_id)) or session(db, info.agent, info.session_id)
        if known is None:
            raise errors.KadreError(f"run {info.run_id} is of no session")
        known = msgspec.structs.replace(known, open=(*known.open, info.run_id))
        remembered.take({info.run_id: Row(row.no, head)}, {(info.agent, info.session_id): known})
    return remembered

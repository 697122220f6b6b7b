"""What the SQLite journal's writer thread does with a batch: decide each job, then commit all of them at once.

Decisions are taken from what is remembered of open runs and recent sessions, so that a loser of a compare-and-set costs
the others nothing. What is remembered changes only after the commit, in the event loop, while no batch is under way.
"""

# ruff: noqa: S608 - only constants of these modules are put together; every value is bound

from __future__ import annotations

import functools
import hashlib
import sqlite3
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import msgspec

from kadre.base import errors
from kadre.engine import events as ev
from kadre.engine.memory import projection, sqlite_file
from kadre.engine.memory.lane import Job
from kadre.engine.memory.port import Created, NewRun, RunInfo
from kadre.engine.memory.sqlite_rows import (
    MAX_SEQ,
    RUN_COLUMNS,
    SESSION_COLUMNS,
    UNUSED,
    Remembered,
    Row,
    SessionKey,
    SessionRow,
    microseconds,
    run_of,
)

ROWS = 32
"""Rows inserted by one statement, at most. Every step of a statement gives the interpreter's lock away and waits to get
it back, so one row a step would make a batch wait for the event loop as often as it has rows."""


class Changes:
    """What a batch will write, and the state it leaves, laid over what is remembered."""

    def __init__(self, remembered: Remembered) -> None:
        self._remembered = remembered
        self.known: dict[str, RunInfo] = {}
        """Runs that have ended and whose ids somebody wants to create."""
        self.loaded: dict[SessionKey, SessionRow] = {}
        self.runs: dict[str, Row] = {}
        self.sessions: dict[SessionKey, SessionRow | None] = {}
        """None: deleted."""
        self.grown: dict[SessionKey, None] = {}
        """Sessions that got a run. What else changes of one, its open runs, is not in its row."""
        self.entries: list[tuple[int, bytes]] = []
        self.uses: list[tuple[int, str]] = []
        self.blobs: list[tuple[str, int, bytes]] = []
        self.deleted: dict[int, int] = {}
        """Numbers of sessions, with the moment before which their blobs go too."""
        self.titles: list[tuple[str, str, str]] = []
        """Titles of sessions, with their agents and ids."""
        self.prune_before = 0
        """The moment before which blobs that nothing names go."""
        self.woken: list[str] = []
        """Runs that may be able to go on, or have ended."""

    def run(self, run_id: str) -> Row | None:
        """A run that was open when the batch began; it may have ended in it."""
        return self.runs.get(run_id) or self._remembered.runs.get(run_id)

    def session(self, key: SessionKey) -> SessionRow | None:
        """The session as the batch leaves it so far."""
        if key in self.sessions:
            return self.sessions[key]
        return self.loaded.get(key) or self._remembered.sessions.get(key)

    def heads(self, session: SessionRow) -> list[projection.Head]:
        """The heads of its open runs, in order."""
        rows = [self.run(run_id) for run_id in session.open]
        return [row.head for row in rows if row is not None]

    def number_run(self) -> int:
        """A number no run has had."""
        self._remembered.next_run += 1
        return self._remembered.next_run - 1

    def number_session(self) -> int:
        """A number no session has had."""
        self._remembered.next_session += 1
        return self._remembered.next_session - 1

    def record(self, row: Row, events: Sequence[ev.Event], data: bytes) -> None:
        """Keep the run's next events, `row` being the run after them."""
        info = row.head.info
        self.runs[info.run_id] = row
        if events:
            self.entries.append(((row.no << sqlite_file.RUN_SHIFT) + events[0].seq, data))
            for event in events:
                if event.blobs is not msgspec.UNSET:
                    self.uses.extend((row.no, digest) for digest in event.blobs.values())
        if info.status in ev.ENDED:
            self._end(info)

    def _end(self, info: RunInfo) -> None:
        key = (info.agent, info.session_id)
        session = self.session(key)
        if session is not None:
            still = tuple(run_id for run_id in session.open if run_id != info.run_id)
            self.sessions[key] = msgspec.structs.replace(session, open=still)
            self.woken += (info.run_id, *still[:1])


class Write(Job):
    """A job of the writer: `decide` lays what it writes into the changes, or raises and leaves them as they were."""

    __slots__ = ()

    @abstractmethod
    def decide(self, changes: Changes) -> Any:
        """What its caller gets when the batch has been committed."""


class Create(Write):
    """See `Journal.create`."""

    __slots__ = ("first", "key", "new")

    def __init__(self, new: NewRun, first: Sequence[ev.Event]) -> None:
        super().__init__()
        self.new = new
        self.first = first
        self.key = (new.agent, new.session_id)

    def decide(self, changes: Changes) -> Created:
        """The run, new or known."""
        new = self.new
        row = changes.run(new.run_id)
        if row is not None or new.run_id in changes.known:
            return self._again(changes, row.head.info if row else changes.known[new.run_id])
        session = changes.session(self.key)
        position = projection.admit(new, session.caller, changes.heads(session)) if session else 0
        head, first = projection.begin(new, session.runs + 1 if session else 1, position, self.first)
        data = _encode(head, first)
        no = session.no if session else changes.number_session()
        created = session.created if session else microseconds(head.info.created)
        still = session.open if session else ()
        changes.sessions[self.key] = SessionRow(
            no, new.agent, new.session_id, new.caller, head.info.order, created, (*still, new.run_id)
        )
        changes.grown[self.key] = None
        changes.record(Row(changes.number_run(), head), first, data)
        return Created(head.info, position)

    def _again(self, changes: Changes, info: RunInfo) -> Created:
        session = changes.session((info.agent, info.session_id))
        before = [head for head in changes.heads(session) if head.info.order < info.order] if session else ()
        return Created(projection.same_run(self.new, info), position=len(before), existing=True)


class Append(Write):
    """See `Journal.append`."""

    __slots__ = ("epoch", "events", "expected_seq", "run_id")

    def __init__(self, run_id: str, expected_seq: int, events: Sequence[ev.Event], epoch: int) -> None:
        super().__init__()
        self.run_id = run_id
        self.expected_seq = expected_seq
        self.events = events
        self.epoch = epoch

    def decide(self, changes: Changes) -> None:
        """Nothing to tell."""
        row = changes.run(self.run_id)
        before = projection.fence(row.head if row else None, self.run_id, self.expected_seq, self.epoch)
        if row is not None and self.events:
            head = projection.follow(before, self.events)
            changes.record(Row(row.no, head), self.events, _encode(head, self.events))


def _encode(head: projection.Head, events: Sequence[ev.Event]) -> bytes:
    if head.info.last_seq > MAX_SEQ:
        raise errors.TooLarge(f"run {head.info.run_id} has more than {MAX_SEQ} events")
    return ev.encode_lines(events)


class Move(Write):
    """A change of a run's head that no event tells: its turn has come, or another writer claims it."""

    __slots__ = ("claim", "run_id", "seen")

    def __init__(self, run_id: str, *, claim: bool, seen: RunInfo | None = None) -> None:
        super().__init__()
        self.run_id = run_id
        self.claim = claim
        self.seen = seen

    def decide(self, changes: Changes) -> RunInfo:
        """The run as it is then."""
        row = changes.run(self.run_id)
        if row is None or row.head.info.status in ev.ENDED:
            message = f"run {self.run_id} has ended"
            raise errors.Conflict(message, reason="RunEnded") if self.claim else errors.Fenced(message)
        head = projection.claimed(row.head, self.seen) if self.claim else projection.running(row.head)
        changes.record(Row(row.no, head), (), b"")
        return head.info


class PutBlob(Write):
    """See `Journal.put_blob`. `put`: when, in microseconds."""

    __slots__ = ("data", "put")

    def __init__(self, data: bytes, put: int) -> None:
        super().__init__()
        self.data = data
        self.put = put

    def decide(self, changes: Changes) -> str:
        """The digest."""
        digest = "sha256:" + hashlib.sha256(self.data).hexdigest()
        changes.blobs.append((digest, self.put, self.data))
        return digest


class Delete(Write):
    """Forget these sessions, as far as nothing has happened in them since they were read.

    With them go blobs that nothing else names, put before that moment: a later one may still get its event.
    """

    __slots__ = ("blobs_before", "sessions")

    def __init__(self, sessions: Sequence[SessionRow], blobs_before: int) -> None:
        super().__init__()
        self.sessions = sessions
        self.blobs_before = blobs_before

    def decide(self, changes: Changes) -> int:
        """How many were forgotten."""
        count = 0
        for read in self.sessions:
            key = (read.agent, read.session_id)
            now = changes.session(key) or read
            if now.no == read.no and now.runs == read.runs and not now.open and read.no not in changes.deleted:
                changes.sessions[key] = None
                changes.deleted[read.no] = self.blobs_before
                count += 1
        return count


class Rename(Write):
    """See `Journal.rename_session`."""

    __slots__ = ("row",)

    def __init__(self, agent: str, session_id: str, title: str) -> None:
        super().__init__()
        self.row = (title, agent, session_id)

    def decide(self, changes: Changes) -> None:
        """Nothing to tell."""
        changes.titles.append(self.row)


class Prune(Write):
    """Forget blobs put before that moment that no event names: a session that went left them to grow old."""

    __slots__ = ("before",)

    def __init__(self, before: int) -> None:
        super().__init__()
        self.before = before

    def decide(self, changes: Changes) -> None:
        """Nothing to tell."""
        changes.prune_before = self.before


class Writer:
    """Commits batches to the file; all of it happens in the writer thread."""

    def __init__(self, db: sqlite3.Connection, presence: sqlite_file.Presence, remembered: Remembered) -> None:
        self._db = db
        self._path = presence.path
        self._presence = presence
        self._remembered = remembered
        self.leftovers = False
        """Whether sessions that went may have left blobs too young to go with them."""

    def work(self, batch: Sequence[Write]) -> Changes | None:
        """Decide and commit; what was written, or None where nothing could be."""
        changes = Changes(self._remembered)
        try:
            self._look_up(batch, changes)
            self._decide(batch, changes)
            if changes.runs or changes.blobs or changes.deleted or changes.titles or changes.prune_before:
                self._presence.check()
                self._commit(changes)
        except sqlite_file.JournalUnavailable as error:
            self._fail(batch, error)
        except sqlite3.OperationalError as error:  # full, read-only, locked: the same for all
            self._fail(batch, sqlite_file.unavailable(self._path, error))
        except Exception as error:  # noqa: BLE001 - one job's values spoil the batch: find out whose
            self._isolate(batch, error)
        else:
            return changes
        return None

    @staticmethod
    def _decide(batch: Sequence[Write], changes: Changes) -> None:
        for job in batch:
            job.error = None
            try:
                job.result = job.decide(changes)
            except Exception as error:  # noqa: BLE001 - it is the caller's, who gets it raised
                job.error = error

    def _isolate(self, batch: Sequence[Write], error: Exception) -> None:
        if len(batch) == 1:
            cause = sqlite_file.unavailable(self._path, error) if isinstance(error, sqlite3.Error) else error
            self._fail(batch, cause)
        for job in batch:
            job.alone = True

    @staticmethod
    def _fail(batch: Sequence[Write], error: Exception) -> None:
        for job in batch:
            job.error = job.error or error

    def _look_up(self, batch: Sequence[Write], changes: Changes) -> None:
        """Read what is not remembered of the runs and sessions to be created, but for those with ids of our own."""
        creates = [job for job in batch if isinstance(job, Create) and not job.new.fresh]
        ids = [job.new.run_id for job in creates if changes.run(job.new.run_id) is None]
        for row in self._matching(_RUNS_WANTED, "(?)", ids):
            info = run_of(row).head.info
            changes.known[info.run_id] = info
        keys = {job.key: None for job in creates if changes.session(job.key) is None}
        for row in self._matching(_SESSIONS_WANTED, "(?, ?)", list(chain.from_iterable(keys))):
            changes.loaded[(row[1], row[2])] = SessionRow(*row)

    def _matching(self, sql: str, mark: str, values: list[str]) -> Sequence[Sequence[Any]]:
        """Rows for the tuples in `values`. Padded with nulls, so that few statements are compiled."""
        if not values:
            return ()
        width = mark.count("?")
        count = 1 << (len(values) // width - 1).bit_length()
        marks = ", ".join([mark] * count)
        padding = [None] * (count * width - len(values))
        rows: list[Sequence[Any]] = self._db.execute(sql.format(marks), [*values, *padding]).fetchall()
        return rows

    def _commit(self, changes: Changes) -> None:
        db = self._db
        db.execute("BEGIN IMMEDIATE")
        try:
            if changes.deleted:
                self._delete(changes.deleted)
            if changes.prune_before:
                self._prune(changes.prune_before)
            sessions = [changes.sessions[key] for key in changes.grown]
            _insert(db, _SESSIONS, [_session_values(session) for session in sessions if session])
            _insert(db, _RUNS, [_run_values(row, changes) for row in changes.runs.values()])
            _insert(db, _ENTRIES, changes.entries)
            _insert(db, _BLOBS, changes.blobs)
            _insert(db, _USES, changes.uses)
            for row in changes.titles:
                db.execute("UPDATE sessions SET title = ? WHERE agent = ? AND session_id = ?", row)
            db.execute("COMMIT")
        finally:
            if db.in_transaction:
                db.execute("ROLLBACK")

    def _delete(self, sessions: Mapping[int, int]) -> None:
        db = self._db
        for session, blobs_before in sessions.items():
            for (run,) in db.execute("SELECT no FROM runs WHERE session = ?", (session,)).fetchall():
                key = run << sqlite_file.RUN_SHIFT
                db.execute("DELETE FROM entries WHERE key BETWEEN ? AND ?", (key, key + MAX_SEQ))
                digests = db.execute("DELETE FROM blob_uses WHERE run = ? RETURNING digest", (run,)).fetchall()
                for (digest,) in digests:
                    gone = db.execute(
                        f"DELETE FROM blobs WHERE digest = ? AND put < ? AND {UNUSED}", (digest, blobs_before)
                    )
                    self.leftovers = self.leftovers or not gone.rowcount
            db.execute("DELETE FROM runs WHERE session = ?", (session,))
            db.execute("DELETE FROM sessions WHERE no = ?", (session,))

    def _prune(self, before: int) -> None:
        self._db.execute(f"DELETE FROM blobs WHERE put < ? AND {UNUSED}", (before,))
        self.leftovers = bool(self._db.execute(f"SELECT EXISTS (SELECT 1 FROM blobs WHERE {UNUSED})").fetchone()[0])


# A CROSS JOIN is done in the order it is written in: one search of an index for each thing wanted. Left the choice,
# SQLite reads the whole table.
_RUNS_WANTED = (
    f"WITH wanted (run_id) AS (VALUES {{}}) SELECT {RUN_COLUMNS} FROM wanted w"
    " CROSS JOIN runs r ON r.run_id = w.run_id CROSS JOIN sessions s ON s.no = r.session"
)
_SESSIONS_WANTED = (
    f"WITH wanted (agent, session_id) AS (VALUES {{}}) SELECT {SESSION_COLUMNS} FROM wanted w"
    " CROSS JOIN sessions s ON s.agent = w.agent AND s.session_id = w.session_id"
)


class _Table(msgspec.Struct, frozen=True):
    """How rows are put into a table: what is before and after the values, and how many there are."""

    insert: str
    columns: int
    otherwise: str = ""


# A session or run that is there moves on; only what can change is set.
_SESSIONS = _Table(
    "INSERT INTO sessions (no, agent, session_id, caller, runs, created) VALUES",
    6,
    "ON CONFLICT (no) DO UPDATE SET runs = excluded.runs",
)
_RUNS = _Table(
    "INSERT INTO runs VALUES",
    13,
    "ON CONFLICT (no) DO UPDATE SET status = excluded.status, last_seq = excluded.last_seq, epoch = excluded.epoch,"
    " updated = excluded.updated, prompt_tokens = excluded.prompt_tokens,"
    " completion_tokens = excluded.completion_tokens, total_tokens = excluded.total_tokens",
)
_ENTRIES = _Table("INSERT INTO entries VALUES", 2)
_BLOBS = _Table("INSERT INTO blobs VALUES", 3, "ON CONFLICT (digest) DO UPDATE SET put = excluded.put")
_USES = _Table("INSERT OR IGNORE INTO blob_uses VALUES", 2)


def _session_values(session: SessionRow) -> tuple[Any, ...]:
    return session.no, session.agent, session.session_id, session.caller, session.runs, session.created


def _run_values(row: Row, changes: Changes) -> tuple[Any, ...]:
    info = row.head.info
    session = changes.session((info.agent, info.session_id))
    return (
        row.no,
        info.run_id,
        session.no if session else None,
        info.order,
        info.status,
        info.last_seq,
        info.epoch,
        info.parent_run_id,
        microseconds(info.created),
        microseconds(info.updated),
        info.usage.prompt_tokens,
        info.usage.completion_tokens,
        info.usage.total_tokens,
    )


def _insert(db: sqlite3.Connection, table: _Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """Put the rows in with few steps: as many at a time as powers of two allow, so that few statements are compiled."""
    start = 0
    while start < len(rows):
        count = min(ROWS, 1 << ((len(rows) - start).bit_length() - 1))
        db.execute(_statement(table, count), list(chain.from_iterable(rows[start : start + count])))
        start += count


@functools.cache
def _statement(table: _Table, count: int) -> str:
    row = f"({', '.join('?' * table.columns)})"
    return f"{table.insert} {', '.join([row] * count)} {table.otherwise}"

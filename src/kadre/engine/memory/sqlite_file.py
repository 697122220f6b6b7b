"""The file of the SQLite journal: who owns it, how it is opened, what its tables are and how they came to be.

One process owns a data directory: it holds a lock on `lock` in it for as long as it lives, so that it may trust what it
remembers of the file. The lock goes with the process, however that ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from pathlib import Path

import msgspec

from kadre.base import errors
from kadre.base.problems import Problem

FILE = "journal.db"
OPEN = "('queued', 'running', 'waiting')"
CACHE_KIB = 1024
"""Pages that a connection keeps, at most: enough for what turns write and read next (docs/design/0006)."""
RUN_SHIFT = 20
"""An entry's key is its run's number, shifted by this many bits, plus the number of its first event."""

# Times are microseconds since 1970. An entry holds the events of one append, as JSON lines. A new type of event is a
# new version too, if with no statement: one that does not know it must not open the file.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE sessions (
            no INTEGER PRIMARY KEY, agent TEXT NOT NULL, session_id TEXT NOT NULL, caller TEXT NOT NULL,
            runs INTEGER NOT NULL, created INTEGER NOT NULL, UNIQUE (agent, session_id))""",
        """CREATE TABLE runs (
            no INTEGER PRIMARY KEY, run_id TEXT NOT NULL UNIQUE, session INTEGER NOT NULL REFERENCES sessions,
            ord INTEGER NOT NULL, status TEXT NOT NULL, last_seq INTEGER NOT NULL, epoch INTEGER NOT NULL,
            parent TEXT NOT NULL, created INTEGER NOT NULL, updated INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL,
            completion_tokens INTEGER NOT NULL, total_tokens INTEGER NOT NULL)""",
        "CREATE UNIQUE INDEX runs_of_session ON runs (session, ord)",
        f"CREATE INDEX open_runs ON runs (no) WHERE status IN {OPEN}",
        "CREATE TABLE entries (key INTEGER PRIMARY KEY, data BLOB NOT NULL)",
        "CREATE TABLE blobs (digest TEXT PRIMARY KEY, put INTEGER NOT NULL, data BLOB NOT NULL)",
        "CREATE TABLE blob_uses (run INTEGER NOT NULL, digest TEXT NOT NULL, PRIMARY KEY (run, digest)) WITHOUT ROWID",
        "CREATE INDEX uses_of_blob ON blob_uses (digest)",
    ),
    ("CREATE INDEX runs_by_age ON runs (created, run_id)",),
    ("ALTER TABLE sessions ADD COLUMN title TEXT NOT NULL DEFAULT ''",),
)


class JournalUnavailable(errors.Unavailable):
    """503: the store could not do it; nothing of it was kept. The process lives on, a later try may succeed."""

    default_reason = "JournalUnavailable"


RETRY_AFTER = 5.0
"""Seconds after which to try again when the store failed: somebody has to make room first."""
_CAUSES = {
    "SQLITE_FULL": "the disk (or the file's allowed size) is full; make room",
    "SQLITE_READONLY": "it cannot be written to; check its permissions",
    "SQLITE_CANTOPEN": "it cannot be opened; check that it is there and its permissions",
    "SQLITE_IOERR": "reading or writing it failed; check the disk and the room on it",
    "SQLITE_BUSY": "another program holds its lock; close whatever has it open",
    "SQLITE_CORRUPT": "its content is damaged; move it away and restore a copy",
    "SQLITE_NOTADB": "it is no SQLite file; move it away",
}


def unavailable(path: Path, error: sqlite3.Error) -> JournalUnavailable:
    """What a failure of SQLite means for whoever asked, with what to do about it."""
    return JournalUnavailable(f"journal {path}: {_cause(error)}", retry_after=RETRY_AFTER)


def _cause(error: sqlite3.Error | msgspec.DecodeError) -> str:
    if isinstance(error, msgspec.DecodeError):
        return errors.shorten(f"it holds an event that cannot be read ({error}); move it away and restore a copy")
    name = getattr(error, "sqlite_errorname", "")
    for code, cause in _CAUSES.items():
        if name.startswith(code):
            return cause
    return errors.shorten(f"SQLite failed: {error}")


class Presence:
    """Whether the file that is open is still the one at its path: SQLite would write on into a deleted one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._opened = _identity(path)

    def check(self) -> None:
        """Raise JournalUnavailable where it is not. One stat: 2 µs, where a commit takes milliseconds."""
        if _identity(self.path) != self._opened:
            message = f"journal {self.path} was deleted or replaced, and what it held is lost with it"
            fix = "put a copy back if there is one, and start kadre up again"
            raise JournalUnavailable(f"{message}: {fix}", reason="JournalGone")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)  # noqa: PTH116 - pathlib's own takes three times as long
    except OSError:
        return None
    return status.st_dev, status.st_ino


class DataDir:
    """A data directory, made where it is missing and locked for this process until `close`.

    Raises ProblemError where another process has it, or where it cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise _problem("DataDirUnusable", f"data dir {path} cannot be used: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.pread(self._lock, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._lock)
            message = f"another kadre up (pid {owner}) uses this data dir: {path}"
            raise _problem("DataDirInUse", message, "stop it, or ") from error
        except OSError as error:  # some network file systems
            os.close(self._lock)
            message = f"data dir {path} is on a file system without locks: {error.strerror}"
            raise _problem("DataDirUnusable", message) from error
        with contextlib.suppress(OSError):  # a courtesy to who comes next; the lock is what counts
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def close(self) -> None:
        """Let another process have it."""
        os.close(self._lock)


def _problem(reason: str, message: str, fix: str = "") -> errors.ProblemError:
    return errors.ProblemError([Problem(reason, message, fix=f"{fix}choose another directory with --data-dir")])


def connect(path: Path) -> sqlite3.Connection:
    """A connection that one thread at a time may use; every transaction is explicit."""
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)
    db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    return db


def unusable(path: Path, error: sqlite3.Error | msgspec.DecodeError) -> errors.ProblemError:
    """What a failure of SQLite, or events that cannot be read, mean for whoever starts on this file."""
    return _problem("JournalUnusable", f"journal {path}: {_cause(error)}")


def prepare(db: sqlite3.Connection, path: Path) -> None:
    """Make it the connection that writes, and bring the file up to this version. Raises ProblemError: it is newer."""
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    _migrate(db, path)


def _migrate(db: sqlite3.Connection, path: Path) -> None:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > len(MIGRATIONS):
        message = f"journal {path} was written by a newer Kadre (schema {version}, this one knows {len(MIGRATIONS)})"
        raise _problem("JournalTooNew", message, "upgrade Kadre, or ")
    for number, statements in enumerate(MIGRATIONS[version:], version + 1):
        db.execute("BEGIN IMMEDIATE")
        for statement in statements:
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {number}")
        db.execute("COMMIT")

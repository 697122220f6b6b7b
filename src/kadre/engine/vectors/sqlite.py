"""A vector store in a SQLite file, or in memory: for a laptop, and for tests.

Several processes may have the file: what `kadre ingest` writes is found by the `kadre up` that runs beside it. One
thread does all the work; what it searches is a mirror of the file's vectors, brought up to date when the file has
changed.
"""

from __future__ import annotations

import asyncio
import functools
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import msgspec

from kadre.base.errors import Unavailable, shorten
from kadre.engine.vectors import port
from kadre.engine.vectors.mirror import Mirror, packed
from kadre.engine.vectors.port import Document, Hit, Item, Scalar, VectorsRefused, VectorsUnavailable

BUSY_SECONDS = 10.0
"""How long another process's write is waited for."""
EXPRESSION_SECONDS = 10.0
STEPS = 10_000
"""Of SQLite's own, between two looks at the clock."""
READ_AT_ONCE = 4096
VERSION = 1
T = TypeVar("T")
# Numbers rise and are never given again: what is new in the file is what is above the last one seen. `labels` is the
# metadata once more, one row a value, as the index of filters.
SCHEMA = (
    "CREATE TABLE about (dimension INTEGER NOT NULL)",
    """CREATE TABLE items (
        no INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, text TEXT NOT NULL, metadata TEXT NOT NULL,
        vector BLOB NOT NULL)""",
    """CREATE TABLE labels (
        name TEXT NOT NULL, value TEXT NOT NULL, item INTEGER NOT NULL,
        PRIMARY KEY (name, value, item)) WITHOUT ROWID""",
    "CREATE INDEX labels_of_item ON labels (item)",
    f"PRAGMA user_version = {VERSION}",
)


class SqliteVectors:
    """One collection. `path`: its file, made when it is first written to; None: in memory."""

    def __init__(self, path: Path | None, collection: str) -> None:
        self._path = path
        self._name = f"the collection {collection}" if path is None else f"the collection {collection} ({path})"
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="vectors")
        self._db: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._mirror: Mirror | None = None
        self._seen = -1
        self._changed = False
        self._closed = False

    async def ensure(self, dimension: int) -> None:
        """See VectorStore."""
        await self._do(lambda: self._ensure(dimension))

    async def upsert(self, items: Sequence[Item]) -> None:
        """See VectorStore."""
        port.check_items(items)
        await self._do(lambda: self._upsert(items))

    async def search(
        self, vector: Sequence[float], top_k: int, equal: Mapping[str, Scalar] | None = None, expression: str = ""
    ) -> list[Hit]:
        """See VectorStore. The expression is SQL over id, text and metadata, as in `metadata->>'year' > 2020`."""
        port.check_expression(expression)
        return await self._do(lambda: self._search(vector, min(top_k, port.MOST_HITS), equal or {}, expression))

    async def get(
        self, ids: Sequence[str] = (), equal: Mapping[str, Scalar] | None = None, limit: int = port.MOST_HITS
    ) -> list[Document]:
        """See VectorStore."""
        return await self._do(lambda: self._get(ids, equal or {}, min(limit, port.MOST_HITS)))

    async def walk(self, equal: Mapping[str, Scalar] | None = None) -> AsyncIterator[Document]:
        """See VectorStore."""
        numbers = await self._do(lambda: self._all(equal or {}))
        for start in range(0, len(numbers), port.MOST_HITS):
            some = numbers[start : start + port.MOST_HITS]
            for _, document in await self._do(functools.partial(self._documents, some)):
                yield Document(document.id, "", document.metadata)

    async def delete(self, ids: Sequence[str] = (), equal: Mapping[str, Scalar] | None = None) -> None:
        """See VectorStore."""
        port.check_chosen(ids, equal)
        await self._do(lambda: self._delete(ids, equal or {}))

    async def count(self, equal: Mapping[str, Scalar] | None = None) -> int:
        """See VectorStore."""
        return await self._do(lambda: self._count(equal or {}))

    async def aclose(self) -> None:
        """See VectorStore."""
        if not self._closed:
            self._closed = True
            await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
            self._thread.shutdown(wait=False)

    async def _do(self, work: Callable[[], T]) -> T:
        if self._closed:
            raise Unavailable(f"{self._name} is closed")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except sqlite3.Error as error:
            raise VectorsUnavailable(shorten(f"{self._name}: SQLite failed: {error}"), retry_after=5.0) from error

    # -- in the thread -------------------------------------------------------------------------------------------

    def _close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    def _mind_file(self) -> None:
        """Let go of a file that was deleted, or that another one took the place of: nobody else sees it any more."""
        if self._db is not None and _identity(self._path) != self._file:
            self._close()
            self._mirror, self._seen = None, -1

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path or ":memory:", timeout=BUSY_SECONDS, isolation_level=None)
        try:
            _write_ahead(db)
            db.execute("PRAGMA synchronous = FULL")
            found = db.execute("PRAGMA user_version").fetchone()[0]
        except sqlite3.Error:
            db.close()
            raise
        if found > VERSION:
            db.close()
            raise VectorsRefused(f"{self._name} was written by a newer Kadre; upgrade Kadre, or use another collection")
        self._file = _identity(self._path)
        return db

    def _there(self) -> sqlite3.Connection:
        """The open file. Raises CollectionMissing where nothing was ever written."""
        self._mind_file()
        if self._db is None:
            if self._path is None or not self._path.exists():
                raise port.missing(self._name)
            self._db = self._open()
        if not self._db.execute("PRAGMA user_version").fetchone()[0]:
            raise port.missing(self._name)
        return self._db

    def _ensure(self, dimension: int) -> None:
        self._mind_file()
        if self._db is None:
            if self._path is not None:
                try:
                    self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                except OSError as error:
                    raise VectorsUnavailable(f"{self._path.parent} cannot be used: {error.strerror}") from error
            self._db = self._open()
        db = self._db
        with _Writing(db):
            if not db.execute("PRAGMA user_version").fetchone()[0]:
                for statement in SCHEMA:
                    db.execute(statement)
                db.execute("INSERT INTO about VALUES (?)", (dimension,))
        found = self._dimension(db)
        if found != dimension:
            raise port.dimension_differs(self._name, found, dimension)

    def _upsert(self, items: Sequence[Item]) -> None:
        db = self._there()
        dimension = self._dimension(db)
        for item in items:
            port.check_vector(item.vector, dimension)
        latest = {item.id: item for item in items}
        with _Writing(db):
            gone = self._forget(db, self._chosen(list(latest), {}))
            for item in latest.values():
                row = (item.id, item.text, port.encoded(item.metadata), packed(item.vector))
                number = db.execute("INSERT INTO items (id, text, metadata, vector) VALUES (?, ?, ?, ?)", row).lastrowid
                labels = [(name, _label(value), number) for name, value in item.metadata.items()]
                db.executemany("INSERT INTO labels VALUES (?, ?, ?)", labels)
        self._took_place(gone)

    def _delete(self, ids: Sequence[str], equal: Mapping[str, Scalar]) -> None:
        db = self._there()
        with _Writing(db):
            gone = self._forget(db, self._chosen(ids, equal))
        self._took_place(gone)

    def _took_place(self, gone: Iterable[int]) -> None:
        self._changed = True
        if self._mirror is not None:
            self._mirror.drop(gone)

    def _forget(self, db: sqlite3.Connection, numbers: Sequence[int]) -> Sequence[int]:
        for number in numbers:
            db.execute("DELETE FROM labels WHERE item = ?", (number,))
            db.execute("DELETE FROM items WHERE no = ?", (number,))
        return numbers

    def _search(self, vector: Sequence[float], top_k: int, equal: Mapping[str, Scalar], expression: str) -> list[Hit]:
        db = self._there()
        mirror = self._up_to_date(db)
        port.check_vector(vector, mirror.dimension)
        among: Sequence[int] | None = self._chosen((), equal) if equal else None
        if expression:
            allowed = self._allowed(db, expression)
            among = list(allowed) if among is None else [number for number in among if number in allowed]
        found = mirror.nearest(packed(vector), top_k, among)
        documents = dict(self._documents([near.no for near in found]))
        return [
            Hit(document.id, near.score, document.text, document.metadata)
            for near in found
            if (document := documents.get(near.no)) is not None  # not one that another process has just taken away
        ]

    def _get(self, ids: Sequence[str], equal: Mapping[str, Scalar], limit: int) -> list[Document]:
        self._there()
        if ids or equal:
            return [document for _, document in self._documents(self._chosen(ids, equal)[:limit])]
        rows = self._there().execute("SELECT no FROM items ORDER BY no LIMIT ?", (limit,)).fetchall()
        return [document for _, document in self._documents([number for (number,) in rows])]

    def _all(self, equal: Mapping[str, Scalar]) -> list[int]:
        db = self._there()
        return self._chosen((), equal) if equal else [number for (number,) in db.execute("SELECT no FROM items")]

    def _count(self, equal: Mapping[str, Scalar]) -> int:
        db = self._there()
        return len(self._chosen((), equal)) if equal else int(db.execute("SELECT count(*) FROM items").fetchone()[0])

    def _chosen(self, ids: Sequence[str], equal: Mapping[str, Scalar]) -> list[int]:
        """Numbers of those of the ids, or else of those of `equal`."""
        db = self._there()
        if ids:
            wanted = msgspec.json.encode(ids).decode()
            rows = db.execute("SELECT no FROM items WHERE id IN (SELECT value FROM json_each(?))", (wanted,))
        else:
            part = "SELECT item FROM labels WHERE name = ? AND value = ?"
            values = [text for name, value in equal.items() for text in (name, _label(value))]
            rows = db.execute(" INTERSECT ".join([part] * len(equal)), values)
        return [number for (number,) in rows]

    def _allowed(self, db: sqlite3.Connection, expression: str) -> set[int]:
        """Numbers of the items for which the expression, which its author wrote, is true. It cannot write."""
        until = time.monotonic() + EXPRESSION_SECONDS
        db.execute("PRAGMA query_only = ON")
        db.set_progress_handler(lambda: time.monotonic() > until, STEPS)
        try:
            return {number for (number,) in db.execute(f"SELECT no FROM items WHERE ({expression})")}  # noqa: S608
        except (sqlite3.Error, sqlite3.Warning) as error:
            message = shorten(f"the filter {expression!r} is none that {self._name} understands: {error}")
            raise VectorsRefused(message) from error
        finally:
            db.set_progress_handler(None, 0)
            db.execute("PRAGMA query_only = OFF")

    def _documents(self, numbers: Sequence[int]) -> list[tuple[int, Document]]:
        wanted = msgspec.json.encode(numbers).decode()
        rows = self._there().execute(
            "SELECT no, id, text, metadata FROM items WHERE no IN (SELECT value FROM json_each(?))", (wanted,)
        )
        return [(no, Document(found, text, msgspec.json.decode(metadata))) for no, found, text, metadata in rows]

    def _dimension(self, db: sqlite3.Connection) -> int:
        return int(db.execute("SELECT dimension FROM about").fetchone()[0])

    def _up_to_date(self, db: sqlite3.Connection) -> Mirror:
        """The mirror as the file is now. It is read anew only where another process took something out of it."""
        mirror, version = self._mirror, db.execute("PRAGMA data_version").fetchone()[0]
        if mirror is not None and version == self._seen and not self._changed:
            return mirror
        count = self._count({})
        if mirror is None or mirror.worn or self._read(db, mirror) != count:
            mirror = Mirror(self._dimension(db))
            self._read(db, mirror)
        self._mirror, self._seen, self._changed = mirror, version, False
        return mirror

    def _read(self, db: sqlite3.Connection, mirror: Mirror) -> int:
        """Add what is new; how many there are then."""
        rows = db.execute("SELECT no, vector FROM items WHERE no > ? ORDER BY no", (mirror.last,))
        while some := rows.fetchmany(READ_AT_ONCE):
            mirror.add(some)
        return len(mirror)


def _identity(path: Path | None) -> tuple[int, int] | None:
    """Which file it is; while it is open, no other one has its number. None: in memory, or not there."""
    try:
        found = path.stat() if path is not None else None
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if found is not None else None


def _write_ahead(db: sqlite3.Connection) -> None:
    """Have readers and a writer not wait for each other. Two processes that do this at once are not made to wait."""
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_BUSY" or time.monotonic() > until:
                raise
            time.sleep(0.01)
        else:
            return


class _Writing:
    """A transaction that may write, whole or not at all."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._db.execute("COMMIT" if kind is None else "ROLLBACK")


def _label(value: Scalar) -> str:
    return msgspec.json.encode(port.plain(value)).decode()

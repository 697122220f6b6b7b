"""A vector store in PostgreSQL with the extension `vector`: a collection is a table, found by an hnsw index.

A statement whose connection breaks is sent again: all that is done here is the same when it is done twice.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from kadre.base.clock import Clock, SystemClock
from kadre.base.errors import ProblemError, Unavailable, shorten
from kadre.base.problems import Problem
from kadre.base.retry import Backoff
from kadre.engine.vectors import port
from kadre.engine.vectors.port import Document, Hit, Item, Scalar, VectorsRefused, VectorsUnavailable

try:
    import asyncpg
except ImportError as absent:
    raise ProblemError(
        [Problem("StoreLibraryMissing", "a pgvector store needs the extra `postgres`", "pip install 'kadre[postgres]'")]
    ) from absent

PORT = 5432
CONNECTIONS = 4
CONNECT_SECONDS = 5.0
STATEMENT_SECONDS = 30
QUEUE_SECONDS = 10.0
INDEXED = 2000
"""Numbers of the largest vector that hnsw takes; larger ones are compared one by one."""
NAME_LIMIT = 63
FETCHED = 200
"""Of the index, before rows are filtered; it goes on where too few are left (pgvector 0.8 and later)."""
_AGAIN = Backoff(attempts=6, first=0.1, limit=2.0)
_PLAIN = re.compile(r"[^\x20-\x7e]")
T = TypeVar("T")
_FAILURES = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
_LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.InvalidCachedStatementError,
    asyncpg.InternalClientError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    OSError,
)
_CAUSES: dict[type[BaseException], str] = {
    asyncpg.InvalidAuthorizationSpecificationError: "the server refuses this user or its password",
    asyncpg.InvalidCatalogNameError: "there is no such database on the server",
    asyncpg.QueryCanceledError: f"a statement took longer than {STATEMENT_SECONDS} s and was given up",
    asyncpg.DiskFullError: "the server's disk is full; make room",
    TimeoutError: "the server does not answer, or all connections to it are busy",
    OSError: "the server cannot be reached; check that it runs, its address and the network between",
    asyncpg.InterfaceError: "the connection was lost",
    asyncpg.PostgresConnectionError: "the connection was lost",
    asyncpg.DeadlockDetectedError: "others write the same rows",
}


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """Where a server is and who logs in. It may hold a password and is told to nobody.

    `dsn`: `postgresql://…`, the whole of it; then nothing else counts.
    """

    dsn: str = ""
    host: str = ""
    port: int = PORT
    database: str = "postgres"
    user: str = "postgres"
    password: str = ""
    tls: bool = False

    def __repr__(self) -> str:
        return "Address(…)"


class PgVectors:
    """One collection. `address` is asked before every connection, so that a changed password counts."""

    def __init__(self, address: Callable[[], Address], collection: str, clock: Clock | None = None) -> None:
        self._address = address
        self._name = f"the pgvector collection {collection}"
        self._table = _quoted(_table(collection))
        self._clock = clock or SystemClock()
        self._opening = asyncio.Lock()
        self._pool: Any = None
        self._dimension = 0
        self._closed = False

    async def ensure(self, dimension: int) -> None:
        """See VectorStore."""

        async def work(db: Any) -> int:
            async with db.transaction():
                await db.execute("SELECT pg_advisory_xact_lock(hashtext($1))", f"kadre vectors {self._table}")
                return await self._made(db, dimension)

        found = await self._do(work)
        if found != dimension:
            raise port.dimension_differs(self._name, found, dimension)
        self._dimension = found

    async def upsert(self, items: Sequence[Item]) -> None:
        """See VectorStore."""
        port.check_items(items)
        await self._check([item.vector for item in items])
        # In one order everywhere: two that write the same rows would wait for each other.
        latest = sorted({item.id: item for item in items}.values(), key=lambda item: item.id)
        rows = [(item.id, item.text, port.encoded(item.metadata), _written(item.vector)) for item in latest]
        statement = (
            f"INSERT INTO {self._table} (id, content, metadata, embedding) VALUES ($1, $2, $3::jsonb, $4::text::vector)"  # noqa: S608
            " ON CONFLICT (id) DO UPDATE SET content = excluded.content, metadata = excluded.metadata,"
            " embedding = excluded.embedding"
        )

        async def work(db: Any) -> None:
            async with db.transaction():
                await db.executemany(statement, rows)

        await self._do(work)

    async def search(
        self, vector: Sequence[float], top_k: int, equal: Mapping[str, Scalar] | None = None, expression: str = ""
    ) -> list[Hit]:
        """See VectorStore. The expression is SQL over id, content and metadata: `metadata->>'lang' = 'en'`."""
        port.check_expression(expression)
        await self._check([vector])
        further = f" AND ({expression})" if expression else ""
        near = "embedding <=> $1::text::vector"
        statement = (
            f"SELECT id, content, metadata, 1 - ({near}) AS score"  # noqa: S608 - its author's words
            f" FROM {self._table} WHERE metadata @> $2::jsonb{further} ORDER BY "
        )
        most = min(top_k, port.MOST_HITS)
        asked = (_written(vector), port.encoded(equal or {}), most)

        async def fetched(db: Any) -> Any:
            rows = await db.fetch(f"{statement}{near} LIMIT $3", *asked)
            if len(rows) < most and (equal or expression):
                # The index gives up before it has come to what a filter leaves far away; a sum is not in it.
                rows = await db.fetch(f"{statement}({near}) + 0 LIMIT $3", *asked)
            return rows

        async def work(db: Any) -> Any:
            if not expression:
                return await fetched(db)
            async with db.transaction(readonly=True):
                return await fetched(db)

        rows = await self._do(work, expression)
        return [
            Hit(row["id"], max(-1.0, min(1.0, row["score"])), row["content"], msgspec.json.decode(row["metadata"]))
            for row in rows
        ]

    async def get(
        self, ids: Sequence[str] = (), equal: Mapping[str, Scalar] | None = None, limit: int = port.MOST_HITS
    ) -> list[Document]:
        """See VectorStore."""
        where, asked = _chosen(ids, equal)
        statement = f"SELECT id, content, metadata FROM {self._table} WHERE {where} LIMIT $2"  # noqa: S608
        rows = await self._do(lambda db: db.fetch(statement, asked, min(limit, port.MOST_HITS)))
        return [Document(row["id"], row["content"], msgspec.json.decode(row["metadata"])) for row in rows]

    async def walk(self, equal: Mapping[str, Scalar] | None = None) -> AsyncIterator[Document]:
        """See VectorStore."""
        where, asked = _chosen((), equal)
        statement = (
            f"SELECT id, metadata FROM {self._table} WHERE {where} AND id > $2 ORDER BY id LIMIT {port.MOST_HITS}"  # noqa: S608
        )
        last = ""
        while rows := await self._do(functools.partial(_fetched, statement, asked, last)):
            for row in rows:
                yield Document(row["id"], "", msgspec.json.decode(row["metadata"]))
            last = rows[-1]["id"]

    async def delete(self, ids: Sequence[str] = (), equal: Mapping[str, Scalar] | None = None) -> None:
        """See VectorStore."""
        port.check_chosen(ids, equal)
        where, asked = _chosen(ids, equal)
        await self._do(lambda db: db.execute(f"DELETE FROM {self._table} WHERE {where}", asked))  # noqa: S608

    async def count(self, equal: Mapping[str, Scalar] | None = None) -> int:
        """See VectorStore."""
        where, asked = _chosen((), equal)
        found: int = await self._do(
            lambda db: db.fetchval(f"SELECT count(*) FROM {self._table} WHERE {where}", asked)  # noqa: S608
        )
        return found

    async def aclose(self) -> None:
        """See VectorStore."""
        self._closed = True
        if self._pool is not None:
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    await self._pool.close()
            except TimeoutError:
                self._pool.terminate()

    # -- the server ----------------------------------------------------------------------------------------------

    async def _made(self, db: Any, dimension: int) -> int:
        """The table, made where there is none; the dimension of its vectors."""
        if await db.fetchval("SELECT to_regclass($1)", self._table) is None:
            if not await db.fetchval("SELECT 1 FROM pg_extension WHERE extname = 'vector'"):
                await db.execute("CREATE EXTENSION IF NOT EXISTS vector")
            await db.execute(
                f"CREATE TABLE {self._table} (id text PRIMARY KEY, content text NOT NULL, metadata jsonb NOT NULL,"
                f" embedding vector({int(dimension)}) NOT NULL)"
            )
            await db.execute(f"CREATE INDEX ON {self._table} USING gin (metadata jsonb_path_ops)")
            if dimension <= INDEXED:
                await db.execute(f"CREATE INDEX ON {self._table} USING hnsw (embedding vector_cosine_ops)")
        return await self._measured(db)

    async def _measured(self, db: Any) -> int:
        found: int | None = await db.fetchval(
            "SELECT atttypmod FROM pg_attribute WHERE attrelid = to_regclass($1) AND attname = 'embedding'", self._table
        )
        if found is not None:
            return found
        if await db.fetchval("SELECT to_regclass($1)", self._table) is None:
            raise port.missing(self._name)
        raise VectorsRefused(f"{self._name} is a table of something else: name another collection")

    async def _check(self, vectors: Sequence[Sequence[float]]) -> None:
        """Raise VectorsRefused for a vector that the table does not take; the table may have been made anew since."""
        if any(len(vector) != self._dimension for vector in vectors) or not vectors:
            self._dimension = await self._do(self._measured)
        for vector in vectors:
            port.check_vector(vector, self._dimension)

    async def _connect(self, _: None, **pooled: Any) -> Any:
        address = self._address()
        settings: dict[str, Any] = {
            "timeout": CONNECT_SECONDS,
            "command_timeout": STATEMENT_SECONDS + 5.0,
            "server_settings": {
                "application_name": "kadre",
                "statement_timeout": f"{STATEMENT_SECONDS}s",
                "jit": "off",
                # A plan for any question takes every filter for one that leaves few rows, `{}` too: it would read them
                # all, and the question's text anew for each of them.
                "plan_cache_mode": "force_custom_plan",
                "hnsw.ef_search": str(FETCHED),
                "hnsw.iterative_scan": "strict_order",
            },
            **pooled,
        }
        if address.dsn:
            settings["dsn"] = address.dsn
        else:
            settings |= {"host": address.host, "port": address.port, "database": address.database}
            # Left without a password, asyncpg would look in the environment and the home folder: other programs' own.
            settings |= {"user": address.user, "password": address.password}
            if address.tls:
                settings["ssl"] = ssl.create_default_context()
        try:
            return await asyncpg.connect(**settings)
        except asyncpg.exceptions.ClientConfigurationError:  # its words hold what was read, a password's half perhaps
            raise VectorsRefused(
                f"{self._name}: the address cannot be read; write postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
            ) from None

    async def _connected(self) -> Any:
        async with self._opening:
            if self._pool is None:
                pool = asyncpg.create_pool(connect=self._connect, min_size=0, max_size=CONNECTIONS, reset=_leave)
                self._pool = await pool
        return self._pool

    async def _do(self, work: Callable[[Any], Awaitable[T]], expression: str = "") -> T:
        """What `work` returns for a connection; done again on another one where that breaks."""
        attempt = 0
        while True:
            attempt += 1
            if self._closed:
                raise Unavailable(f"{self._name} is closed")
            try:
                pool = await self._connected()
                async with pool.acquire(timeout=QUEUE_SECONDS) as db:
                    return await work(db)
            except _FAILURES as error:
                lost = isinstance(error, _LOST) and not isinstance(error, TimeoutError | ValueError)
                delay = _AGAIN.delay(attempt) if lost else None
                if delay is None:
                    raise self._told(error, expression) from error
            await self._clock.sleep(delay)

    def _told(self, error: BaseException, expression: str) -> Exception:
        if isinstance(error, asyncpg.UndefinedTableError) and not expression:
            self._dimension = 0
            return port.missing(self._name)
        if isinstance(error, asyncpg.DataError) and not expression:
            self._dimension = 0  # it may have been made anew, with another one
        if isinstance(error, asyncpg.InsufficientPrivilegeError | asyncpg.FeatureNotSupportedError):
            ask = "have its owner run CREATE EXTENSION vector, and grant this user CREATE on the schema"
            return VectorsRefused(shorten(f"{self._name}: {_said(error)}; {ask}"))
        if isinstance(error, asyncpg.UndefinedFileError):
            return VectorsRefused(f"{self._name}: the server does not have pgvector; install it there")
        wrong = (asyncpg.SyntaxOrAccessError, asyncpg.DataError, asyncpg.ReadOnlySQLTransactionError)
        if expression and isinstance(error, wrong):
            return VectorsRefused(shorten(f"the filter {expression!r} is none that PostgreSQL takes: {_said(error)}"))
        for kind, cause in _CAUSES.items():
            if isinstance(error, kind):
                return VectorsUnavailable(f"{self._name}: {cause}", retry_after=5.0)
        return VectorsUnavailable(shorten(f"{self._name}: the server failed: {_said(error)}"), retry_after=5.0)


async def _fetched(statement: str, chosen: Any, after: str, db: Any) -> Any:
    return await db.fetch(statement, chosen, after)


async def _leave(_: Any) -> None:
    """Nothing to put back: nothing of a session is changed. asyncpg's own reset costs a round trip each time."""


def _said(error: BaseException) -> str:
    """The server's own first sentence: not str(), which shows values too."""
    return getattr(error, "message", None) or type(error).__name__


def _table(collection: str) -> str:
    """The collection's name; one too long for PostgreSQL, or with other letters, ends in a digest of the whole."""
    plain = _PLAIN.sub("_", collection)
    if plain == collection and len(plain) <= NAME_LIMIT:
        return plain
    return f"{plain[: NAME_LIMIT - 9]}_{hashlib.sha256(collection.encode()).hexdigest()[:8]}"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _chosen(ids: Sequence[str], equal: Mapping[str, Scalar] | None) -> tuple[str, Any]:
    return ("id = any($1::text[])", list(ids)) if ids else ("metadata @> $1::jsonb", port.encoded(equal or {}))


def _written(vector: Sequence[float]) -> str:
    return f"[{','.join(map(repr, map(float, vector)))}]"

"""The server of the PostgreSQL journal: how it is named to people, how it is reached, and what its failures mean."""

from __future__ import annotations

import asyncio
import functools
import re
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

from kadre.base import errors
from kadre.base.clock import Clock
from kadre.base.problems import Problem
from kadre.engine.memory import remote

try:
    import asyncpg
except ImportError as missing:
    raise errors.ProblemError(
        [
            Problem(
                "StoreLibraryMissing",
                "a PostgreSQL journal needs the extra `postgres`",
                fix="pip install 'kadre[postgres]'",
            )
        ]
    ) from missing

SCHEMA = "kadre"
"""The schema of a database that a journal is in."""
PORT = 5432
CONNECTIONS = 4
"""Of one journal, at most, beside the one that listens: a server allows 100 unless told otherwise, which is 20 pods."""
CONNECT_SECONDS = 5.0
STATEMENT_SECONDS = 30
"""After which the server gives up on a statement, so that what became of it is known."""
ANSWER_SECONDS = STATEMENT_SECONDS + 5.0
"""After which nobody waits for the server any more: it, or the way to it, is stuck."""
QUEUE_SECONDS = 10.0
"""How long to wait for one of the connections."""
_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,40}")
T = TypeVar("T")
Connection = Any
"""asyncpg says nothing of its types."""


class Address(msgspec.Struct, frozen=True):
    """What a connection is opened with: it may hold a password and is told to nobody.

    `dsn`: `postgresql://user:password@host:port/database`. `tls`: None where the dsn says it all.
    """

    dsn: str
    tls: ssl.SSLContext | None = None

    def __repr__(self) -> str:
        return "Address(…)"


class Place(msgspec.Struct, frozen=True):
    """Where a journal is: `address` is asked before every connection, so that a changed password counts.

    `name` is for people.
    """

    address: Callable[[], Address]
    schema: str
    name: str

    def __repr__(self) -> str:
        return f"Place({self.name!r}, {self.schema!r})"


def place(address: Callable[[], Address] | str, schema: str) -> Place:
    """Where that address leads: a dsn, or what is asked for it. Raises ProblemError: it cannot be read."""
    if not _SCHEMA.fullmatch(schema):
        fix = "name it with small letters, digits and underscores"
        raise _problem("BadStore", f"{schema!r} cannot be the name of a PostgreSQL schema", fix)
    asked = functools.partial(Address, address) if isinstance(address, str) else address
    return Place(asked, schema, _read(asked().dsn)[0])


def _read(dsn: str) -> tuple[str, str | None]:
    """How people call the place of that dsn, and the password that is to be used where the dsn holds none."""
    try:
        parts = urlsplit(dsn)
        port, asked = parts.port, parse_qs(parts.query)
    except ValueError:
        raise _unreadable() from None  # its words hold what was read
    host = parts.hostname or "".join(asked.get("host", ())[:1])
    # A slash or a question mark in a password ends what urlsplit takes for the part before the host.
    cut = parts.fragment or ("@" in dsn and "@" not in parts.netloc)
    if parts.scheme not in ("postgresql", "postgres") or cut or not host:
        raise _unreadable()
    elsewhere = f":{port}" if port and port != PORT else ""
    name = f"postgresql journal {host}{elsewhere}{unquote(parts.path)}"
    # Left without one, asyncpg would look in the environment and the home folder: other programs' passwords.
    return name, None if parts.password or "password" in asked else ""


def _unreadable() -> errors.ProblemError:
    """None of it is shown: where it cannot be read, any part may be the password's."""
    fix = "write postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with special characters percent-encoded"
    return _problem("BadStore", "the address of the PostgreSQL journal cannot be read", fix)


def _problem(reason: str, message: str, fix: str) -> errors.ProblemError:
    return errors.ProblemError([Problem(reason, message, fix=fix)])


def newer(where: Place, found: int, known: int) -> errors.ProblemError:
    """What is said where a later version has been."""
    message = f"{where.name} was written by a newer Kadre (schema {found}, this one knows {known})"
    return _problem("JournalTooNew", message, "upgrade Kadre, or use another database")


FAILURES = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
"""What asyncpg raises, and what the system does for it."""
_LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.InvalidCachedStatementError,
    asyncpg.InternalClientError,
    OSError,
)
"""What is worth a new connection and another try. asyncpg takes its own words for a mistake of its own where the server
has said good-bye and has not hung up yet."""
_MENDED_BY_WHO_STARTS = {
    asyncpg.InvalidAuthorizationSpecificationError: "the server refuses this user or its password",
    asyncpg.InvalidCatalogNameError: "there is no such database on the server",
    asyncpg.InsufficientPrivilegeError: "the user may not do what Kadre needs (create a schema and tables in it)",
}
_CAUSES = {
    asyncpg.TooManyConnectionsError: "the server takes no more connections; raise its max_connections",
    asyncpg.DiskFullError: "the server's disk is full; make room",
    asyncpg.OutOfMemoryError: "the server is out of memory",
    asyncpg.ReadOnlySQLTransactionError: "the server may only be read from (a standby?); name the primary",
    asyncpg.UndefinedTableError: "its tables are gone; restore a copy, and start Kadre again",
    asyncpg.UndefinedFunctionError: "its functions are gone; restore a copy, and start Kadre again",
    asyncpg.QueryCanceledError: f"a statement took longer than {STATEMENT_SECONDS} s and was given up",
    asyncpg.CannotConnectNowError: "the server is starting or stopping",
    TimeoutError: "the server does not answer, or all connections to it are busy",
    OSError: "the server cannot be reached; check that it runs, its address and the network between",
    asyncpg.InterfaceError: "the connection was lost",
    asyncpg.PostgresConnectionError: "the connection was lost",
    asyncpg.AdminShutdownError: "the server was stopped",
    asyncpg.CrashShutdownError: "the server crashed, or was killed",
}


def _cause(error: BaseException) -> str:
    """What a failure means, and what to do about it. Of foreign text only the server's own first sentence."""
    for kind, cause in {**_MENDED_BY_WHO_STARTS, **_CAUSES}.items():
        if isinstance(error, kind):
            return cause
    said = getattr(error, "message", None) or type(error).__name__  # not str(): that shows values too
    return errors.shorten(f"the server failed: {said}")


def unavailable(where: Place, error: BaseException) -> remote.JournalUnavailable:
    """What a failure means for whoever asked."""
    return remote.JournalUnavailable(f"{where.name}: {_cause(error)}", retry_after=remote.RETRY_AFTER)


def unusable(where: Place, error: BaseException) -> errors.KadreError:
    """What a failure means for whoever opens the journal: something to mend, or to wait for."""
    if isinstance(error, tuple(_MENDED_BY_WHO_STARTS)):
        fix = "check the address, its user and what that user may do"
        return _problem("JournalUnusable", f"{where.name}: {_cause(error)}", fix)
    return unavailable(where, error)


def _told(where: Place, error: Exception) -> Exception:
    """The error for whoever asked."""
    if isinstance(error, asyncpg.DataError) or _value(error):
        return errors.BadRequest("a value in the request cannot be kept: it holds a NUL or is out of range")
    if isinstance(error, FAILURES):
        return unavailable(where, error)
    return error


def _value(error: Exception) -> bool:
    """Whether asyncpg itself refused a value, before it was sent."""
    return isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError)


def _settings(where: Place) -> dict[str, Any]:
    """Of every connection. A client that is gone gives its locks back soon; jit has nothing to win here."""
    settings = {
        "application_name": "kadre",
        "search_path": where.schema,
        "statement_timeout": f"{STATEMENT_SECONDS}s",
        "idle_in_transaction_session_timeout": f"{STATEMENT_SECONDS}s",
        "tcp_keepalives_idle": "10",
        "tcp_keepalives_interval": "5",
        "tcp_keepalives_count": "3",
        "synchronous_commit": "on",
        "default_transaction_isolation": "read committed",
        "jit": "off",
    }
    return {"server_settings": settings, "timeout": CONNECT_SECONDS, "command_timeout": ANSWER_SECONDS}


async def connect(where: Place, **pooled: Any) -> Connection:
    """A connection to where the journal is now. `pooled`: what the pool adds.

    Raises what asyncpg raises, ProblemError for an address that cannot be read, Unavailable where there is none now.
    """
    address = where.address()
    settings = {**_settings(where), "password": _read(address.dsn)[1], **pooled}
    if address.tls is not None:
        settings["ssl"] = address.tls
    try:
        return await asyncpg.connect(address.dsn, **settings)
    except asyncpg.exceptions.ClientConfigurationError:  # its words hold what was read, a password's half perhaps
        raise _unreadable() from None


async def _leave(_: Connection) -> None:
    """Nothing to put back: nothing of a session is changed. asyncpg's own reset costs a round trip each time."""


class Server(remote.Server[Connection]):
    """A bounded pool of connections. Made by `open`."""

    def __init__(self, where: Place, pool: Any, clock: Clock) -> None:
        super().__init__(clock)
        self.where = where
        self._pool = pool

    @classmethod
    async def open(cls, where: Place, clock: Clock, connections: int = CONNECTIONS) -> Server:
        """The server of that place. Raises what `connect` raises."""

        async def opened(_: None, **pooled: Any) -> Connection:
            return await connect(where, **pooled)

        pool = asyncpg.create_pool(connect=opened, min_size=1, max_size=connections, reset=_leave)
        return cls(where, await pool, clock)

    async def once(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """See `remote.Server.once`."""
        async with self._pool.acquire(timeout=QUEUE_SECONDS) as db:
            return await work(db)

    def lost(self, error: Exception) -> bool:
        """See `remote.Server.lost`."""
        return isinstance(error, _LOST) and not isinstance(error, TimeoutError) and not _value(error)

    def told(self, error: Exception) -> Exception:
        """See `remote.Server.told`."""
        return _told(self.where, error)

    async def aclose(self) -> None:
        """See `remote.Server.aclose`."""
        self.closed = True
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()

"""The server of the Redis journal: how it is named to people, how it is reached, and what its failures mean.

One Redis, or the one behind a name that moves with it: no Cluster, whose keys are on several servers, so that no
script can write a run and its session at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import re
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import hiredis
import msgspec

from kadre.base import errors
from kadre.base.clock import Clock
from kadre.base.problems import Problem
from kadre.engine.memory import redis_scripts, remote
from kadre.engine.memory.redis_link import Link, Lost, Refusal

PREFIX = "kadre:"
"""What the keys of a journal begin with, and the names of its channels."""
PORT = 6379
CONNECT_SECONDS = 5.0
IN_FLIGHT = 1024
"""Commands of one journal that the server has not answered yet, at most; the others wait for that."""
AT_ONCE = 500
"""Runs that are brought up to a version in one go: the server does nothing else meanwhile."""
QUEUE_SECONDS = 10.0
"""How long to wait to be one of them, or for a connection that many wait for."""
VERSION = 2
"""Of what is kept and how. A new type of event is a new version too: one that does not know it must not read it."""
T = TypeVar("T")


class Address(msgspec.Struct, frozen=True):
    """What a connection is opened with: it may hold a password and is told to nobody.

    `host`: a name, an address, or the path of a socket. `tls`: None where the connection is not encrypted.
    """

    host: str
    port: int = PORT
    database: int = 0
    user: str = ""
    password: str = ""
    tls: ssl.SSLContext | None = None

    def __repr__(self) -> str:
        return "Address(…)"

    @property
    def name(self) -> str:
        """How people call it."""
        elsewhere = f":{self.port}" if self.port != PORT and not self.host.startswith("/") else ""
        return f"redis journal {self.host}{elsewhere}/{self.database}"


class Place(msgspec.Struct, frozen=True):
    """Where a journal is: `address` is asked before every connection, so that a changed password counts.

    `name` is for people.
    """

    address: Callable[[], Address]
    prefix: str
    name: str

    def __repr__(self) -> str:
        return f"Place({self.name!r}, {self.prefix!r})"


def place(address: Callable[[], Address] | str, prefix: str = PREFIX) -> Place:
    """Where that address leads: `redis://…`, or what is asked for it. Raises ProblemError: it cannot be read."""
    asked = functools.partial(read, address) if isinstance(address, str) else address
    return Place(asked, prefix, asked().name)


def read(url: str) -> Address:
    """The address of `redis://USER:PASSWORD@HOST:PORT/DATABASE`; `rediss://` is encrypted, `unix:///path` a socket.

    Raises ProblemError: it cannot be read, and none of it is shown, any part of which may be the password's.
    """
    try:
        parts = urlsplit(url)
        port, user, password = parts.port or PORT, unquote(parts.username or ""), unquote(parts.password or "")
    except ValueError:
        raise _unreadable() from None  # its words hold what was read
    database = parts.path.removeprefix("/")
    if parts.scheme == "unix" and parts.path and not parts.netloc:
        return Address(parts.path)
    # A slash or a question mark in a password ends what urlsplit takes for the part before the host.
    cut = parts.fragment or parts.query or ("@" in url and "@" not in parts.netloc)
    if parts.scheme not in ("redis", "rediss") or cut or not parts.hostname or not re.fullmatch(r"\d{0,9}", database):
        raise _unreadable()
    tls = ssl.create_default_context() if parts.scheme == "rediss" else None
    return Address(parts.hostname, port, int(database or 0), user, password, tls)


def _unreadable() -> errors.ProblemError:
    fix = "write redis://USER:PASSWORD@HOST:PORT/DATABASE (rediss:// with TLS), special characters percent-encoded"
    return problem("BadStore", "the address of the Redis journal cannot be read", fix)


def problem(reason: str, message: str, fix: str) -> errors.ProblemError:
    """One thing to mend."""
    return errors.ProblemError([Problem(reason, message, fix=fix)])


FAILURES = (Refusal, hiredis.HiredisError, OSError)
"""What a link raises, and what the system does for it."""
_PASSING = {"LOADING", "READONLY", "MASTERDOWN", "TRYAGAIN"}
"""Words of a server that is not itself yet, or no longer: the next connection may lead to one that is."""
_MENDED_BY_WHO_STARTS = {
    "WRONGPASS": "the server refuses this user or its password",
    "NOAUTH": "the server asks for a password, and none is given",
    "NOPERM": "the user may not do what Kadre needs (every command on keys and channels that begin with `kadre:`)",
    "UNKNOWN": "the server is older than Redis 6.2",
}
_CAUSES = {
    "OOM": "the server's memory is full; raise its maxmemory, or have conversations forgotten sooner (sessionTTL)",
    "LOST": "the server has thrown away a large value before the event that names it came, which is not written; set"
    " maxmemory-policy noeviction there, and send the message again",
    "MISCONF": "the server cannot save to its disk; make room, or see its log",
    "READONLY": "the server may only be read from (a replica?); name the primary",
    "MASTERDOWN": "the server is a replica that has lost its primary; name the primary",
    "LOADING": "the server is starting: it reads its file",
    "BUSY": "the server is busy with somebody's script",
    "NOREPLICAS": "the server has fewer replicas than it wants for a write (min-replicas-to-write)",
    "MOVED": "the server is one of a Redis Cluster, which is not supported; name a server of its own",
    "CROSSSLOT": "the server is one of a Redis Cluster, which is not supported; name a server of its own",
    **_MENDED_BY_WHO_STARTS,
}


def _cause(error: BaseException) -> str:
    """What a failure means, and what to do about it. Of foreign text only the server's own first sentence."""
    if isinstance(error, Refusal):
        return _CAUSES.get(error.code) or errors.shorten(f"the server failed: {error}", 200)
    if isinstance(error, ssl.SSLError):
        why = getattr(error, "verify_message", "") or error.reason or "no TLS"
        return errors.shorten(f"the connection cannot be encrypted ({why}); check tls and whom it trusts")
    if isinstance(error, Lost):
        return "the connection was lost"
    if isinstance(error, TimeoutError):
        return "the server does not answer"
    if isinstance(error, OSError):
        return "the server cannot be reached; check that it runs, its address and the network between"
    return "whoever answers there is no Redis server"


def unavailable(where: Place, error: BaseException) -> remote.JournalUnavailable:
    """What a failure means for whoever asked."""
    return remote.JournalUnavailable(f"{where.name}: {_cause(error)}", retry_after=remote.RETRY_AFTER)


def unusable(where: Place, error: BaseException) -> errors.KadreError:
    """What a failure means for whoever opens the journal: something to mend, or to wait for."""
    if (isinstance(error, Refusal) and error.code in _MENDED_BY_WHO_STARTS) or isinstance(error, ssl.SSLError):
        fix = "check the address, its user and what that user may do"
        return problem("JournalUnusable", f"{where.name}: {_cause(error)}", fix)
    return unavailable(where, error)


async def connect(where: Place) -> Link:
    """A connection to where the journal is now. Raises FAILURES, ProblemError for an address that is none of a server
    that may keep a journal, Unavailable where there is none now.
    """
    address = where.address()
    loop = asyncio.get_running_loop()
    names = (where.prefix, f"{where.prefix}{address.database}:")
    async with asyncio.timeout(CONNECT_SECONDS):
        made: tuple[Any, Link]
        if address.host.startswith("/"):
            made = await loop.create_unix_connection(lambda: Link(names), address.host)
        else:
            made = await loop.create_connection(lambda: Link(names), address.host, address.port, ssl=address.tls)
            _keep_alive(made[0].get_extra_info("socket"))
        link = made[1]
        try:
            await _greet(link, where, address)
        except BaseException:
            link.cut()
            raise
    return link


def _keep_alive(over: socket.socket) -> None:
    """Have the system find out within half a minute that the other side is gone."""
    over.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            over.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


async def _greet(link: Link, where: Place, address: Address) -> None:
    login = ("AUTH", address.user or "default", address.password) if address.user or address.password else ()
    try:
        said = await link.ask("HELLO", 3, *login)
    except Refusal as refusal:
        if "unknown command" in str(refusal):
            raise Refusal("UNKNOWN command") from refusal
        raise
    mode = said.get(b"mode", b"").decode()
    if mode not in ("standalone", ""):
        message = f"{where.name}: the server is one of a Redis {mode.capitalize()}, which is not supported"
        raise problem("JournalUnusable", message, "name a Redis server of its own, that is: its primary")
    if address.database:
        await link.ask("SELECT", address.database)
    with contextlib.suppress(Refusal):
        await link.ask("CLIENT", "SETNAME", "kadre")


async def prepare(link: Link, where: Place) -> bool:
    """Bring the journal up to this version; whether it was of an earlier one. Raises ProblemError: newer; FAILURES."""
    version = int(await link.run(redis_scripts.VERSION, VERSION))
    if version > VERSION:
        message = f"{where.name} was written by a newer Kadre (version {version}, this one knows {VERSION})"
        raise problem("JournalTooNew", message, "upgrade Kadre, or use another database")
    if version < VERSION:
        await bring_up(link, "-")
    return version < VERSION


async def bring_up(link: Link, start: str | bytes) -> None:
    """Bring the runs from that age on up to this version. Raises FAILURES."""
    while start:
        start = await link.run(redis_scripts.TO_2, start, AT_ONCE)


class Server(remote.Server[Link]):
    """The link over which all is asked but what is listened to. Made by `open`."""

    def __init__(self, where: Place, link: Link, clock: Clock) -> None:
        super().__init__(clock)
        self.where = where
        self._link = link
        self._connecting = asyncio.Lock()
        self._room = asyncio.Semaphore(IN_FLIGHT)

    @classmethod
    async def open(cls, where: Place, clock: Clock) -> Server:
        """The server of that place. Raises what `connect` raises."""
        return cls(where, await connect(where), clock)

    async def once(self, work: Callable[[Link], Awaitable[T]]) -> T:
        """See `remote.Server.once`."""
        if self._room.locked():
            async with asyncio.timeout(QUEUE_SECONDS):
                await self._room.acquire()
        else:
            await self._room.acquire()
        try:
            link = self._link if not self._link.gone.is_set() else await self._again()
            try:
                return await work(link)
            except Refusal as refusal:
                if refusal.code == "READONLY":  # another one is the primary now, and the address may lead there
                    link.cut()
                raise
        finally:
            self._room.release()

    async def _again(self) -> Link:
        async with asyncio.timeout(QUEUE_SECONDS), self._connecting:
            if self._link.gone.is_set():
                if self.closed:
                    raise remote.closed()
                self._link = await connect(self.where)
            return self._link

    def lost(self, error: Exception) -> bool:
        """See `remote.Server.lost`."""
        if isinstance(error, Refusal):
            return error.code in _PASSING
        return isinstance(error, OSError | hiredis.HiredisError) and not isinstance(error, TimeoutError | ssl.SSLError)

    def told(self, error: Exception) -> Exception:
        """See `remote.Server.told`."""
        if isinstance(error, UnicodeEncodeError):
            return errors.BadRequest("a value in the request cannot be kept: it is no text")
        return unavailable(self.where, error) if isinstance(error, FAILURES) else error

    async def aclose(self) -> None:
        """See `remote.Server.aclose`."""
        self.closed = True
        self._link.cut()

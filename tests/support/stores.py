"""The servers that keep a journal which processes share, each told in its own words: what tests ask of all of them."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from kadre.base.clock import Clock
from kadre.engine.memory.remote_journal import RemoteJournal
from kadre.engine.memory.remote_watch import LEASE_SECONDS
from tests.support.cut import Cut
from tests.support.postgres import Cluster
from tests.support.redis import RedisServer


def new_space() -> str:
    """A name no test has had, of a schema or of keys."""
    return f"t_{uuid.uuid4().hex}"


class Server(Protocol):
    """A server of the tests' own."""

    @property
    def socket(self) -> Path:
        """Where it listens."""

    def start(self) -> None:
        """Start it, and wait until it takes connections."""

    def stop(self) -> None:
        """Stop it as its owner would who is in a hurry."""

    def kill(self) -> None:
        """Kill it, and wait until it is gone."""

    def freeze(self) -> None:
        """Stop it where it is."""

    def thaw(self) -> None:
        """Let it go on."""

    def remember(self) -> None:
        """Copy its files as they are at this moment, for `go_back`."""

    def go_back(self) -> None:
        """Kill it and start it as it was then."""


class Store:
    """A server, and how a journal on it is opened. `type`: of a memory."""

    def __init__(self, kind: str, server: Server) -> None:
        self.type = kind
        self.server = server

    def url(self, socket: Path | None = None) -> str:
        """The address of that socket, or of the server's own."""
        at = socket or self.server.socket
        return f"unix://{at}" if self.type == "redis" else f"postgresql://postgres@/postgres?host={at.parent}"

    def cut(self) -> Cut:
        """A way to it that can be cut."""
        return Cut(self.server.socket)

    async def open(
        self, space: str, *, lease: float = LEASE_SECONDS, clock: Clock | None = None, cut: Cut | None = None
    ) -> RemoteJournal:
        """The journal of that name; over a way that may be cut, by one connection: another one that is open would find
        out at once what became of it.
        """
        address = self.url(None if cut is None else cut.socket)
        if self.type == "redis":
            from kadre.engine.memory.redis import RedisJournal

            return await RedisJournal.open(address, prefix=f"{space}:", lease=lease, clock=clock)
        from kadre.engine.memory.postgres import PostgresJournal

        connections = 4 if cut is None else 1
        return await PostgresJournal.open(address, schema=space, lease=lease, clock=clock, connections=connections)


@contextlib.contextmanager
def started(kind: str) -> Iterator[Store]:
    """A store of that kind, of our own."""
    servers: dict[str, Callable[[], Cluster | RedisServer]] = {"postgres": Cluster, "redis": RedisServer}
    with servers[kind]() as server:
        yield Store(kind, server)

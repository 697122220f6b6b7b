"""The journal in a PostgreSQL database, which several processes may share: one that has functions of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from kadre.base.clock import Clock, SystemClock
from kadre.engine.memory import postgres_reads, postgres_schema, postgres_server, postgres_watch, postgres_writes
from kadre.engine.memory.remote_journal import Reads, RemoteJournal, Writes
from kadre.engine.memory.remote_watch import LEASE_SECONDS
from kadre.engine.memory.turns import Turns


class PostgresJournal(RemoteJournal):
    """See `port.SharedJournal`. Made by `open`."""

    reads: Reads = postgres_reads
    writes: Writes = postgres_writes

    @classmethod
    async def open(
        cls,
        address: Callable[[], postgres_server.Address] | str,
        *,
        schema: str = postgres_server.SCHEMA,
        connections: int = postgres_server.CONNECTIONS,
        lease: float = LEASE_SECONDS,
        clock: Clock | None = None,
    ) -> PostgresJournal:
        """The journal in that schema of `postgresql://user:password@host:port/database`, made where it is missing.

        `address`: asked again before every connection. `connections`: at most so many, beside one that listens.
        `lease`: seconds of silence after which others take this process for dead. Raises ProblemError: the address
        cannot be read, the server refuses us, or a newer version wrote it; Unavailable: the server is not reached now.
        """
        clock = clock or SystemClock()
        where = postgres_server.place(address, schema)
        turns = Turns()
        watch = postgres_watch.Watch(where, turns, clock, lease)
        async with contextlib.AsyncExitStack() as owned:
            try:
                server = await postgres_server.Server.open(where, clock, connections)
                owned.push_async_callback(server.aclose)
                await server.once(lambda db: postgres_schema.prepare(db, where))
                await watch.open()
            except postgres_server.FAILURES as error:
                raise postgres_server.unusable(where, error) from error
            owned.pop_all()
        journal = cls(server, watch, turns, clock)
        journal.start()
        return journal

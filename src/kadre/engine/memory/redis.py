"""The journal in a Redis server, which several processes may share. It is as durable as the server's file is."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable

from kadre.base.clock import Clock, SystemClock
from kadre.engine.memory import redis_keeping, redis_reads, redis_server, redis_watch, redis_writes
from kadre.engine.memory.remote_journal import Reads, RemoteJournal, Writes
from kadre.engine.memory.remote_watch import LEASE_SECONDS
from kadre.engine.memory.turns import Turns

log = logging.getLogger(__name__)


class RedisJournal(RemoteJournal):
    """See `port.SharedJournal`. Made by `open`."""

    reads: Reads = redis_reads
    writes: Writes = redis_writes

    @classmethod
    async def open(
        cls,
        address: Callable[[], redis_server.Address] | str,
        *,
        prefix: str = redis_server.PREFIX,
        lease: float = LEASE_SECONDS,
        clock: Clock | None = None,
    ) -> RedisJournal:
        """The journal under that prefix of `redis://user:password@host:port/database`; `rediss://` with TLS.

        `address`: asked again before every connection, of which there are two. `lease`: seconds of silence after which
        others take this process for dead. What the server may lose of it is logged. Raises ProblemError: the address
        cannot be read, the server refuses us, or a newer version wrote it; Unavailable: the server is not reached now.
        """
        clock = clock or SystemClock()
        where = redis_server.place(address, prefix)
        turns = Turns()
        watch = redis_watch.Watch(where, turns, clock, lease)
        async with contextlib.AsyncExitStack() as owned:
            try:
                server = await redis_server.Server.open(where, clock)
                owned.push_async_callback(server.aclose)
                keeping = await server.once(redis_keeping.look)
                await watch.open()
            except redis_server.FAILURES as error:
                raise redis_server.unusable(where, error) from error
            owned.pop_all()
        journal = cls(server, watch, turns, clock)
        journal.durable = keeping.durable
        for problem in keeping.problems(where.name):
            log.warning("%s", problem)
        journal.start()
        return journal

"""How a process listens to a Redis server and holds its lease there."""

from __future__ import annotations

import asyncio
import contextlib
import math
import secrets
from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Any

from kadre.base.clock import Clock
from kadre.engine.memory import redis_reads, redis_scripts, remote_watch
from kadre.engine.memory.port import RunInfo
from kadre.engine.memory.redis_link import Link
from kadre.engine.memory.redis_server import CONNECT_SECONDS, FAILURES, Place, bring_up, connect, prepare
from kadre.engine.memory.remote_watch import LEASE_SECONDS, MOST, TOO_LONG
from kadre.engine.memory.turns import Turns

MIXED_SECONDS = 3600.0
"""For which an older Kadre may go on with a journal that was brought up to this version: pods are replaced one by one,
and one that has its connection is not told. What it writes is brought up too, as leases are renewed."""
MIXED_RUNS = timedelta(minutes=5)
"""How old such runs may be: far more than clocks differ."""


class Watch(remote_watch.Watch[Link]):
    """See `remote_watch.Watch`. Owners' names are made by chance: a server that forgets would count from 1 again."""

    failures = FAILURES

    def __init__(self, where: Place, turns: Turns, clock: Clock, lease: float = LEASE_SECONDS) -> None:
        super().__init__(where.name, turns, clock, lease)
        self.owner = secrets.token_hex(8)
        self._where = where
        self._mixed_until = -math.inf

    async def _connect(self) -> Link:
        return await connect(self._where)

    async def _enter(self, db: Link) -> None:
        await db.run(redis_scripts.ENTER)

    async def _listen(self, db: Link) -> None:
        if await prepare(db, self._where):  # the server may also have come back without what it had
            self._mixed_until = self._clock.monotonic() + MIXED_SECONDS
        db.when_gone(self._lost.set)
        await db.listen(self._told, "turns", "claims")

    async def _look(self, db: Link) -> None:
        await super()._look(db)
        if self._clock.monotonic() < self._mixed_until:
            with contextlib.suppress(*FAILURES):
                await bring_up(db, "[" + redis_reads.stamp(self._clock.now() - MIXED_RUNS))

    def _told(self, channel: bytes, run_id: bytes) -> None:
        if channel.endswith(b"claims"):
            self.news.set()
        else:
            self._turns.wake(run_id.decode())

    async def _prolong(self, db: Link) -> Any:
        async with asyncio.timeout(CONNECT_SECONDS):
            return await db.run(redis_scripts.RENEW, self.owner, int(self._lease * 1000))

    def _seconds(self, until: Any) -> float:
        return int(until) / 1000

    def _cut(self, db: Link) -> None:
        db.cut()

    async def _leave(self, db: Link) -> None:
        async with asyncio.timeout(CONNECT_SECONDS):
            await db.run(redis_scripts.LEAVE, self.owner)
        db.cut()

    async def held(self, db: Link) -> Sequence[RunInfo]:
        """See `remote_watch.Watch.held`."""
        return redis_reads.in_order(await db.run(redis_scripts.HELD, self.owner))

    async def abandoned(self, db: Link, agents: Collection[str]) -> Sequence[RunInfo]:
        """See `remote_watch.Watch.abandoned`."""
        till = self._until if self.steady else ""
        lease = int(self._lease * 1000)
        far = TOO_LONG * max(lease, redis_scripts.NEW_LEASE)
        rows = await db.run(redis_scripts.ABANDONED, self.owner, till, lease, far, MOST, *agents)
        return redis_reads.in_order(rows)

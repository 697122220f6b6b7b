"""The connection that listens and renews this process's lease: what it hears of others, and how they know it lives.

Each open journal has a number, its owner's, and a lease under that number; the server's clock says when it runs out.
Runs name the owner that drives them. A connection that breaks and is made again within the lease costs nothing.
"""

# ruff: noqa: S608 - only constants of these modules are put together; every value is bound

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Collection, Sequence
from datetime import datetime

from kadre.base.clock import Clock
from kadre.base.retry import Backoff
from kadre.base.tasks import first_of
from kadre.engine.memory import postgres_reads
from kadre.engine.memory.port import RunInfo
from kadre.engine.memory.postgres_schema import OPEN
from kadre.engine.memory.postgres_server import CONNECT_SECONDS, FAILURES, Connection, Place, connect
from kadre.engine.memory.turns import Turns

log = logging.getLogger(__name__)

LEASE_SECONDS = 15.0
"""How long a process may be silent before its runs are others': a restart of the server, not of a node."""
RENEWALS = 3
"""In the time of a lease; after each, whoever waits looks again, should a word have been lost."""
MOST = 100
"""Abandoned runs that are looked at in one go."""
_RENEW = """
    INSERT INTO leases VALUES ($1, $2, now() + make_interval(secs => $3))
    ON CONFLICT (owner) DO UPDATE SET until = excluded.until RETURNING until"""
_FORGET = f"""
    DELETE FROM leases l WHERE l.until < now() - interval '1 hour'
        AND NOT EXISTS (SELECT FROM runs r WHERE r.owner = l.owner AND r.status IN {OPEN})"""
_HELD = f"{postgres_reads.RUNS} WHERE r.owner = $1 AND r.status IN {OPEN} ORDER BY r.no"
# Of a lease that ran out, only who has just renewed its own by the server's clock too, and not since it asked: a server
# that stood still until now has let the others' run out while it did.
_ABANDONED = f"""
    {postgres_reads.RUNS} LEFT JOIN leases l ON l.owner = r.owner
    WHERE r.status IN {OPEN} AND r.owner <> $1 AND s.agent = ANY ($2::text[])
        AND (l.owner IS NULL OR (l.until < now() AND EXISTS (
            SELECT FROM leases WHERE owner = $1 AND until = $3 AND until > now() + make_interval(secs => $4))))
    ORDER BY r.no LIMIT {MOST}"""


class Watch:
    """Made by `open`; `follow` keeps it alive. `lease`: seconds."""

    def __init__(self, where: Place, turns: Turns, clock: Clock, lease: float = LEASE_SECONDS) -> None:
        self.owner = 0
        self.news = asyncio.Event()
        """Set when another process claimed or left a run, and whenever the lease was renewed."""
        self._where = where
        self._turns = turns
        self._clock = clock
        self._lease = lease
        # For as long as the journal is open, and often enough to be back before others take this process for dead.
        self._again = Backoff(attempts=1_000_000, first=0.1, limit=lease / RENEWALS)
        self._db: Connection = None
        self._lost = asyncio.Event()
        self._renewed = self._since = clock.monotonic()
        self._until: datetime | None = None
        """When the lease runs out, by the server's clock."""

    async def open(self) -> None:
        """Get a number and a lease, and listen. Raises what asyncpg raises."""
        db = await connect(self._where)
        try:
            self.owner = await db.fetchval("SELECT nextval('owners')::integer")
            await db.execute(_FORGET)
            await self._begin(db)
        except BaseException:
            db.terminate()
            raise

    async def _begin(self, db: Connection) -> None:
        self._lost.clear()
        db.add_termination_listener(lambda _: self._lost.set())
        await db.add_listener(f"{self._where.schema}_turns", self._told)
        await db.add_listener(f"{self._where.schema}_claims", lambda *_: self.news.set())
        await self._renew(db)
        self._since = self._renewed  # the server was away, perhaps, and others are still on their way back to it
        self._db = db

    async def _renew(self, db: Connection) -> None:
        values = (self.owner, socket.gethostname(), self._lease)
        self._until = await db.fetchval(_RENEW, *values, timeout=CONNECT_SECONDS)
        now = self._clock.monotonic()
        if now - self._renewed > self._lease / 2:
            self._since = now
        self._renewed = now

    @property
    def steady(self) -> bool:
        """Whether it has held its lease, over this connection, for as long as a lease lasts.

        If not, the server may have been away: others whose lease ran out meanwhile get time to renew it first.
        """
        return not self._lost.is_set() and self._clock.monotonic() - self._since >= self._lease

    async def abandoned(self, db: Connection, agents: Collection[str]) -> Sequence[RunInfo]:
        """Open runs of these agents, of owners that gave up their lease or, where this one is steady, let it end."""
        held = self._until if self.steady else None
        rows = await db.fetch(_ABANDONED, self.owner, list(agents), held, self._lease / 2)
        return [postgres_reads.run_of(row) for row in rows]

    def _told(self, _: Connection, __: int, ___: str, run_id: object) -> None:
        self._turns.wake(str(run_id))

    async def follow(self) -> None:
        """Renew the lease, and get another connection where this one is gone. Until it is cancelled."""
        while True:
            await first_of(self._lost.wait(), self._clock.sleep(self._lease / RENEWALS))
            if not self._lost.is_set():
                await self._look()
            if self._lost.is_set():
                await self._come_back()
            self._turns.wake_all()
            self.news.set()

    async def _look(self) -> None:
        try:
            await self._renew(self._db)
        except FAILURES:
            self._db.terminate()
            self._lost.set()

    async def _come_back(self) -> None:
        attempt = 0
        while True:
            attempt += 1
            try:
                db = await connect(self._where)
                try:
                    await self._begin(db)
                except BaseException:
                    db.terminate()
                    raise
            except Exception as error:  # noqa: BLE001 - whatever it is, others must hear that this one lives
                if attempt == 1:
                    log.warning("%s is not reached: %s", self._where.name, type(error).__name__)
                await self._clock.sleep(self._again.delay(min(attempt, 10)) or 0)
            else:
                return

    async def aclose(self) -> None:
        """Give up the lease and hang up: what this owner left is others' at once."""
        if self._db is not None:
            with contextlib.suppress(*FAILURES):
                await self._db.execute("DELETE FROM leases WHERE owner = $1", self.owner, timeout=CONNECT_SECONDS)
                await self._db.execute(f"NOTIFY {self._where.schema}_claims", timeout=CONNECT_SECONDS)
                await self._db.close(timeout=CONNECT_SECONDS)


async def held(db: Connection, owner: int) -> Sequence[RunInfo]:
    """The open runs of that owner."""
    return [postgres_reads.run_of(row) for row in await db.fetch(_HELD, owner)]

"""How a process listens to a PostgreSQL server and holds its lease there."""

# ruff: noqa: S608 - only constants of these modules are put together; every value is bound

from __future__ import annotations

import socket
from collections.abc import Collection, Sequence
from typing import Any

from kadre.base.clock import Clock
from kadre.engine.memory import postgres_reads, remote_watch
from kadre.engine.memory.port import RunInfo
from kadre.engine.memory.postgres_schema import OPEN
from kadre.engine.memory.postgres_server import CONNECT_SECONDS, FAILURES, Connection, Place, connect
from kadre.engine.memory.remote_watch import LEASE_SECONDS, MOST, TOO_LONG
from kadre.engine.memory.turns import Turns

_RENEW = """
    INSERT INTO leases VALUES ($1, $2, now() + make_interval(secs => $3))
    ON CONFLICT (owner) DO UPDATE SET until = excluded.until RETURNING until"""
_FORGET = f"""
    DELETE FROM leases l WHERE l.until < now() - interval '1 hour'
        AND NOT EXISTS (SELECT FROM runs r WHERE r.owner = l.owner AND r.status IN {OPEN})"""
_HELD = f"{postgres_reads.RUNS} WHERE r.owner = $1 AND r.status IN {OPEN} ORDER BY r.no"
# Of a lease that ran out, only who has just renewed its own by the server's clock too, and not since it asked: a server
# that stood still until now has let the others' run out while it did, and one whose clock was set has moved them all.
_ABANDONED = f"""
    {postgres_reads.RUNS} LEFT JOIN leases l ON l.owner = r.owner
    WHERE r.status IN {OPEN} AND r.owner <> $1 AND s.agent = ANY ($2::text[])
        AND (l.until = '-infinity' OR (
            (l.owner IS NULL OR l.until < now() OR l.until > now() + make_interval(secs => $5))
            AND EXISTS (
                SELECT FROM leases WHERE owner = $1 AND until = $3
                AND until > now() + make_interval(secs => $4) / 2 AND until <= now() + make_interval(secs => $4))))
    ORDER BY r.no LIMIT {MOST}"""
_GIVE_UP = "UPDATE leases SET until = '-infinity' WHERE owner = $1"


class Watch(remote_watch.Watch[Connection]):
    """See `remote_watch.Watch`. Owners are numbers; those it hears of are the schema's."""

    failures = FAILURES

    def __init__(self, where: Place, turns: Turns, clock: Clock, lease: float = LEASE_SECONDS) -> None:
        super().__init__(where.name, turns, clock, lease)
        self.owner = 0
        self._where = where

    async def _connect(self) -> Connection:
        return await connect(self._where)

    async def _enter(self, db: Connection) -> None:
        self.owner = await db.fetchval("SELECT nextval('owners')::integer")
        await db.execute(_FORGET)

    async def _listen(self, db: Connection) -> None:
        db.add_termination_listener(lambda _: self._lost.set())
        await db.add_listener(f"{self._where.schema}_turns", self._told)
        await db.add_listener(f"{self._where.schema}_claims", lambda *_: self.news.set())

    def _told(self, _: Connection, __: int, ___: str, run_id: object) -> None:
        self._turns.wake(str(run_id))

    async def _prolong(self, db: Connection) -> Any:
        values = (self.owner, socket.gethostname(), self._lease)
        return await db.fetchval(_RENEW, *values, timeout=CONNECT_SECONDS)

    def _seconds(self, until: Any) -> float:
        seconds: float = until.timestamp()
        return seconds

    def _cut(self, db: Connection) -> None:
        db.terminate()

    async def _leave(self, db: Connection) -> None:
        await db.execute(_GIVE_UP, self.owner, timeout=CONNECT_SECONDS)
        await db.execute(f"NOTIFY {self._where.schema}_claims", timeout=CONNECT_SECONDS)
        await db.close(timeout=CONNECT_SECONDS)

    async def held(self, db: Connection) -> Sequence[RunInfo]:
        """See `remote_watch.Watch.held`."""
        return [postgres_reads.run_of(row) for row in await db.fetch(_HELD, self.owner)]

    async def abandoned(self, db: Connection, agents: Collection[str]) -> Sequence[RunInfo]:
        """See `remote_watch.Watch.abandoned`."""
        held = self._until if self.steady else None
        far = TOO_LONG * self._lease
        rows = await db.fetch(_ABANDONED, self.owner, list(agents), held, self._lease, far)
        return [postgres_reads.run_of(row) for row in rows]

"""The connection that listens: it hears of turns that came in another process, and by it others know this one lives.

Each open journal has a number, its owner's, and holds a lock of that number here for as long as it lives; the server
lets the lock go with the connection, however that ends. Runs name the owner that drives them.
"""

# ruff: noqa: S608 - only constants of these modules are put together; every value is bound

from __future__ import annotations

import asyncio
import contextlib
import logging
import zlib

from kadre.base.clock import Clock
from kadre.base.retry import Backoff
from kadre.base.tasks import first_of
from kadre.engine.memory.postgres_schema import OPEN
from kadre.engine.memory.postgres_server import CONNECT_SECONDS, FAILURES, Connection, Place, connect
from kadre.engine.memory.turns import Turns

log = logging.getLogger(__name__)

LOOK_SECONDS = 10.0
"""How often it is asked whether the server is there; then whoever waits looks again, should a word have been lost."""
_AGAIN = Backoff(attempts=1_000_000, first=0.1, limit=5.0)
"""It goes on trying for as long as the journal is open."""


class Watch:
    """Made by `open`; `follow` keeps it alive."""

    def __init__(self, where: Place, turns: Turns, clock: Clock) -> None:
        self.owner = 0
        self._where = where
        self._turns = turns
        self._clock = clock
        self._db: Connection = None
        self._lost = asyncio.Event()

    async def open(self) -> None:
        """Get a number, and listen. Raises what asyncpg raises."""
        db = await connect(self._where)
        try:
            self.owner = await db.fetchval("SELECT nextval('owners')::integer")
            await self._begin(db)
        except BaseException:
            db.terminate()
            raise

    async def _begin(self, db: Connection) -> None:
        self._lost.clear()
        db.add_termination_listener(lambda _: self._lost.set())
        await db.add_listener(f"{self._where.schema}_turns", self._told)
        # Shared, so that what is left of a connection that broke cannot keep us from it; who asks wants it alone.
        await db.execute("SELECT pg_advisory_lock_shared($1, $2)", _kind(self._where), self.owner)
        self._db = db

    def _told(self, _: Connection, __: int, ___: str, run_id: object) -> None:
        self._turns.wake(str(run_id))

    async def follow(self) -> None:
        """Look now and then whether the connection is there, and get another where it is not. Until it is cancelled."""
        while True:
            await first_of(self._lost.wait(), self._clock.sleep(LOOK_SECONDS))
            if not self._lost.is_set():
                await self._look()
            if self._lost.is_set():
                await self._come_back()
            self._turns.wake_all()

    async def _look(self) -> None:
        try:
            await self._db.execute("SELECT 1", timeout=CONNECT_SECONDS)
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
                await self._clock.sleep(_AGAIN.delay(min(attempt, 10)) or 0)
            else:
                return

    async def aclose(self) -> None:
        """Hang up: from then on this owner is known to be gone."""
        if self._db is not None:
            with contextlib.suppress(*FAILURES):
                await self._db.close(timeout=CONNECT_SECONDS)


async def cut_off(db: Connection, where: Place, me: int) -> list[str]:
    """Runs that are under way and that nobody drives any more: their owner is gone, or is this one, which begins."""
    owners = [row[0] for row in await db.fetch(f"SELECT DISTINCT owner FROM runs WHERE status IN {OPEN}")]
    sql = "SELECT owner FROM unnest($2::integer[]) owner WHERE pg_try_advisory_xact_lock($1, owner)"
    gone = [row[0] for row in await db.fetch(sql, _kind(where), owners)]
    sql = "SELECT run_id FROM runs WHERE status IN ('queued', 'running') AND owner = ANY ($1::integer[]) ORDER BY no"
    return [row[0] for row in await db.fetch(sql, [*gone, me])]


def _kind(where: Place) -> int:
    """The number that tells the locks of this schema from others', as an integer of 32 bits with a sign."""
    number = zlib.crc32(where.schema.encode())
    return number - (1 << 32) if number >= 1 << 31 else number

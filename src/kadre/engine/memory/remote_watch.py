"""The connection that listens and renews this process's lease: what it hears of others, and how they know it lives.

Each open journal has a name, its owner's, and a lease under that name; the server's clock says when it runs out. Runs
name the owner that drives them. A connection that breaks and is made again within the lease costs nothing.

No machine's time of day is compared with another's. The server's may be set, and every lease has then run out at once,
or lasts for as long as it was set back: who renews sees how far that clock went while its own monotonic one did.
"""

from __future__ import annotations

import abc
import asyncio
import contextlib
import logging
import math
from collections.abc import Collection, Sequence
from typing import Any, Generic, TypeVar

from kadre.base.clock import Clock
from kadre.base.retry import Backoff
from kadre.base.tasks import first_of
from kadre.engine.memory.port import RunInfo
from kadre.engine.memory.turns import Turns

log = logging.getLogger(__name__)

LEASE_SECONDS = 15.0
"""How long a process may be silent before its runs are others': a restart of the server, not of a node."""
RENEWALS = 3
"""In the time of a lease; after each, whoever waits looks again, should a word have been lost."""
MOVED = 1 / 6
"""Of a lease: by how much clocks may drift apart before one counts as set. A lease has four times as much left when it
is renewed."""
TOO_LONG = 2
"""Leases after which none runs out that was renewed since the clock was set: its owner is gone, if others have been
steady since."""
MOST = 100
"""Abandoned runs that are looked at in one go."""
_ANYTHING = (-math.inf, math.inf)
C = TypeVar("C")


class Watch(abc.ABC, Generic[C]):
    """Made by `open`; `follow` keeps it alive. `name`: of the journal, for people; `lease`: seconds."""

    owner: Any
    """Under which name the lease is, and the runs of this process are."""
    failures: tuple[type[Exception], ...]
    """What the server's library raises."""

    def __init__(self, name: str, turns: Turns, clock: Clock, lease: float) -> None:
        self.news = asyncio.Event()
        """Set when another process claimed or left a run, and whenever the lease was renewed."""
        self._name = name
        self._turns = turns
        self._clock = clock
        self._lease = lease
        # For as long as the journal is open, and often enough to be back before others take this process for dead.
        self._again = Backoff(attempts=1_000_000, first=0.1, limit=lease / RENEWALS)
        self._db: C | None = None
        self._lost = asyncio.Event()
        self._renewed = self._since = clock.monotonic()
        self._until: Any = None
        """When the lease runs out, by the server's clock."""
        self._ahead = _ANYTHING

    @abc.abstractmethod
    async def _connect(self) -> C:
        """A connection of its own."""

    @abc.abstractmethod
    async def _enter(self, db: C) -> None:
        """Once: get a name as an owner, and forget owners that are long gone."""

    @abc.abstractmethod
    async def _listen(self, db: C) -> None:
        """Have `_lost` set when it is gone, turns that come elsewhere told to `_turns`, and claims to `news`."""

    @abc.abstractmethod
    async def _prolong(self, db: C) -> Any:
        """Renew the lease; when it runs out then."""

    @abc.abstractmethod
    def _seconds(self, until: Any) -> float:
        """Seconds of the server's clock at which a lease runs out, since any moment that it does not move."""

    @abc.abstractmethod
    def _cut(self, db: C) -> None:
        """Hang up at once."""

    @abc.abstractmethod
    async def _leave(self, db: C) -> None:
        """Give up the lease, tell the others, and hang up."""

    @abc.abstractmethod
    async def held(self, db: Any) -> Sequence[RunInfo]:
        """The open runs of this owner, asked for over another connection."""

    @abc.abstractmethod
    async def abandoned(self, db: Any, agents: Collection[str]) -> Sequence[RunInfo]:
        """Open runs of these agents, of owners that gave up their lease or, where this one is steady, let it end."""

    async def open(self) -> None:
        """Get a name and a lease, and listen. Raises what the server's library raises."""
        db = await self._connect()
        try:
            await self._enter(db)
            await self._begin(db)
        except BaseException:
            self._cut(db)
            raise

    async def _begin(self, db: C) -> None:
        self._lost.clear()
        await self._listen(db)
        self._ahead = _ANYTHING  # it may be another machine that answers
        await self._renew(db)
        self._since = self._renewed  # the server was away, perhaps, and others are still on their way back to it
        self._db = db

    async def _renew(self, db: C) -> None:
        asked = self._clock.monotonic()
        self._until = await self._prolong(db)
        now = self._clock.monotonic()
        until = self._seconds(self._until)
        if self._was_set(until - now, until - asked) or now - self._renewed > self._lease / 2:
            self._since = now
        self._renewed = now

    def _was_set(self, least: float, most: float) -> bool:
        """Whether the server's clock was set, or ours stood still, since leases were counted on.

        `least`, `most`: how far the one is ahead of the other, as narrowly as is known; it was read while it was asked.
        """
        before_least, before_most = self._ahead
        if least - before_most > self._lease * MOVED or before_least - most > self._lease * MOVED:
            self._ahead = (least, most)
            return True
        self._ahead = (max(least, before_least), min(most, before_most))
        return False

    @property
    def steady(self) -> bool:
        """Whether it has held its lease, over this connection, for as long as a lease lasts.

        If not, the server may have been away, or its clock was set: others whose lease ran out meanwhile get time to
        renew it first.
        """
        return not self._lost.is_set() and self._clock.monotonic() - self._since >= self._lease

    async def follow(self) -> None:
        """Renew the lease, and get another connection where this one is gone. Until it is cancelled."""
        while True:
            await first_of(self._lost.wait(), self._clock.sleep(self._lease / RENEWALS))
            if not self._lost.is_set() and self._db is not None:
                await self._look(self._db)
            if self._lost.is_set():
                await self._come_back()
            self._turns.wake_all()
            self.news.set()

    async def _look(self, db: C) -> None:
        try:
            await self._renew(db)
        except self.failures:
            self._cut(db)
            self._lost.set()

    async def _come_back(self) -> None:
        attempt = 0
        while True:
            attempt += 1
            try:
                db = await self._connect()
                try:
                    await self._begin(db)
                except BaseException:
                    self._cut(db)
                    raise
            except Exception as error:  # noqa: BLE001 - whatever it is, others must hear that this one lives
                if attempt == 1:
                    log.warning("%s is not reached: %s", self._name, type(error).__name__)
                await self._clock.sleep(self._again.delay(min(attempt, 10)) or 0)
            else:
                return

    def hang_up(self) -> None:
        """Cut the connection without a word, as the system does for a process that is killed."""
        if self._db is not None:
            self._cut(self._db)
            self._db = None

    async def aclose(self) -> None:
        """Give up the lease and hang up: what this owner left is others' at once."""
        if self._db is not None:
            with contextlib.suppress(*self.failures):
                await self._leave(self._db)

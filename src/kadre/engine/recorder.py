"""Writes one run's events: numbers them, makes them durable, and only then visible."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any, TypeVar

from kadre.base.clock import Clock
from kadre.base.errors import KadreError
from kadre.engine import events as ev
from kadre.engine.live import Live
from kadre.engine.memory import spill
from kadre.engine.memory.port import Journal

E = TypeVar("E", bound=ev.EventBase)


class Recorder:
    """The only writer of its run; where another has taken over, `commit` raises Fenced."""

    def __init__(self, journal: Journal, live: Live, clock: Clock) -> None:
        self.live = live
        self.seq = live.info.last_seq
        """The number of the last event that was emitted."""
        self._journal = journal
        self._clock = clock
        self._unwritten: list[ev.Event] = []
        self._lock = asyncio.Lock()

    @property
    def unwritten(self) -> Sequence[ev.Event]:
        """Emitted, and not durable yet."""
        return self._unwritten

    def emit(self, kind: type[E], **fields: Any) -> E:
        """The run's next event: durable with the next commit."""
        self.seq += 1
        info = self.live.info
        event = kind(run_id=info.run_id, session_id=info.session_id, seq=self.seq, time=self._clock.now(), **fields)
        self._unwritten.append(event)  # type: ignore[arg-type]  # every EventBase subclass is in the Event union
        return event

    def add(self, events: Sequence[ev.Event]) -> None:
        """Events that have their numbers already, as `emit` would have given them."""
        self.seq = events[-1].seq
        self._unwritten.extend(events)

    async def tell(self, kind: type[E], **fields: Any) -> None:
        """Emit and commit."""
        self.emit(kind, **fields)
        await self.commit()

    async def commit(self) -> None:
        """Make what was emitted durable, then visible. Two callers at once keep the order of their events.

        Raises Unavailable where the store cannot take it: what was emitted is kept and told with the next commit.
        """
        async with self._lock:
            if not self._unwritten:
                return
            batch, self._unwritten = self._unwritten, []
            journal, info = self._journal, self.live.info
            kept: list[ev.Event] = []
            try:
                kept = [await spill.spill(journal, event) if spill.is_large(event) else event for event in batch]
                await journal.append(info.run_id, batch[0].seq - 1, kept, info.epoch)
            except KadreError:
                self._unwritten[:0] = batch
                raise
            except asyncio.CancelledError:
                if await self._is_durable(batch[-1].seq):  # it is, or it is not; either must be told on
                    self._publish(batch, kept)
                else:
                    self._unwritten[:0] = batch
                raise
            self._publish(batch, kept)

    async def _is_durable(self, seq: int) -> bool:
        """Whether the journal has the run's events up to that one; cancelled again, it asks again."""
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                try:
                    run = await self._journal.run(self.live.info.run_id)
                except KadreError:
                    return False
                return run is not None and run.last_seq >= seq

    def _publish(self, batch: Sequence[ev.Event], kept: Sequence[ev.Event]) -> None:
        for whole, event in zip(batch, kept, strict=True):
            if whole is not event and type(whole) is ev.AssistantMessage:
                self.live.whole = whole
        self.live.publish(kept)

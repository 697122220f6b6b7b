"""Writes one run's events: numbers them, makes them durable, and only then visible."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from kadre.base.clock import Clock
from kadre.base.errors import Conflict, Fenced, NotFound
from kadre.engine import events as ev
from kadre.engine.live import Live
from kadre.engine.memory import spill
from kadre.engine.memory.deleted import is_deleted
from kadre.engine.memory.port import Journal, NewRun, RunInfo

log = logging.getLogger(__name__)
FORGETS = 300.0
"""Seconds that a store which goes back may go back: an older run that is not there was deleted with its session."""
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
        self._sending: list[ev.Event] = []
        """The batch that is being committed."""
        self._in_doubt = False
        """Whether the first of the unwritten may be in the journal: asked before they are sent again."""
        self._lock = asyncio.Lock()
        self.fenced = False
        """Whether a commit has found that the run is another writer's."""

    @property
    def unwritten(self) -> Sequence[ev.Event]:
        """Emitted, and not durable yet."""
        return (*self._sending, *self._unwritten)

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

        Where it fails or is cancelled, what was emitted is kept and told with the next commit. Raises Unavailable
        where the store cannot take it, TooLarge where it takes no more events of the run, and Fenced.
        """
        async with self._lock:
            if not self._unwritten:
                return
            batch, self._unwritten = self._unwritten, []
            self._sending = batch
            try:
                journal = self._journal
                kept = [await spill.spill(journal, event) if spill.is_large(event) else event for event in batch]
                await self._append(kept)
            except BaseException as error:
                self._unwritten[:0] = batch
                self.fenced = self.fenced or isinstance(error, Fenced)
                raise
            finally:
                self._sending = []
            self._publish(batch, kept)

    async def mend(self) -> None:
        """Tell the journal again what it had acknowledged and has lost since. Raises what `commit` does."""
        async with self._lock:
            await self._append_missing(())

    async def _append(self, events: Sequence[ev.Event]) -> None:
        info, before = self.live.info, len(self.live.events)
        if self._in_doubt:
            await self._append_missing(events)
        else:
            self._in_doubt = True  # until it returns: one that fails or is cancelled may have been written all the same
            try:
                await self._journal.append(info.run_id, before, events, info.epoch)
            except Fenced:
                if not await self._append_missing(events, lost_only=True):
                    raise
        self._in_doubt = False

    async def _append_missing(self, events: Sequence[ev.Event], *, lost_only: bool = False) -> bool:
        """Append what the journal lacks of the run, `events` being its next. Whether what it lacks was told before.

        A store that goes back to an earlier state, as one may that fails over, has lost what this process knows. Told
        again, nobody takes a call that was sent for one that was not. `lost_only`: else leave it as it is.
        """
        acknowledged = self.live.events
        run = await self._held()
        if run is None and self.live.finished is not None:
            return False  # forgotten with its session, perhaps; nobody has anything left to do for it
        durable = 0 if run is None else run.last_seq
        lost = run is None or durable < len(acknowledged) or run.epoch < self.live.info.epoch
        if lost_only and not lost:
            return False
        if lost:
            name = self.live.info.run_id
            log.warning("the journal has lost what it had acknowledged of run %s, which is told again", name)
            await (self._create_again() if run is None else self._claim_again(run))
            durable = durable or len(acknowledged)
        if missing := (*acknowledged, *events)[durable:]:
            await self._journal.append(self.live.info.run_id, durable, missing, self.live.info.epoch)
        return lost

    async def _claim_again(self, run: RunInfo) -> None:
        """Be the writer of what is left of the run, if nobody else has written any of it.

        Another may have claimed it since, under the number that this process had before: who claims it again has a
        number of its own.
        """
        info, acknowledged = self.live.info, self.live.events
        kept = list(await self._journal.events(info.run_id, limit=run.last_seq))
        # A run that was made again has another place in its session, which its first event tells.
        if not kept or kept[0].time != acknowledged[0].time or kept[1:] != acknowledged[1 : run.last_seq]:
            raise _anothers(info.run_id)
        await self._without_lost_values(run.last_seq)
        try:
            claimed = await self._journal.claim(info.run_id, run)
        except (Conflict, NotFound) as error:
            raise _anothers(info.run_id) from error
        except Fenced:  # another claims it at this moment, and knows less of it
            now = await self._held()
            if now is None or now.epoch == run.epoch:
                raise
            await self._claim_again(now)
            return
        self.live.info = msgspec.structs.replace(info, epoch=claimed.epoch)

    async def _create_again(self) -> None:
        """Make the run that is not there. Raises Fenced where it was not lost, but forgotten with its session."""
        info = self.live.info
        age = (self._clock.now() - info.created).total_seconds()
        if age > FORGETS or await is_deleted(self._journal, info.agent, info.session_id):
            raise Fenced(f"run {info.run_id} is not there any more: its session was deleted")
        await self._without_lost_values(0)
        new = NewRun(
            run_id=info.run_id,
            session_id=info.session_id,
            agent=info.agent,
            caller=info.caller,
            parent_run_id=info.parent_run_id,
            on_busy="interrupt",  # whatever came to the session since: it is under way
        )
        try:
            created = await self._journal.create(new, tuple(self.live.events))
        except Conflict as error:  # its session or its id is somebody else's by now
            raise Fenced(f"run {info.run_id} was lost by its journal: {error}") from error
        if created.existing:
            raise _anothers(info.run_id)
        self.live.info = msgspec.structs.replace(info, epoch=created.run.epoch, order=created.run.order)

    async def _without_lost_values(self, after: int) -> None:
        """Of events that are told again, name no large value that is lost too: they have its beginning."""
        events = self.live.events
        for place in range(after, len(events)):
            if events[place].blobs:
                events[place] = await spill.without_lost(self._journal, events[place])

    async def _held(self) -> RunInfo | None:
        """The run as the journal has it, None where it is lost. Raises Fenced where it has another writer."""
        info = self.live.info
        run = await self._journal.run(info.run_id)
        if run is not None and run.epoch > info.epoch:  # a lesser one is of before our claim, which is lost
            raise _anothers(info.run_id)
        return run

    async def shed(self) -> None:
        """Give up what is not durable, one of which cannot be made so, and go on after what is."""
        async with self._lock:
            run, shown = await self._held(), self.live.events[-1].seq
            durable = shown if run is None else max(run.last_seq, shown)
            if durable > shown:
                self.live.publish(await self._journal.events(self.live.info.run_id, after=shown, limit=durable - shown))
            self._unwritten, self.seq, self._in_doubt = [], durable, False

    def _publish(self, batch: Sequence[ev.Event], kept: Sequence[ev.Event]) -> None:
        for whole, event in zip(batch, kept, strict=True):
            if whole is not event and type(whole) is ev.AssistantMessage:
                self.live.whole = whole
        self.live.publish(kept)


def _anothers(run_id: str) -> Fenced:
    return Fenced(f"run {run_id} has another writer now")

"""Runs that this process does not drive: read from the journal, and read on there where another process drives them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Sequence

from kadre.base.clock import Clock
from kadre.base.errors import NotFound, Unavailable
from kadre.engine import events as ev
from kadre.engine.live import Live
from kadre.engine.memory import spill
from kadre.engine.memory.port import CLOSED, Journal, RunInfo

LOOK_SECONDS = 0.5
"""How often a run that another process drives is looked at, for as long as somebody waits for it."""
SILENT_LOOKS = 60
"""Without a word, after which it is asked whether the run is there at all; one that its store has lost is by then."""
OUTAGE_SECONDS = 120.0
"""How long a store may be away before who waits is told: a database that fails over takes a minute."""


async def find(journals: Iterable[Journal], run_id: str, own: Journal | None = None) -> tuple[Journal, RunInfo] | None:
    """The run and the store that it is in. `own`: the one of the agent that it is known to be of, which is asked first.

    Raises Unavailable where none has it of those that answer, and `own` does not answer; where there is none, any.
    """
    away: Unavailable | None = None
    for journal in journals if own is None else [own, *[each for each in journals if each is not own]]:
        try:
            info = await journal.run(run_id)
        except Unavailable as error:
            away = error if own is None or journal is own else away
            continue
        if info is not None:
            return journal, info
    if away is not None:
        raise away
    return None


async def is_in_another(journals: Iterable[Journal], own: Journal, run_id: str) -> bool:
    """Whether a run of that id is in another store than `own`: doors go by ids alone. One that is away has none."""
    for journal in journals:
        if journal is not own:
            with contextlib.suppress(Unavailable):
                if await journal.run(run_id) is not None:
                    return True
    return False


async def kept(journal: Journal, info: RunInfo, clock: Clock) -> Live:
    """The stream of a run that nobody drives here. Raises NotFound where it was forgotten just now."""
    live = Live(info)
    events = await journal.events(info.run_id, limit=info.last_seq)
    if not events:
        raise NotFound(f"there is no run {info.run_id!r}", reason="NoSuchRun")
    live.whole = await _whole(journal, events)
    live.publish(events)
    if live.finished is None:
        follow(live, journal, clock)
    return live


def follow(live: Live, journal: Journal | None, clock: Clock) -> None:
    """Have the stream go on with what another process writes; where none can (or `journal` is None), it ends there."""
    if journal is None or not journal.shared:
        run_id = live.info.run_id
        live.fail(Unavailable(f"run {run_id} is not driven by this process", reason="RunElsewhere"))
        return
    looking = asyncio.Lock()
    heard, silent = 0.0, 0

    async def look() -> None:
        nonlocal silent
        events = await journal.events(live.info.run_id, after=live.events[-1].seq)
        live.whole = await _whole(journal, events) or live.whole
        silent = 0 if events else silent + 1
        if events:
            live.publish(events)
        elif not silent % SILENT_LOOKS and await journal.run(live.info.run_id) is None:
            message = f"run {live.info.run_id} is not there any more: its session was deleted"
            live.fail(NotFound(message, reason="NoSuchRun"))

    async def more() -> None:
        nonlocal heard
        known = len(live.events)
        if not looking.locked():
            heard = clock.monotonic()
        async with looking:  # one of those who wait looks for all
            while len(live.events) == known and not live.ended:
                await clock.sleep(LOOK_SECONDS)
                try:
                    await look()
                except Unavailable as error:
                    if error.reason == CLOSED or clock.monotonic() - heard > OUTAGE_SECONDS:
                        raise
                    continue
                heard = clock.monotonic()

    live.read_on(more)


async def _whole(journal: Journal, events: Sequence[ev.Event]) -> ev.AssistantMessage | None:
    """The last thing the model said there, whole, where its event keeps only the beginning."""
    for event in reversed(events):
        if type(event) is ev.AssistantMessage:
            whole = await spill.restore(journal, event) if event.blobs else event
            return whole if whole is not event and isinstance(whole, ev.AssistantMessage) else None
    return None

"""A journal that has lost what it acknowledged is told it again by the run's writer, and by nobody else."""

from __future__ import annotations

import pytest

from kadre.base import errors
from kadre.base.clock import FakeClock
from kadre.engine import events as ev
from kadre.engine.live import Live
from kadre.engine.memory.inmemory import InMemoryJournal
from kadre.engine.memory.port import NewRun
from kadre.engine.recorder import Recorder
from tests.contract.journal.story import AGENT, Teller


async def recorder_of(*journals: InMemoryJournal, run_id: str = "run-1") -> Recorder:
    """Of a run that each of these journals has the beginning of; it writes to the first."""
    run = Teller(run_id, "s")
    first = run.first()
    new = NewRun(run_id=run_id, session_id="s", agent=AGENT, caller="local")
    infos = [(await journal.create(new, first)).run for journal in journals]
    live = Live(infos[0])
    live.publish(await journals[0].events(run_id))
    return Recorder(journals[0], live, FakeClock())


async def goes_back(recorder: Recorder, to: InMemoryJournal) -> None:
    """As where a replica takes over that had not heard of everything."""
    recorder._journal = to


async def says(recorder: Recorder, *words: str) -> None:
    for word in words:
        await recorder.tell(ev.System, reason="Said", message=word)


async def is_whole(recorder: Recorder, journal: InMemoryJournal) -> bool:
    kept = list(await journal.events("run-1"))
    return kept == list(recorder.live.events) and [event.seq for event in kept] == list(range(1, len(kept) + 1))


async def test_what_was_lost_comes_before_what_is_told_next() -> None:
    before, after = InMemoryJournal(), InMemoryJournal()
    recorder = await recorder_of(before, after)
    await says(recorder, "one", "two")
    await goes_back(recorder, after)
    await says(recorder, "three")
    assert await is_whole(recorder, after)
    assert recorder.live.events[-1].seq == 5


async def test_it_is_told_without_anything_new_to_tell_and_only_once() -> None:
    before, after = InMemoryJournal(), InMemoryJournal()
    recorder = await recorder_of(before, after)
    await says(recorder, "one")
    await goes_back(recorder, after)
    for _ in range(2):
        await recorder.mend()
        assert await is_whole(recorder, after)


async def test_a_run_that_is_lost_whole_is_made_again_though_its_session_has_another() -> None:
    before, after = InMemoryJournal(), InMemoryJournal()
    recorder = await recorder_of(before)
    recorder.live.info = await before.claim("run-1")
    await says(recorder, "one")
    await recorder_of(after, run_id="run-2")
    await goes_back(recorder, after)
    await says(recorder, "two")
    kept = list(await after.events("run-1"))
    assert kept[1:] == list(recorder.live.events[1:])  # the first has the place it has in its session now
    await says(recorder, "three")


async def test_a_writer_that_was_fenced_tells_nothing_again() -> None:
    before, after = InMemoryJournal(), InMemoryJournal()
    recorder = await recorder_of(before, after)
    await says(recorder, "one")
    await after.claim("run-1")
    await goes_back(recorder, after)
    for telling in (says(recorder, "two"), recorder.mend()):
        with pytest.raises(errors.Fenced):
            await telling
    assert len(await after.events("run-1")) == 2

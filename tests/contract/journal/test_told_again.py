"""What a process may tell a server again, and what it may not: another writer's run, and what people have deleted."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest

from kadre.base import errors
from kadre.base.clock import FakeClock
from kadre.engine import events as ev
from kadre.engine.live import Live
from kadre.engine.memory import spill
from kadre.engine.memory.port import Journal, NewRun
from kadre.engine.memory.remote_journal import RemoteJournal
from kadre.engine.recorder import FORGETS, Recorder
from tests.contract.journal.story import AGENT, Teller
from tests.support.stores import Store, new_space

pytestmark = pytest.mark.requirement("journal-told-again")
Pair = tuple[RemoteJournal, RemoteJournal]


@pytest.fixture
async def lost(store: Store) -> AsyncIterator[Pair]:
    """A journal, and what is left of it when its server has gone back."""
    both = (await store.open(new_space()), await store.open(new_space()))
    yield both
    for journal in both:
        await journal.aclose()


async def recorder_of(*journals: Journal) -> Recorder:
    """Of a run that begins now, which each of these journals has; it writes to the first."""
    run, clock = Teller("run-1", "s"), FakeClock()
    run.start = clock.now()
    first = run.first()
    new = NewRun(run_id="run-1", session_id="s", agent=AGENT, caller="local")
    infos = [(await journal.create(new, first)).run for journal in journals]
    live = Live(infos[0])
    live.publish(first)
    return Recorder(journals[0], live, clock)


async def says(recorder: Recorder, *words: str) -> None:
    for word in words:
        await recorder.tell(ev.System, reason="Said", message=word)


async def is_cancelled(journal: Journal) -> None:
    """As by a person, at another process."""
    held = await journal.claim("run-1")
    end = ev.RunFinished(
        run_id="run-1", session_id="s", seq=held.last_seq + 1, time=FakeClock().now(), status="cancelled"
    )
    await journal.append("run-1", held.last_seq, [end], held.epoch)


@pytest.mark.parametrize("telling", ["next", "again"])
async def test_a_session_that_was_deleted_elsewhere_is_not_made_again(shared: Pair, telling: str) -> None:
    """Its run was cancelled at another process, and whoever drove it has not heard of that yet."""
    here, there = shared
    recorder = await recorder_of(here)
    await says(recorder, "one")
    await is_cancelled(there)
    await there.delete_session(AGENT, "s")
    with pytest.raises(errors.Fenced):
        await (says(recorder, "two") if telling == "next" else recorder.mend())
    assert (await there.run("run-1"), list(await there.sessions())) == (None, [])


async def test_a_run_that_no_server_can_have_lost_any_more_is_not_made_again(lost: Pair) -> None:
    """Its session was forgotten, by whatever forgets them, while its process stood still."""
    before, after = lost
    recorder = await recorder_of(before)
    assert isinstance(recorder._clock, FakeClock)
    await recorder._clock.advance(FORGETS + 10)
    recorder._journal = after
    with pytest.raises(errors.Fenced):
        await says(recorder, "one")
    assert list(await after.runs()) == []


async def test_who_claimed_a_run_tells_a_server_again_that_has_lost_the_claim(lost: Pair) -> None:
    before, after = lost
    recorder = await recorder_of(before, after)
    recorder.live.info = await before.claim("run-1")
    await says(recorder, "one", "two")
    recorder._journal = after
    await recorder.mend()
    assert list(await after.events("run-1")) == list(recorder.live.events)
    assert [info.run_id for info in await after.held()] == ["run-1"]
    await says(recorder, "three")


async def test_nobody_tells_again_over_what_another_has_written_since(lost: Pair) -> None:
    """The server went back before a claim; who claims it then has the number that the other one had."""
    before, after = lost
    recorder = await recorder_of(before, after)
    recorder.live.info = await before.claim("run-1")
    await says(recorder, "one", "two")
    held = await after.claim("run-1")
    theirs = msgspec.structs.replace(recorder.live.events[2], message="of another")
    await after.append("run-1", 2, [theirs], held.epoch)
    recorder._journal = after
    with pytest.raises(errors.Fenced):
        await recorder.mend()
    with pytest.raises(errors.Fenced):
        await says(recorder, "three")
    assert list(await after.events("run-1", after=2)) == [theirs]


@pytest.mark.parametrize("whole", [False, True])
async def test_a_run_goes_on_whose_large_value_a_server_has_lost(lost: Pair, whole: bool) -> None:
    """Nobody has it any more; what people are shown of it is kept."""
    before, after = lost
    recorder = await recorder_of(*([before] if whole else [before, after]))
    await recorder.tell(ev.AssistantMessage, content="x" * 200_000)
    recorder._journal = after
    await says(recorder, "next")
    kept = list(await after.events("run-1"))
    assert kept == list(recorder.live.events)
    large = await spill.restore(after, kept[2])
    assert isinstance(large, ev.AssistantMessage)
    assert large.content.startswith("xxx")

"""Runs that ask for others, where processes share a journal: they are ended together, and left together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import asyncpg
import pytest

from kadre.base import errors
from kadre.base.clock import SystemClock
from kadre.engine import delegation
from kadre.engine import events as ev
from kadre.engine.live import Live
from kadre.engine.memory.remote_journal import RemoteJournal
from kadre.engine.memory.sqlite import SqliteJournal
from kadre.engine.tools.agent import AgentToolset
from kadre.engine.tools.functions import Functions
from kadre.engine.tools.port import Toolset
from kadre.plan.types import AgentKey, AgentTool, Limits
from tests.contract.journal.conftest import LEASE
from tests.support.postgres import Cluster
from tests.support.scene import Asking, Scene, Turn
from tests.support.stores import Store, new_space

SECONDS = 20
Begin = Callable[..., Awaitable[Scene]]


def delegating(scene: Scene) -> Toolset:
    return AgentToolset(AgentTool(name="writer", agent=AgentKey("default", "writer")), scene.host, 5)


async def child_of(scene: Scene, parent: Live) -> Live:
    """The run that this one has asked for, when its model has been asked."""
    await scene.until(parent, lambda: "delegate_start" in scene.types(parent))
    await asyncio.wait_for(scene.models["writer"].called.wait(), SECONDS)
    (told,) = [event for event in parent.events if isinstance(event, ev.DelegateStart)]
    return await scene.host.open(told.child_run_id)


async def status_of(live: Live) -> str:
    return (await asyncio.wait_for(live.wait(), SECONDS)).status


async def test_a_message_interrupts_what_another_host_does_in_its_session_and_has_others_do(
    hosts: tuple[Scene, Scene],
) -> None:
    here, there = hosts
    interrupting = Limits(on_busy="interrupt")
    await here.says(asyncio.Event(), name="writer")
    await here.says([("writer", {"message": "write"})], name="boss", tools=[delegating(here)], limits=interrupting)
    await there.says("at once", name="boss", limits=interrupting)
    first = await here.start("one", name="boss", session_id="s")
    child = await child_of(here, first)
    second = await there.start("two", name="boss", session_id="s")
    assert [await status_of(live) for live in (first, child, second)] == ["cancelled", "cancelled", "completed"]


@pytest.mark.parametrize("ends", ["is cancelled", "is interrupted"])
async def test_what_a_run_asked_for_ends_with_it_though_another_host_drives_that_by_now(
    hosts: tuple[Scene, Scene], ends: str
) -> None:
    here, there = hosts
    await here.says([("write", {"text": "x"})], name="writer", tools=[Asking(write)])
    await there.says(asyncio.Event(), name="writer", tools=[Asking(write)])
    limits = Limits(on_busy="interrupt")
    await here.says([("writer", {"message": "w"})], "second", name="boss", tools=[delegating(here)], limits=limits)
    live = await here.start(name="boss", session_id="s")
    approval = await here.approval(live)
    await there.host.approve(live.info.run_id, approval.id, "allow", "ann")  # which brings that run there, and no other
    await asyncio.wait_for(there.models["writer"].called.wait(), SECONDS)
    child = await there.host.open(approval.run_id)
    if ends == "is cancelled":
        await here.host.cancel(live.info.run_id)
    else:
        await here.start("two", name="boss", session_id="s")
    assert [await status_of(each) for each in (live, child)] == ["cancelled", "cancelled"]


async def test_a_run_that_is_cancelled_elsewhere_before_it_could_tell_of_another_takes_that_with_it(
    hosts: tuple[Scene, Scene],
) -> None:
    here, there = hosts
    await here.says(asyncio.Event(), name="writer")
    await here.says([("writer", {"message": "write"})], name="boss", tools=[delegating(here)])
    append, cancelled = here.journal.append, list[ev.RunFinished | None]()

    async def after_another(run_id: str, expected_seq: int, events: Sequence[ev.Event], epoch: int) -> None:
        if any(isinstance(event, ev.DelegateStart) for event in events) and not cancelled:
            # Seen through: it is another process's, and this one, which hears of it, stops what it does itself.
            cancelled.append((await asyncio.shield(asyncio.ensure_future(there.host.cancel(run_id)))).finished)
        await append(run_id, expected_seq, events, epoch)

    here.journal.append = after_another  # type: ignore[method-assign]  # the order that two processes may have
    live = await here.start(name="boss")
    await asyncio.wait_for(here.models["writer"].called.wait(), SECONDS)
    (child,) = [each.live for each in here.host._driving.runners.values() if each.live.info.parent_run_id]
    assert [await status_of(each) for each in (live, child)] == ["cancelled", "cancelled"]


async def test_a_cancel_that_does_not_come_to_all_can_be_asked_for_again(store: Store, begin: Begin) -> None:
    async with store.cut() as cut:
        here, there = await begin(), await begin(cut=cut)
        await here.says(asyncio.Event(), name="writer")
        await here.says([("writer", {"message": "write"})], name="boss", tools=[delegating(here)])
        live = await here.start(name="boss")
        child = await child_of(here, live)
        cut.next_answer_to(child.info.run_id.encode(), then_shut=True)
        with pytest.raises(errors.Unavailable):
            await there.host.cancel(live.info.run_id)
        cut.shut = False
        assert await status_of(await there.host.cancel(live.info.run_id)) == "cancelled"
        assert await status_of(child) == "cancelled"


async def test_a_run_that_was_perhaps_created_for_another_is_not_driven_when_that_was_told_no(
    store: Store, begin: Begin
) -> None:
    written: list[str] = []

    def note(text: str) -> str:
        """Note it."""
        written.append(text)
        return "noted"

    async with store.cut() as cut:
        scene = await begin(cut=cut)
        await scene.says([("note", {"text": "x"})], "noted", name="writer", tools=[Functions(note)])
        boss = await scene.says([("writer", {"message": "write"})], "no", name="boss", tools=[delegating(scene)])
        child_id = delegation.child_of("run-boss", "run-boss/call-1-0")
        cut.next_answer_to(child_id.encode(), then_shut=True)
        live = await scene.start(name="boss", run_id="run-boss")
        async with asyncio.timeout(SECONDS):
            while child_id not in scene.host._takeover._refused.of(scene.journal):
                await SystemClock().sleep(0.01)
        cut.shut = False  # before whoever asked has to keep what it was told
        assert await status_of(live) == "completed"
        assert "cannot be asked now" in boss.requests[-1].messages[-1].content
        assert await status_of(await scene.host.open(child_id)) == "cancelled"
        assert written == []


@pytest.mark.stores
@pytest.mark.needs("postgres")
async def test_a_run_that_is_created_late_is_not_driven_after_whoever_asked_was_told_no(
    cluster: Cluster, stores: Callable[[str], Store]
) -> None:
    schema, clock = new_space(), SystemClock()
    async with stores("postgres").cut() as cut:
        journal = await stores("postgres").open(schema, lease=LEASE, cut=cut)
        scene = Scene(journal, clock)
        await scene.host.recover()
        model = await scene.says("first", "never")
        await scene.ask(session_id="s")
        straight = await asyncpg.connect(cluster.dsn())
        async with straight.transaction(), asyncio.timeout(SECONDS):
            await straight.execute(f'SELECT FROM "{schema}".sessions FOR UPDATE')
            starting = asyncio.ensure_future(scene.start("send the money", session_id="s"))
            while not await straight.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                await clock.sleep(0.01)
            cut.hang_up()
            with pytest.raises(errors.Unavailable):
                await starting
            cut.shut = False
            (run_id,) = scene.host._takeover._refused.of(journal)
            while not await is_looked_at(scene, journal):
                await clock.sleep(0.05)
            assert await journal.run(run_id) is None
        async with asyncio.timeout(SECONDS):  # the server goes on with what it was asked
            while (info := await journal.run(run_id)) is None or info.status != "cancelled":
                await clock.sleep(0.05)
        assert [request.messages[-1].content for request in model.requests] == ["hi"]
        await straight.close()
        await scene.host.aclose(0)


async def is_looked_at(scene: Scene, journal: RemoteJournal) -> bool:
    """Whether the store could be asked which of its runs are to be taken up or ended."""
    try:
        await scene.host._takeover.look(journal)
    except errors.Unavailable:
        return False
    return True


async def test_a_run_that_another_process_has_claimed_leaves_to_it_what_it_asked_for(
    hosts: tuple[Scene, Scene],
) -> None:
    here, there = hosts
    written, waited = asyncio.Event(), asyncio.Event()

    async def wait() -> str:
        """Wait."""
        await waited.wait()
        return "over"

    await here.says(written, "written", name="writer")
    calls: Turn = [("writer", {"message": "write"}), ("wait", {})]
    await here.says(calls, name="boss", tools=[delegating(here), Functions(wait)])
    live = await here.start(name="boss")
    child = await child_of(here, live)
    assert isinstance(here.journal, RemoteJournal)
    await here.journal._tasks.aclose()
    here.journal._watch.hang_up()  # it does not hear of the claim
    await there.journal.claim(live.info.run_id)
    waited.set()
    await here.until(live, lambda: live.info.run_id not in here.host._driving.runners)
    written.set()
    assert await status_of(child) == "completed"


async def test_a_run_that_is_cancelled_on_two_hosts_at_once_is_cancelled(hosts: tuple[Scene, Scene]) -> None:
    here, there = hosts
    for _ in range(10):
        await here.says([("write", {"text": "x"})], tools=[Asking(write)])
        live = await here.start()
        await here.approval(live)
        both = await asyncio.gather(*(scene.host.cancel(live.info.run_id) for scene in (there, here, there)))
        assert [await status_of(each) for each in both] == ["cancelled"] * 3
        kept = await there.journal.events(live.info.run_id)
        assert [type(event) for event in kept].count(ev.RunFinished) == 1


def write(text: str) -> str:
    """Write it."""
    return f"wrote {text}"


async def test_a_question_of_a_run_in_a_store_of_ones_own_survives_with_the_run_that_asked_for_it_in_a_shared_one(
    store: Store, tmp_path: Path
) -> None:
    space = new_space()

    async def begin(boss: list[Turn], writer: list[Turn]) -> Scene:
        scene = Scene(await store.open(space, lease=LEASE), SystemClock())
        shared, own = scene.journal, await SqliteJournal.open(tmp_path)
        scene.host.add_journal(own)
        scene.journal = own
        await scene.says(*writer, name="writer", tools=[Asking(write)])
        scene.journal = shared
        await scene.says(*boss, name="boss", tools=[delegating(scene)])
        assert await scene.host.recover() == []
        return scene

    before = await begin([[("writer", {"message": "write"})]], [[("write", {"text": "x"})]])
    live = await before.start(name="boss")
    approval = await before.approval(live)
    await before.host.aclose(0)
    after = await begin(["boss done"], ["written"])
    await after.host.approve(live.info.run_id, approval.id, "allow", "ann")
    again = await after.host.open(live.info.run_id)
    assert await status_of(again) == "completed"
    assert again.answer() == "boss done"
    await after.host.aclose(0)

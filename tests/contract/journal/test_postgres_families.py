"""Runs that ask for others, where processes share a journal: they are ended together, and left together."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from kadre.base.clock import SystemClock
from kadre.engine import events as ev
from kadre.engine.live import Live
from kadre.engine.memory.postgres import PostgresJournal
from kadre.engine.memory.sqlite import SqliteJournal
from kadre.engine.tools.agent import AgentToolset
from kadre.engine.tools.functions import Functions
from kadre.engine.tools.port import Toolset
from kadre.plan.types import AgentKey, AgentTool, Limits
from tests.contract.journal.conftest import LEASE
from tests.support.postgres import Cluster, new_schema
from tests.support.scene import Asking, Scene, Turn

pytestmark = [pytest.mark.stores, pytest.mark.needs("postgres")]
SECONDS = 20


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
    assert isinstance(here.journal, PostgresJournal)
    await here.journal._tasks.aclose()
    here.journal._watch._db.terminate()  # it does not hear of the claim
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
    cluster: Cluster, tmp_path: Path
) -> None:
    schema = new_schema()

    async def begin(boss: list[Turn], writer: list[Turn]) -> Scene:
        scene = Scene(await PostgresJournal.open(cluster.dsn(), schema=schema, lease=LEASE), SystemClock())
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


async def dies(scene: Scene) -> None:
    """As a process does that is killed, but that its lease runs out at once."""
    assert isinstance(scene.journal, PostgresJournal)
    await scene.journal._tasks.aclose()
    await scene.journal._watch.aclose()


async def test_a_run_that_ends_each_process_that_drives_it_does_not_end_them_all(cluster: Cluster) -> None:
    schema = new_schema()

    async def another(*turns: Any) -> Scene:
        scene = Scene(await PostgresJournal.open(cluster.dsn(), schema=schema, lease=LEASE), SystemClock())
        await scene.says(*turns)
        await scene.host.recover()
        return scene

    scenes = [await another(asyncio.Event())]
    live = await scenes[0].start(session_id="s")
    for _ in range(4):
        await asyncio.wait_for(scenes[-1].models["a"].called.wait(), SECONDS)
        await dies(scenes[-1])
        scenes.append(await another(asyncio.Event()))
    last = await scenes[-1].host.open(live.info.run_id)
    assert await status_of(last) == "interrupted"
    error = last.error()
    assert error is not None
    assert (error.reason, scenes[-1].models["a"].requests) == ("TakenUpTooOften", [])
    assert [event.reason for event in last.events if isinstance(event, ev.System)] == ["TakenUp"] * 3
    for scene in scenes:
        await scene.host.aclose(0)

"""Hosts that share a journal: whichever is asked, a run is one run, and one of them drives it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from kadre.base import errors
from kadre.base.clock import SystemClock
from kadre.engine import events as ev
from kadre.engine.live import Live
from kadre.engine.memory.port import is_shared
from kadre.engine.memory.remote_journal import RemoteJournal
from kadre.engine.tools.functions import Functions
from kadre.plan.types import Limits
from tests.contract.journal.conftest import LEASE
from tests.support.scene import Asking, Scene
from tests.support.stores import Store, new_space

SECONDS = 20


Hosts = tuple[Scene, Scene]


async def ended(live: Live) -> ev.RunFinished:
    return await asyncio.wait_for(live.wait(), SECONDS)


def one_end(live: Live) -> bool:
    """Whether nothing is lost or told twice."""
    numbers = [event.seq for event in live.events]
    return numbers == list(range(1, len(numbers) + 1)) and Scene.types(live).count("run_finished") == 1


def writing(done: list[str]) -> Callable[[str], str]:
    def write(text: str) -> str:
        """Write it."""
        done.append(text)
        return "written"

    return write


async def test_a_run_that_is_driven_elsewhere_is_followed_to_its_end(hosts: Hosts) -> None:
    here, there = hosts
    go = asyncio.Event()
    await here.says(go, "answered here")
    await there.says()
    live = await here.start(run_id="run-1")
    followed = await there.host.open("run-1")
    again = await there.start(run_id="run-1")
    told = asyncio.create_task(_told(followed))
    go.set()
    assert (await ended(again)).status == "completed"
    assert await asyncio.wait_for(told, SECONDS) == live.events
    assert (again.answer(), followed.answer()) == ("answered here", "answered here")


async def _told(live: Live) -> list[ev.Event]:
    return [event async for event in live.follow()]


async def test_a_run_is_cancelled_by_whichever_host_is_asked(hosts: Hosts) -> None:
    here, there = hosts
    cancelled = asyncio.Event()

    async def wait() -> str:
        """Wait."""
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return ""

    await here.says([("wait", {})], tools=[Functions(wait)])
    live = await here.start()
    await here.until(live, lambda: "tool_start" in here.types(live))
    asked = await there.host.cancel(live.info.run_id)
    assert (await ended(asked)).status == "cancelled"
    await asyncio.wait_for(cancelled.wait(), LEASE)  # sooner than anybody looks unasked
    assert (await ended(live)).status == "cancelled"
    assert one_end(live)
    assert [call.status for call in here.tool_ends(live)] == ["unknown"]


async def test_an_approval_is_decided_by_whichever_host_is_asked(hosts: Hosts) -> None:
    here, there = hosts
    done: list[str] = []
    await here.says([("write", {"text": "x"})], "from here", tools=[Asking(writing(done))])
    await there.says("from there", tools=[Asking(writing(done))])
    live = await here.start("write x", session_id="s")
    approval = await here.approval(live)
    await there.host.approve(live.info.run_id, approval.id, "allow", "ann")
    assert (await ended(live)).status == "completed"
    assert (live.answer(), done) == ("from there", ["x"])
    assert one_end(live)
    with pytest.raises(errors.Conflict):
        await here.host.approve(live.info.run_id, approval.id, "deny", "bob")


async def test_of_two_decisions_at_once_one_counts(hosts: Hosts) -> None:
    here, there = hosts
    done: list[str] = []
    for scene in hosts:
        await scene.says([("write", {"text": "x"})], "done", "done", tools=[Asking(writing(done))])
    there.models["a"].turns = ["done"]
    live = await here.start()
    approval = await here.approval(live)
    results = await asyncio.gather(
        here.host.approve(live.info.run_id, approval.id, "allow", "ann"),
        there.host.approve(live.info.run_id, approval.id, "deny", "bob"),
        return_exceptions=True,
    )
    assert (await ended(live)).status == "completed"
    assert one_end(live)
    decided = [event for event in live.events if isinstance(event, ev.ApprovalDecided)]
    assert len(decided) == 1
    assert done == (["x"] if decided[0].decision == "allow" else [])
    assert [isinstance(result, errors.NotFound | errors.Conflict) for result in results].count(True) == 1


async def test_a_message_interrupts_what_another_host_does_in_its_session(hosts: Hosts) -> None:
    here, there = hosts
    interrupting = Limits(on_busy="interrupt")
    await here.says(asyncio.Event(), limits=interrupting)
    await there.says("at once", limits=interrupting)
    first = await here.start("one", session_id="s")
    second = await there.start("two", session_id="s")
    assert [(await ended(live)).status for live in (first, second)] == ["cancelled", "completed"]


async def test_what_a_host_leaves_is_taken_up_by_another(store: Store, hosts: Hosts) -> None:
    here, there = hosts
    done: list[str] = []
    await here.says([("write", {"text": "x"})], tools=[Asking(writing(done))])
    model = await there.says("done", tools=[Asking(writing(done))])
    live = await here.start("write x", session_id="s")
    approval = await here.approval(live)
    await here.host.aclose(0)
    assert is_shared(there.journal)
    async with asyncio.timeout(LEASE):  # sooner than a lease runs out
        while [info.run_id for info in await there.journal.held()] != [live.info.run_id]:
            await there.journal.news()
    await there.host.approve(live.info.run_id, approval.id, "allow", "ann")
    followed = await there.host.open(live.info.run_id)
    assert (await ended(followed)).status == "completed"
    assert (done, len(model.requests)) == (["x"], 1)


async def test_who_waits_for_their_turn_or_follows_a_run_outlasts_a_server_that_is_away(
    store: Store, hosts: Hosts
) -> None:
    here, there = hosts
    go = asyncio.Event()
    await here.says(go, "first")
    model = await there.says("second")
    first = await here.start("one", session_id="s")
    second = await there.start("two", session_id="s")
    followed = await there.host.open(first.info.run_id)
    told = asyncio.create_task(_told(followed))
    await asyncio.to_thread(store.server.stop)
    await SystemClock().sleep(5)  # longer than one who waits for an answer would
    await asyncio.to_thread(store.server.start)
    go.set()
    assert [(await ended(live)).status for live in (first, second)] == ["completed", "completed"]
    assert [message.content for message in model.requests[0].messages] == ["one", "first", "two"]
    assert (await told)[-1] == first.events[-1]


async def fall_silent(scene: Scene) -> None:
    """As a process does that is stopped, or cut off from the server: its lease is not renewed any more."""
    assert isinstance(scene.journal, RemoteJournal)
    await scene.journal._tasks.aclose()


async def test_a_turn_of_a_process_that_fell_silent_is_gone_on_with_and_never_answered_twice(hosts: Hosts) -> None:
    here, there = hosts
    go = asyncio.Event()
    await here.says(go, "from here")
    model = await there.says("from there")
    live = await here.start("hello", session_id="s", run_id="run-1")
    await here.models["a"].called.wait()
    await fall_silent(here)
    followed = await there.host.open("run-1")
    assert (await ended(followed)).status == "completed"
    assert [message.content for message in model.requests[0].messages] == ["hello"]
    go.set()  # and the first host finds that the run is no longer its own
    await asyncio.wait_for(_told(live), SECONDS)
    assert (live.answer(), one_end(live)) == ("from there", True)


async def test_a_call_whose_outcome_nobody_knows_is_not_made_again(hosts: Hosts) -> None:
    here, there = hosts
    done: list[str] = []
    go = asyncio.Event()

    async def write() -> str:
        """Write."""
        done.append("written")
        await go.wait()
        return "written"

    await here.says([("write", {})], "done", tools=[Functions(write)])
    model = await there.says("done", tools=[Functions(write)])
    live = await here.start(run_id="run-1")
    await here.until(live, lambda: bool(done))
    await fall_silent(here)
    followed = await there.host.open("run-1")
    assert (await ended(followed)).status == "interrupted"
    assert [call.status for call in there.tool_ends(followed)] == ["unknown"]
    go.set()
    assert (await ended(live)).status == "interrupted"
    assert (done, model.requests) == (["written"], [])


@pytest.mark.parametrize(("run_id", "status"), [("", "cancelled"), ("run-mine", "completed")])
async def test_a_run_that_was_created_and_not_acknowledged_is_ended_or_found_by_its_name(
    store: Store, run_id: str, status: str
) -> None:
    """The caller is told that it could not be accepted. Who named it asks again; else it must not hold its session."""
    async with store.cut() as cut:
        # By one connection: another one that is open already would find out at once what became of it.
        journal = await store.open(new_space(), lease=LEASE, cut=cut)
        scene = Scene(journal, SystemClock())
        await scene.host.recover()
        model = await scene.says("answered", "answered", "answered")
        before = await scene.start("before", session_id="known")  # Redis knows the script from then on
        assert (await ended(before)).status == "completed"
        cut.next_answer_to(b"to be cut", then_shut=True)
        with pytest.raises(errors.Unavailable):
            await scene.start("to be cut", session_id="s", run_id=run_id)
        cut.shut = False
        if run_id:
            assert (await ended(await scene.start("to be cut", session_id="s", run_id=run_id))).status == status
        assert (await ended(await scene.start("next", session_id="s"))).status == "completed"
        assert [info.status for info in await scene.journal.runs()] == ["completed", status, "completed"]
        assert len(model.requests) == 2 + (status == "completed")
        await scene.host.aclose(0)

"""Calls that a person must approve: asked, decided, denied, expired, and not forgotten by a restart."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kadre.base.clock import FakeClock
from kadre.base.errors import Conflict, NotFound, Refused
from kadre.engine import events as ev
from kadre.engine.accepting import Ask, Parent
from kadre.engine.memory.inmemory import InMemoryJournal
from kadre.engine.memory.port import NewRun
from kadre.engine.messages import Usage
from kadre.engine.tools.agent import AgentToolset
from kadre.engine.tools.functions import Functions
from kadre.plan.types import AgentKey, AgentTool, ApprovalPlan, Limits
from tests.support.scene import CALL, USAGE, Pen, restarted


def used(calls: int) -> Usage:
    """What so many calls of a scene's model use."""
    return sum((USAGE for _ in range(calls)), Usage())


def story(run_id: str, session_id: str) -> list[ev.Event]:
    """What a run begins with."""
    ids: dict[str, Any] = {"run_id": run_id, "session_id": session_id, "time": FakeClock().now()}
    return [ev.RunStarted(seq=1, agent="default/b", **ids), ev.UserMessage(seq=2, content="hi", **ids)]


async def test_a_call_that_needs_approval_waits_and_is_then_made(scene: Any, asking: Any, pen: Pen) -> None:
    await scene.says(CALL, "done", tools=[asking(pen.write)])
    live = await scene.start()
    approval = await scene.approval(live)
    assert approval.tool_call.arguments == {"text": "hi"}
    assert not pen.written
    assert (await scene.journal.run(live.info.run_id)).status == "waiting"
    await scene.host.approve(live.info.run_id, approval.id, "allow", "local")
    await asyncio.wait_for(live.wait(), 5)
    assert pen.written == ["hi"]
    assert live.answer() == "done"


async def test_a_denied_call_is_not_made_and_the_model_is_told_by_whom(scene: Any, asking: Any, pen: Pen) -> None:
    model = await scene.says(CALL, "done", tools=[asking(pen.write)])
    live = await scene.start()
    approval = await scene.approval(live)
    await scene.host.approve(live.info.run_id, approval.id, "deny", "alice", "not today")
    await asyncio.wait_for(live.wait(), 5)
    assert not pen.written
    assert model.requests[1].messages[-1].content == "Error: this call was denied by alice: not today"


async def test_nobody_answering_within_the_hour_denies(scene: Any, asking: Any, pen: Pen) -> None:
    await scene.says(CALL, "done", tools=[asking(pen.write)])
    live = await scene.start()
    await scene.approval(live)
    await asyncio.sleep(0)
    await scene.clock.advance(ApprovalPlan().expires + 1)
    await asyncio.wait_for(live.wait(), 5)
    assert not pen.written
    assert "denied by expiry" in scene.tool_ends(live)[0].error


async def test_waiting_for_a_person_does_not_use_up_the_deadline(scene: Any, asking: Any, pen: Pen) -> None:
    await scene.says(CALL, "done", tools=[asking(pen.write)], limits=Limits(deadline=0.05))
    live = await scene.start()
    approval = await scene.approval(live)
    loop = asyncio.get_running_loop()
    until = loop.time() + 0.1
    passed = asyncio.Event()
    loop.call_at(until, passed.set)
    await passed.wait()
    await scene.host.approve(live.info.run_id, approval.id, "allow", "local")
    await asyncio.wait_for(live.wait(), 5)
    assert live.finished.status == "completed"


async def test_what_was_worked_before_a_restart_counts_for_the_deadline(scene: Any, asking: Any, pen: Pen) -> None:
    async def work() -> str:
        """Work."""
        await scene.clock.advance(59)
        return "worked"

    await scene.says([("work", {})], CALL, tools=[asking(pen.write), Functions(work)], limits=Limits(deadline=60))
    live = await scene.start()
    approval = await scene.approval(live)
    await scene.clock.advance(1800)
    after = await restarted(scene)
    await after.says("done", tools=[asking(pen.write)], limits=Limits(deadline=59))
    await after.host.recover()
    await after.host.approve(live.info.run_id, approval.id, "allow", "local")
    again = await after.host.open(live.info.run_id)
    assert (await asyncio.wait_for(again.wait(), 5)).status == "failed"
    assert again.error().reason == "DeadlineExceeded"


async def test_a_decision_is_made_once(scene: Any, asking: Any, pen: Pen) -> None:
    await scene.says(CALL, "done", tools=[asking(pen.write)])
    live = await scene.start()
    approval = await scene.approval(live)
    await scene.host.approve(live.info.run_id, approval.id, "allow", "local")
    with pytest.raises((NotFound, Conflict)):
        await scene.host.approve(live.info.run_id, approval.id, "deny", "local")
    await asyncio.wait_for(live.wait(), 5)
    with pytest.raises(Conflict, match="has ended"):
        await scene.host.approve(live.info.run_id, approval.id, "deny", "local")
    assert pen.written == ["hi"]


async def test_a_waiting_run_holds_its_session_and_shows_what_it_waits_for(scene: Any, asking: Any, pen: Pen) -> None:
    await scene.says(CALL, "done", tools=[asking(pen.write)])
    live = await scene.start(session_id="s")
    approval = await scene.approval(live)
    with pytest.raises(Conflict) as refused:
        await scene.start("more", session_id="s")
    assert refused.value.reason == "SessionWaiting"
    assert refused.value.details["approvals"][0]["id"] == approval.id


async def decided(after: Any, run_id: str, approval_id: str) -> None:
    """Allow it, and see the run to its end."""
    await after.host.approve(run_id, approval_id, "allow", "alice")
    live = await after.host.open(run_id)
    assert (await asyncio.wait_for(live.wait(), 5)).status == "completed"


async def test_a_waiting_run_survives_a_restart_and_is_then_decided(scene: Any, asking: Any, pen: Pen) -> None:
    await scene.says(CALL, tools=[asking(pen.write)])
    live = await scene.start()
    approval = await scene.approval(live)
    after = await restarted(scene)
    await after.says("done", tools=[asking(pen.write)])
    assert await after.host.recover() == []
    await after.host.approve(live.info.run_id, approval.id, "allow", "local")
    again = await after.host.open(live.info.run_id)
    await asyncio.wait_for(again.wait(), 5)
    assert pen.written == ["hi"]
    assert again.answer() == "done"
    assert [event.seq for event in again.events] == list(range(1, len(again.events) + 1))
    assert again.finished.usage == used(2)  # of the model call before the restart, too


async def test_a_run_that_waits_under_an_agent_not_served_is_taken_up_when_it_is(
    scene: Any, asking: Any, pen: Pen
) -> None:
    await scene.says(CALL, tools=[asking(pen.write)])
    live = await scene.start()
    approval = await scene.approval(live)
    after = await restarted(scene)
    await after.says("somebody else", name="b")
    assert await after.host.recover() == []
    with pytest.raises(Refused, match="until its agent is served") as refused:
        await after.host.approve(live.info.run_id, approval.id, "allow", "local")
    assert refused.value.reason == "AgentNotServed"
    await after.says("done", tools=[asking(pen.write)])
    await decided(after, live.info.run_id, approval.id)
    assert pen.written == ["hi"]


async def test_a_waiting_run_that_cannot_be_taken_up_does_not_keep_the_others_from_it(
    scene: Any, asking: Any, pen: Pen
) -> None:
    await scene.says(CALL, CALL, tools=[asking(pen.write)])
    lives = [await scene.start(session_id=session) for session in ("s", "t")]
    approvals = [await scene.approval(live) for live in lives]
    broken, good = (live.info.run_id for live in lives)
    after = await restarted(scene)
    await after.says("done", "done", tools=[asking(pen.write)])
    events = scene.journal.events

    async def unreadable(run_id: str, *args: Any, **more: Any) -> Any:
        if run_id == broken:
            raise ValueError("this is no event")
        return await events(run_id, *args, **more)

    scene.journal.events = unreadable
    await after.host.recover()
    await decided(after, good, approvals[1].id)
    scene.journal.events = events
    await decided(after, broken, approvals[0].id)
    assert pen.written == ["hi", "hi"]


async def test_what_was_denied_is_not_done_though_its_author_allows_it_after_a_restart(
    scene: Any, asking: Any, pen: Pen
) -> None:
    both = [("write", {"text": "one"}), ("write", {"text": "two"})]
    await scene.says(both, tools=[asking(pen.write)])
    live = await scene.start()
    await scene.until(live, lambda: bool(live.pending_approvals()))
    one, two = live.pending_approvals()
    await scene.host.approve(live.info.run_id, one.id, "deny", "alice")
    after = await restarted(scene)
    await after.says("done", tools=[Functions(pen.write)])
    await after.host.recover()
    await decided(after, live.info.run_id, two.id)
    assert pen.written == ["two"]


async def test_a_run_not_served_is_cancelled_though_what_it_delegated_is_gone(
    scene: Any, asking: Any, pen: Pen
) -> None:
    await scene.says(CALL, name="writer", tools=[asking(pen.write)])
    boss = AgentToolset(AgentTool(name="writer", agent=AgentKey("default", "writer")), scene.host, 5)
    await scene.says([("writer", {"message": "write hi"})], name="boss", tools=[boss])
    live = await scene.start(name="boss")
    child = (await scene.approval(live)).run_id
    after = await restarted(scene)
    run = scene.journal.run

    async def forgotten(run_id: str) -> Any:
        return None if run_id == child else await run(run_id)

    scene.journal.run = forgotten
    await after.host.recover()
    ended = await after.host.cancel(live.info.run_id)
    assert ended.finished.status == "cancelled"


async def test_a_run_that_waits_is_ended_where_the_run_that_asked_for_it_was_cut_off(
    scene: Any, asking: Any, pen: Pen
) -> None:
    ids: dict[str, Any] = {"run_id": "parent", "session_id": "p", "time": FakeClock().now()}
    begun = [ev.RunStarted(seq=1, agent="default/boss", **ids), ev.UserMessage(seq=2, content="hi", **ids)]
    await scene.journal.create(NewRun(run_id="parent", session_id="p", agent="default/boss"), begun)
    await scene.says(CALL, tools=[asking(pen.write)])
    child = await scene.host.start(Ask(agent=AgentKey("default", "a"), message="hi"), Parent("parent"))
    await scene.approval(child)
    after = await restarted(scene)
    await after.says("never", tools=[asking(pen.write)])
    await after.host.recover()
    assert (await scene.journal.run(child.info.run_id)).status == "interrupted"


async def test_a_run_that_waits_under_an_agent_not_served_can_be_cancelled(scene: Any, asking: Any, pen: Pen) -> None:
    await scene.says(CALL, tools=[asking(pen.write)])
    live = await scene.start(session_id="s")
    await scene.approval(live)
    after = await restarted(scene)
    await after.host.recover()
    ended = await after.host.cancel(live.info.run_id)
    assert ended.finished is not None
    assert (ended.finished.status, ended.finished.usage) == ("cancelled", used(1))
    assert ended.pending_approvals() == []
    await after.says("free again")
    assert (await after.ask(session_id="s")).answer() == "free again"


async def test_with_a_run_not_served_what_it_delegated_is_cancelled(scene: Any, asking: Any, pen: Pen) -> None:
    await scene.says(CALL, name="writer", tools=[asking(pen.write)])
    boss = AgentToolset(AgentTool(name="writer", agent=AgentKey("default", "writer")), scene.host, 5)
    await scene.says([("writer", {"message": "write hi"})], name="boss", tools=[boss])
    live = await scene.start(name="boss")
    approval = await scene.approval(live)
    after = await restarted(scene)
    await after.host.recover()
    await after.host.cancel(live.info.run_id)
    child = await scene.journal.run(approval.run_id)
    assert child.status == "cancelled"


async def test_a_store_that_comes_with_a_reload_is_recovered_before_its_first_run(scene: Any) -> None:
    late = InMemoryJournal()
    await late.create(NewRun(run_id="r", session_id="s", agent="default/b"), story("r", "s"))
    await scene.says("hello")
    await scene.host.recover()
    scene.host.add_journal(late)
    await scene.says("hello", name="b")
    run = await late.run("r")
    assert run is not None
    assert run.status == "interrupted"


async def test_a_childs_question_is_asked_at_the_root_and_decided_there(scene: Any, asking: Any, pen: Pen) -> None:
    child = AgentTool(name="writer", agent=AgentKey("default", "writer"))
    await scene.says(CALL, "written", name="writer", tools=[asking(pen.write)])
    boss = AgentToolset(child, scene.host, 5)
    await scene.says([("writer", {"message": "write hi"})], "all done", name="boss", tools=[boss])
    live = await scene.start(name="boss")
    approval = await scene.approval(live)
    await scene.host.approve(live.info.run_id, approval.id, "allow", "local")
    await asyncio.wait_for(live.wait(), 5)
    assert pen.written == ["hi"]
    assert live.answer() == "all done"


async def test_a_grandchilds_question_survives_a_restart_and_is_decided_at_the_root(
    scene: Any, asking: Any, pen: Pen
) -> None:
    async def team(of: Any, *, begun: bool) -> None:
        for name, asks in (("boss", "lead"), ("lead", "writer")):
            tool = AgentToolset(AgentTool(name=asks, agent=AgentKey("default", asks)), of.host, 5)
            calls = [] if begun else [[(asks, {"message": "go"})]]
            await of.says(*calls, f"{name} done", name=name, tools=[tool])
        await of.says(*([] if begun else [CALL]), "written", name="writer", tools=[asking(pen.write)])

    await team(scene, begun=False)
    live = await scene.start(name="boss")
    approval = await scene.approval(live)
    after = await restarted(scene)
    await team(after, begun=True)
    assert await after.host.recover() == []
    await after.host.approve(live.info.run_id, approval.id, "allow", "local")
    again = await after.host.open(live.info.run_id)
    await asyncio.wait_for(again.wait(), 5)
    assert pen.written == ["hi"]
    assert again.answer() == "boss done"


async def test_a_decision_that_comes_while_the_run_ends_comes_too_late(scene: Any, asking: Any, pen: Pen) -> None:
    await scene.says(CALL, "done", tools=[asking(pen.write)])
    live = await scene.start()
    approval = await scene.approval(live)
    append, ending, go = scene.journal.append, asyncio.Event(), asyncio.Event()

    async def slow(*words: Any) -> None:
        ending.set()
        await go.wait()
        await append(*words)

    scene.journal.append = slow
    cancelling = asyncio.create_task(scene.host.cancel(live.info.run_id))
    await asyncio.wait_for(ending.wait(), 5)
    with pytest.raises(NotFound):
        await scene.host.approve(live.info.run_id, approval.id, "allow", "me")
    go.set()
    assert (await asyncio.wait_for(cancelling, 5)).finished.status == "cancelled"
    assert not pen.written


async def test_an_interrupted_run_denies_what_it_asked(scene: Any, asking: Any, pen: Pen) -> None:
    await scene.says(CALL, "the last", tools=[asking(pen.write)], limits=Limits(on_busy="interrupt"))
    first = await scene.start(session_id="s")
    approval = await scene.approval(first)
    second = await scene.ask("more", session_id="s")
    assert second.answer() == "the last"
    (decided,) = [event for event in first.events if isinstance(event, ev.ApprovalDecided)]
    assert (decided.approval_id, decided.decision, decided.by) == (approval.id, "deny", "end")
    assert not pen.written


async def test_who_is_gone_while_runs_are_taken_up_leaves_no_place_taken(scene: Any, asking: Any, pen: Pen) -> None:
    names = ("a", "b")
    for name in names:
        await scene.says(CALL, name=name, tools=[asking(pen.write)])
        await scene.approval(await scene.start(name=name, run_id=f"run-{name}"))
    after = await restarted(scene)
    await after.host.recover()
    claim, hangs = after.journal.claim, asyncio.Event()

    async def fails(*_: Any) -> None:
        raise Refused("the disk is full")

    async def hangs_the_second_time(run_id: str, seen: Any = None) -> Any:
        if all(agent.running for agent in after.host.agents.values()):
            hangs.set()
            await asyncio.Event().wait()
        return await claim(run_id, seen)

    after.journal.claim = fails
    for name in names:
        await after.says("done", name=name, tools=[asking(pen.write)])
    after.journal.claim = hangs_the_second_time
    asked = asyncio.create_task(after.start(name="a", run_id="run-a"))
    await asyncio.wait_for(hangs.wait(), 5)
    asked.cancel()
    await asyncio.wait([asked])
    assert [agent.running for agent in after.host.agents.values()] == [0, 0]
    after.journal.claim = claim
    for name in names:
        (approval,) = (await after.host.open(f"run-{name}")).pending_approvals()
        await decided(after, f"run-{name}", approval.id)

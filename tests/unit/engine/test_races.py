"""What comes at the same moment: bursts, cancels, reloads and failures in the middle of accepting and ending runs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from kadre.base.errors import Conflict, Refused, TooMany, Unavailable
from kadre.engine import events as ev
from kadre.engine.memory.inmemory import InMemoryJournal
from kadre.engine.memory.port import Created, NewRun
from kadre.engine.observe import Unobserved
from kadre.engine.runner import END_RETRY_SECONDS
from kadre.engine.sweeping import SWEEP_SECONDS
from kadre.engine.tools.agent import AgentToolset
from kadre.engine.tools.functions import Functions
from kadre.engine.tools.port import CallContext, ToolOutput
from kadre.plan.types import AgentKey, AgentPlan, AgentTool, Limits, MemoryPlan
from tests.support.scene import Asking, Scene


class Gated(InMemoryJournal):
    """Creates runs when it is let: all that wait at once, as one commit would."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.waiting = 0

    async def create(self, new: NewRun, first: Sequence[ev.Event]) -> Created:
        self.waiting += 1
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            await super().create(new, first)  # it was on its way
            raise
        return await super().create(new, first)


@pytest.fixture
def gated() -> Scene:
    return Scene(Gated())


async def burst(scene: Scene, count: int, **more: Any) -> list[Any]:
    """So many messages at once, let through together; what each came to."""
    journal: Any = scene.journal
    starts = [asyncio.ensure_future(scene.start(f"message {number}", **more)) for number in range(count)]
    await asyncio.sleep(0)
    journal.gate.set()
    return await asyncio.gather(*starts, return_exceptions=True)


@pytest.mark.parametrize("limits", [Limits(max_concurrent_runs=2), Limits(requests_per_minute=2)])
async def test_a_burst_is_held_to_the_limit_while_its_runs_are_being_accepted(gated: Scene, limits: Limits) -> None:
    await gated.says("one", "two", limits=limits)
    came = await burst(gated, 5)
    assert [type(each) for each in came[2:]] == [TooMany] * 3
    for live in came[:2]:
        await asyncio.wait_for(live.wait(), 5)
    assert gated.host.agents[AgentKey("default", "a")].running == 0


async def test_a_message_that_was_refused_takes_no_place(scene: Scene) -> None:
    await scene.says(asyncio.Event(), limits=Limits(on_busy="reject", max_concurrent_runs=2, requests_per_minute=3))
    await scene.start(session_id="s")
    for _ in range(4):
        with pytest.raises(Conflict):
            await scene.start(session_id="s")
    await scene.start(session_id="other")


async def test_a_run_cancelled_before_its_first_step_ends(scene: Scene) -> None:
    await scene.says("never")
    live = await scene.start()
    async with asyncio.timeout(5):
        ended = await scene.host.cancel(live.info.run_id)
    assert ended.finished is not None
    assert ended.finished.status == "cancelled"


async def test_a_message_interrupts_one_accepted_in_the_same_commit(gated: Scene) -> None:
    await gated.says("the last", limits=Limits(on_busy="interrupt"))
    first, second = await burst(gated, 2, session_id="s")
    await asyncio.wait_for(second.wait(), 5)
    assert first.finished.status == "cancelled"
    assert second.answer() == "the last"


async def test_a_caller_who_leaves_while_its_run_is_accepted_leaves_no_run_open(gated: Scene) -> None:
    await gated.says("never")
    start = asyncio.ensure_future(gated.start(run_id="r", session_id="s"))
    await asyncio.sleep(0)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    for _ in range(10):
        await asyncio.sleep(0)
    run = await gated.journal.run("r")
    assert run is not None
    assert run.status == "cancelled"
    assert gated.host.agents[AgentKey("default", "a")].running == 0


async def test_an_agent_replaced_while_a_run_is_accepted_is_closed_after_that_run(gated: Scene) -> None:
    go_on = asyncio.Event()
    model = await gated.says(go_on, "from the old one")
    start = asyncio.ensure_future(gated.start())
    await asyncio.sleep(0)
    await gated.says("new")
    assert not model.closed
    gated.journal.gate.set()  # type: ignore[attr-defined] # the fixture's journal is a Gated one
    live = await start
    go_on.set()
    await asyncio.wait_for(live.wait(), 5)
    assert live.answer() == "from the old one"
    await asyncio.sleep(0)
    assert model.closed


async def test_a_run_id_of_another_agents_run_is_taken_while_that_run_is_under_way(scene: Scene) -> None:
    await scene.says(asyncio.Event(), name="a")
    await scene.says("b's own", name="b")
    await scene.start(name="a", run_id="r")
    with pytest.raises(Refused, match="taken"):
        await scene.start(name="b", run_id="r")


class Slow(Functions):
    """A call that goes on until the test lets it."""

    def __init__(self, go_on: asyncio.Event) -> None:
        super().__init__(self.work)
        self.called: list[str] = []
        self.ended: list[str] = []
        self.go_on = go_on

    def work(self, what: str) -> str:
        """Do it."""
        return what

    async def call(self, name: str, arguments: dict[str, Any], context: CallContext) -> ToolOutput:
        what = arguments["what"]
        self.called.append(what)
        if what != "quick":
            await self.go_on.wait()
        self.ended.append(what)
        return ToolOutput(what)


async def test_when_one_calls_end_cannot_be_recorded_no_other_call_goes_on(scene: Scene) -> None:
    go_on = asyncio.Event()
    tools = Slow(go_on)
    calls: Any = [("work", {"what": what}) for what in ("slow", "quick", "later")]
    await scene.says(calls, tools=[tools], limits=Limits(max_parallel_tools=2))
    journal: Any = scene.journal
    append = journal.append

    async def full(run_id: str, seq: int, events: Sequence[ev.Event], epoch: int) -> None:
        if any(isinstance(event, ev.ToolEnd) for event in events):
            raise Unavailable("the disk is full", reason="JournalUnavailable")
        await append(run_id, seq, events, epoch)

    journal.append = full
    live = await scene.start()
    with pytest.raises(Unavailable):
        await asyncio.wait_for(live.wait(), 5)
    go_on.set()
    await asyncio.sleep(0)
    assert tools.called == ["slow", "quick"]
    assert tools.ended == ["quick"]


async def test_a_run_whose_end_could_not_be_recorded_ends_when_the_store_is_well_again(scene: Scene) -> None:
    await scene.says("lost", "found")
    journal: Any = scene.journal
    append = journal.append

    async def full(*_: Any) -> None:
        raise Unavailable("the disk is full", reason="JournalUnavailable")

    journal.append = full
    first = await scene.start(session_id="s")
    with pytest.raises(Unavailable):
        await asyncio.wait_for(first.wait(), 5)
    second = await scene.start(session_id="s")
    journal.append = append
    await scene.clock.advance(END_RETRY_SECONDS + 1)
    await asyncio.wait_for(second.wait(), 5)
    assert second.answer() == "found"
    assert [run.status for run in await journal.runs()] == ["completed", "completed"]


async def test_a_decision_that_cannot_be_recorded_does_not_leave_the_run_waiting(scene: Scene) -> None:
    def write() -> str:
        """Write."""
        return "written"

    await scene.says([("write", {})], "done", tools=[Asking(write)])
    live = await scene.start()
    approval = await scene.approval(live)
    journal: Any = scene.journal

    async def full(*_: Any) -> None:
        raise Unavailable("the disk is full", reason="JournalUnavailable")

    journal.append = full
    with pytest.raises(Unavailable):
        await scene.host.approve(live.info.run_id, approval.id, "allow", "local")
    with pytest.raises(Unavailable):
        await asyncio.wait_for(live.wait(), 5)


class Encoding(InMemoryJournal):
    """Writes JSON, as a store on a disk does."""

    async def append(self, run_id: str, expected_seq: int, events: Sequence[ev.Event], epoch: int) -> None:
        ev.encode_lines(events)
        await super().append(run_id, expected_seq, events, epoch)


async def test_a_run_whose_last_words_cannot_be_written_ends_without_them() -> None:
    scene = Scene(Encoding())
    await scene.says("no UTF-8: \udc80", "well")
    live = await scene.ask(session_id="s")
    assert live.finished is not None
    assert live.finished.status == "failed"
    error = live.error()
    assert error is not None
    assert error.reason == "InternalError"
    assert (await scene.ask(session_id="s")).answer() == "well"


async def test_what_a_tool_says_that_is_no_utf8_is_made_so() -> None:
    def names() -> str:
        """List files, one of which has an odd name."""
        return "odd\udc80name"

    scene = Scene(Encoding())
    model = await scene.says([("names", {})], "done", tools=[Functions(names)])
    live = await scene.ask()
    assert live.answer() == "done"
    assert model.requests[1].messages[-1].content == "odd?name"


async def test_a_decision_under_way_when_the_run_is_cancelled_is_the_only_one(scene: Scene) -> None:
    def write() -> str:
        """Write."""
        return "written"

    await scene.says([("write", {})], tools=[Asking(write)])
    live = await scene.start()
    approval = await scene.approval(live)
    journal: Any = scene.journal
    append, committing, go_on = journal.append, asyncio.Event(), asyncio.Event()

    async def slow(*words: Any) -> None:
        journal.append = append
        committing.set()
        await go_on.wait()
        await append(*words)

    journal.append = slow
    approving = asyncio.create_task(scene.host.approve(live.info.run_id, approval.id, "allow", "local"))
    await asyncio.wait_for(committing.wait(), 5)
    cancelling = asyncio.create_task(scene.host.cancel(live.info.run_id))
    for _ in range(5):
        await asyncio.sleep(0)
    go_on.set()
    await asyncio.wait_for(asyncio.gather(approving, cancelling), 5)
    decided = [event.by for event in live.events if isinstance(event, ev.ApprovalDecided)]
    assert decided == ["local"]


async def test_messages_that_cannot_be_taken_are_told_to_who_runs_it_but_not_each(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    await scene.says()
    journal: Any = scene.journal

    async def full(*_: Any) -> None:
        raise Unavailable("the disk is full", reason="JournalUnavailable")

    journal.create = full
    for _ in range(3):
        with pytest.raises(Unavailable):
            await scene.start()
    assert caplog.messages == ["a message to default/a was refused: the disk is full"]


async def test_sessions_are_still_forgotten_after_the_store_failed_once(scene: Scene) -> None:
    await scene.says("hello", memory=MemoryPlan(session_ttl=60))
    journal: Any = scene.journal
    delete, asked = journal.delete_sessions_before, 0

    async def failing(*words: Any) -> int:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise Unavailable("the disk is full", reason="JournalUnavailable")
        count: int = await delete(*words)
        return count

    journal.delete_sessions_before = failing
    scene.host.sweep_expired_sessions()
    for _ in range(3):
        await scene.clock.advance(SWEEP_SECONDS + 1)
    assert asked >= 2
    await scene.host.aclose(0)


async def test_a_delegation_past_the_deadline_cancels_what_was_delegated(scene: Scene) -> None:
    await scene.says(asyncio.Event(), name="worker")
    tool = AgentToolset(AgentTool(name="worker", agent=AgentKey("default", "worker")), scene.host, 5)
    await scene.says([("worker", {"message": "?"})], name="boss", tools=[tool], limits=Limits(deadline=0.05))
    live = await scene.ask(name="boss")
    (start,) = [event for event in live.events if isinstance(event, ev.DelegateStart)]
    child = await scene.host.open(start.child_run_id)
    assert (await asyncio.wait_for(child.wait(), 5)).status == "cancelled"


class Active(Unobserved):
    """Counts runs under way, as a gauge does."""

    def __init__(self) -> None:
        self.now = 0

    def run_started(self, plan: AgentPlan, session: str) -> None:
        self.now += 1

    def run_finished(self, plan: AgentPlan, session: str, status: ev.RunStatus, seconds: float, reason: str) -> None:
        self.now -= 1


async def test_a_run_taken_up_after_a_restart_is_counted_as_under_way(scene: Scene) -> None:
    def write() -> str:
        """Write."""
        return "written"

    await scene.says([("write", {})], tools=[Asking(write)])
    live = await scene.start()
    approval = await scene.approval(live)
    after = Scene(scene.journal)
    after.host.observer = active = Active()
    await after.says("done", tools=[Asking(write)])
    await after.host.recover()
    assert active.now == 1
    await after.host.approve(live.info.run_id, approval.id, "allow", "local")
    again = await after.host.open(live.info.run_id)
    await asyncio.wait_for(again.wait(), 5)
    assert active.now == 0


async def test_a_childs_question_beside_the_parents_own_is_decided_by_the_child_after_a_restart(scene: Scene) -> None:
    written: list[str] = []

    def write(text: str) -> str:
        """Write it."""
        written.append(text)
        return "written"

    def agents(of: Scene) -> tuple[AgentToolset, Asking]:
        tool = AgentToolset(AgentTool(name="writer", agent=AgentKey("default", "writer")), of.host, 5)
        return tool, Asking(write)

    await scene.says([("write", {"text": "child's"})], name="writer", tools=[Asking(write)])
    both: Any = [("writer", {"message": "?"}), ("write", {"text": "boss's"})]
    await scene.says(both, name="boss", tools=agents(scene))
    live = await scene.start(name="boss")
    own = await scene.approval(live)
    await scene.host.approve(live.info.run_id, own.id, "allow", "local")
    await scene.until(live, lambda: any(question.id != own.id for question in live.pending_approvals()))
    (childs,) = live.pending_approvals()

    after = Scene(scene.journal)
    await after.says("child done", name="writer", tools=[Asking(write)])
    await after.says("all done", name="boss", tools=agents(after))
    await after.host.recover()
    again = await after.host.open(live.info.run_id)
    await after.host.approve(live.info.run_id, childs.id, "allow", "local")
    await asyncio.wait_for(again.wait(), 5)
    assert written == ["boss's", "child's"]
    assert again.answer() == "all done"
    questions = [event for event in again.events if isinstance(event, ev.ApprovalRequired)]
    assert [question.approvals[0].id for question in questions] == [own.id, childs.id]

"""Whatever a store does, and whenever a run is cut short, a run ends or is said to be lost, and does nothing twice.

One story (two tools at once, of which one is another agent; two questions to a person; texts too large for an event) is
told again for every call to its store, with a fault there, and for every step of the event loop, with an end there.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from itertools import count
from typing import Any, get_args

import pytest

from kadre.base.clock import FakeClock
from kadre.base.errors import KadreError
from kadre.engine import events as ev
from kadre.engine.accepting import Ask
from kadre.engine.agent import HostedAgent
from kadre.engine.host import Host
from kadre.engine.live import Live
from kadre.engine.messages import Message, ToolCall, Usage
from kadre.engine.models.port import ModelRequest, Reply, TextDelta
from kadre.engine.runner import END_RETRY_SECONDS
from kadre.engine.tools.agent import AgentToolset
from kadre.engine.tools.port import CallContext, ToolOutput, Toolset
from kadre.plan.types import AgentKey, AgentPlan, AgentTool, Limits, ModelPlan
from tests.support.scene import Asking
from tests.support.unsteady import Fault, Unsteady

BOSS = AgentKey("default", "boss")
LARGE = "word " * 15_000
LONG = 20.0
"""Seconds: nothing here waits for so long, unless it hangs."""
CALLS = {
    "boss": (("write", {"text": "from the boss"}), ("worker", {"message": "go"})),
    "worker": (("write", {"text": "from the worker"}),),
}
"""What each agent does when it is told to go."""


class Reflex:
    """Told to go it makes its agent's calls; anything else it answers."""

    def __init__(self, name: str) -> None:
        self._calls = CALLS[name]
        self.closed = 0

    async def call(self, request: ModelRequest) -> AsyncGenerator[TextDelta | Reply, None]:
        assert not self.closed
        last = request.messages[-1]
        await asyncio.sleep(0)
        yield TextDelta("well")
        if last.role == "user" and last.content == "go":
            calls = tuple(ToolCall(f"call-{name}", name, json.dumps(given)) for name, given in self._calls)
            yield Reply(Message("assistant", LARGE, calls), Usage(1, 1, 2), "tool_calls")
        else:
            yield Reply(Message("assistant", "well done"), Usage(1, 1, 2))

    async def aclose(self) -> None:
        self.closed += 1


class Pen(Asking):
    """Writes once a call, and only what was recorded as begun and allowed."""

    def __init__(self, journal: Unsteady) -> None:
        super().__init__(self.write)
        self._journal = journal
        self.written: list[str] = []
        self.wrong: list[str] = []

    def write(self, text: str) -> str:
        """Write it."""
        return f"{text}: {LARGE}"

    async def call(self, name: str, arguments: dict[str, Any], context: CallContext) -> ToolOutput:
        events = self._journal.kept(context.run_id)
        asked = [one for event in events if isinstance(event, ev.ApprovalRequired) for one in event.approvals]
        allowed = {e.approval_id for e in events if isinstance(e, ev.ApprovalDecided) and e.decision == "allow"}
        if not any(isinstance(e, ev.ToolStart) and e.tool_call.id == context.tool_call_id for e in events):
            self.wrong.append(f"{context.key} is sent and not recorded as sent")
        if not any(one.tool_call.id == context.tool_call_id and one.id in allowed for one in asked):
            self.wrong.append(f"{context.key} is sent and not allowed")
        if context.key in self.written:
            self.wrong.append(f"{context.key} is sent twice")
        self.written.append(context.key)
        await asyncio.sleep(0)
        return await super().call(name, arguments, context)


class Story:
    """A host with its agents on a store that may outlive it, a caller and a person who allows everything."""

    def __init__(self, journal: Unsteady, pen: Pen | None = None) -> None:
        self.journal = journal
        self.pen = pen or Pen(journal)
        self.clock = FakeClock()
        self.host = Host([journal], clock=self.clock)
        self.agents: list[HostedAgent] = []
        self.models: list[Reflex] = []
        self.live: Live | None = None
        self.caller: asyncio.Task[None] | None = None

    async def serve(self, *, on_busy: Any = "queue") -> None:
        """Serve the agents anew."""
        worker = AgentToolset(AgentTool(name="worker", agent=AgentKey("default", "worker")), self.host, 5)
        tools: dict[str, list[Toolset]] = {"boss": [self.pen, worker], "worker": [self.pen]}
        agents = {}
        for name, toolsets in tools.items():
            key = AgentKey("default", name)
            plan = AgentPlan(key=key, model=ModelPlan(provider="scripted", model="m"), limits=Limits(on_busy=on_busy))
            self.models.append(Reflex(name))
            agents[key] = HostedAgent(plan, self.models[-1], toolsets, self.journal, self.clock)
        self.agents.extend(agents.values())
        await self.host.replace(agents)

    def begin(self) -> asyncio.Task[None]:
        """Somebody sends the message, reads what comes and allows what is asked."""
        self.caller = asyncio.create_task(self._tell())
        return self.caller

    async def _tell(self) -> None:
        ask = Ask(agent=BOSS, message="go", session_id="s", run_id="root", stream=True)
        try:
            self.live = await self.host.start(ask)
        except (KadreError, RuntimeError):
            return
        await self.allow(self.live)

    async def allow(self, live: Live) -> None:
        """Allow what the run asks, until it has ended or is lost."""
        seen: set[str] = set()
        while not live.ended:
            new = [approval.id for approval in live.pending_approvals() if approval.id not in seen]
            if not new:
                await live.changed()
            for approval in new:
                seen.add(approval)
                with contextlib.suppress(KadreError, RuntimeError):
                    await self.host.approve("root", approval, "allow", "somebody")

    async def until_struck(self) -> None:
        """Let things go on until the fault has happened, or the caller knows how the run ended."""
        assert self.caller is not None
        for _ in range(10_000):
            if self.journal.struck or self.caller.done():
                return
            await asyncio.sleep(0)

    async def wait_for_worker(self) -> None:
        """Get to where the worker's question waits for a person, and end the host there."""
        live = await self.host.start(Ask(agent=BOSS, message="go", session_id="s", run_id="root", stream=True))
        asked: set[str] = set()
        async with asyncio.timeout(LONG):
            while not (new := [one for one in live.pending_approvals() if one.id not in asked]):
                await live.changed()
            asked.add(new[0].id)
            await self.host.approve("root", new[0].id, "allow", "somebody")
            while not any(one.run_id != "root" for one in live.pending_approvals()):
                await live.changed()
        await self.close()

    async def settle(self) -> None:
        """Let what is under way end; the store is well again once the caller knows how it ended."""
        if self.caller is not None:
            async with asyncio.timeout(LONG):
                await asyncio.gather(self.caller, return_exceptions=True)
        self.journal.heal()
        for _ in range(30):
            await self.clock.advance(END_RETRY_SECONDS)
            for _ in range(10):
                await asyncio.sleep(0)
            if not any(agent.running for agent in self.agents):
                break
        assert [agent.running for agent in self.agents] == [0] * len(self.agents)

    def check(self) -> None:
        """Every run has ended, and its events are in order and complete."""
        assert self.pen.wrong == []
        for info in self.journal.infos():
            events = self.journal.kept(info.run_id)
            assert info.status in ev.ENDED
            assert [event.seq for event in events] == list(range(1, len(events) + 1))
            assert all(len(ev.encode(event)) <= ev.MAX_EVENT_BYTES for event in events)
            finished = [event for event in events if isinstance(event, ev.RunFinished)]
            assert [last.status for last in finished] == [info.status]
            assert events[-1] is finished[0]
            begun = [event.tool_call.id for event in events if isinstance(event, ev.ToolStart)]
            ended = [event.tool_call.id for event in events if isinstance(event, ev.ToolEnd)]
            assert set(begun) == set(ended)
        if self.live is not None and self.live.finished is not None:
            assert list(self.live.events) == list(self.journal.kept("root"))

    async def answers(self) -> None:
        """The session is free again."""
        for name in ("boss", "worker"):
            ask = Ask(agent=AgentKey("default", name), message="still there?", session_id="s")
            async with asyncio.timeout(LONG):
                live = await self.host.start(ask)
                assert (await live.wait()).status == "completed"

    async def close(self) -> None:
        """The host ends, with all that was its own."""
        async with asyncio.timeout(LONG):
            await self.host.aclose(0)
            if self.caller is not None:
                if self.live is None:
                    self.caller.cancel()  # as the server does, which ends next
                await asyncio.gather(self.caller, return_exceptions=True)
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert [agent.running for agent in self.agents] == [0] * len(self.agents)
        assert [model.closed for model in self.models] == [1] * len(self.models)

    async def goes_on(self) -> None:
        """Another host takes over the store; what waits for a person is decided and ends."""
        self.journal.heal()
        after = Story(self.journal, self.pen)
        await after.serve()
        await after.host.recover()
        async with asyncio.timeout(LONG):
            with contextlib.suppress(KadreError):
                await after.allow(await after.host.open("root"))
        await after.settle()
        after.check()
        await after.answers()
        await after.close()


@contextlib.contextmanager
def told(story: Story, where: str) -> Any:
    """Say of a failure where it was."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"{where}, {len(story.journal.calls)} calls: {story.journal.calls}")
        raise


async def test_the_story_ends_well_where_nothing_goes_wrong() -> None:
    story = Story(Unsteady())
    await story.serve()
    await story.begin()
    await story.settle()
    story.check()
    assert story.live is not None
    assert story.live.answer() == "well done"
    assert len(story.pen.written) == 2
    await story.answers()
    await story.close()


@pytest.mark.parametrize("fault", ["fails", "is down", "breaks"])
async def test_a_store_that_fails_at_any_call_loses_no_run(fault: Fault) -> None:
    for number in count(1):
        story = Story(Unsteady(fault, number))
        await story.serve()
        story.begin()
        with told(story, f"{fault} at call {number}"):
            await story.settle()
            story.check()
            await story.answers()
            await story.close()
        if not story.journal.struck:
            return


async def cancel(story: Story) -> None:
    """Somebody ends the run."""
    with contextlib.suppress(KadreError):
        await story.host.cancel("root")


async def leave(story: Story) -> None:
    """The caller goes away, whatever it was doing."""
    assert story.caller is not None
    story.caller.cancel()
    await asyncio.sleep(0)
    if story.live is not None and not story.live.ended:
        await cancel(story)


async def reload(story: Story) -> None:
    """The files changed."""
    await story.serve()


async def interrupt(story: Story) -> None:
    """Another message takes the session."""
    with contextlib.suppress(KadreError):
        ask = Ask(agent=BOSS, message="instead", session_id="s")
        await (await story.host.start(ask)).wait()


Ending = Callable[[Story], Awaitable[None]]


@pytest.mark.parametrize("ending", [cancel, leave])
@pytest.mark.parametrize("fault", ["is stuck before", "is stuck after"])
async def test_a_run_cut_short_while_its_store_is_stuck_ends(fault: Fault, ending: Ending) -> None:
    for number in count(1):
        story = Story(Unsteady(fault, number))
        await story.serve()
        caller = story.begin()
        with told(story, f"{fault} at call {number}"):
            stuck = story.journal.stuck
            here: set[asyncio.Future[Any]] = {stuck, caller}
            await asyncio.wait(here, timeout=LONG, return_when=asyncio.FIRST_COMPLETED)
            if not stuck.done():
                return
            cut = asyncio.ensure_future(leave(story) if stuck.result() is caller else ending(story))
            for _ in range(20):  # its cancellation arrives where the store is stuck
                await asyncio.sleep(0)
            story.journal.heal()
            await cut
            await story.settle()
            story.check()
            await story.answers()
            await story.close()


@pytest.mark.parametrize("fault", get_args(Fault))
async def test_a_process_that_ends_on_an_unsteady_store_leaves_what_the_next_one_can_end(fault: Fault) -> None:
    for number in count(1):
        story = Story(Unsteady(fault, number))
        await story.serve()
        caller = story.begin()
        with told(story, f"{fault} at call {number}"):
            await story.until_struck()
            if not story.journal.struck:
                await story.close()
                return
            await asyncio.sleep(0)
            if story.journal.stuck.done() and story.journal.stuck.result() is caller:
                caller.cancel()
            await story.close()
            await story.goes_on()


@pytest.mark.parametrize("ending", [cancel, leave, reload, interrupt])
async def test_a_run_may_be_cut_short_at_any_step(ending: Ending) -> None:
    for steps in count():
        story = Story(Unsteady())
        await story.serve(on_busy="interrupt" if ending is interrupt else "queue")
        caller = story.begin()
        for _ in range(steps):
            await asyncio.sleep(0)
        ended = caller.done()
        with told(story, f"after {steps} steps"):
            async with asyncio.timeout(LONG):
                await ending(story)
            await story.settle()
            story.check()
            await story.answers()
            await story.close()
        if ended:
            return


async def test_a_process_may_end_at_any_step() -> None:
    for steps in count():
        story = Story(Unsteady())
        await story.serve()
        caller = story.begin()
        for _ in range(steps):
            await asyncio.sleep(0)
        ended = caller.done()
        with told(story, f"after {steps} steps"):
            await story.close()
            await story.goes_on()
        if ended:
            return


@pytest.mark.parametrize("fault", ["fails", "breaks"])
async def test_what_waits_is_taken_up_though_the_store_fails_once_while_it_is(fault: Fault) -> None:
    for number in count(1):
        story = Story(Unsteady())
        await story.serve()
        await story.wait_for_worker()
        begun = len(story.journal.calls)
        story.journal.fault, story.journal.at = fault, begun + number
        after = Story(story.journal, story.pen)
        await after.serve()
        with told(after, f"{fault} at call {number}"):
            try:
                await after.host.recover()
            except (KadreError, RuntimeError):
                await after.serve()  # the next change of the files, say
            live = await after.host.open("root")
            if live.ended and live.finished is None:  # it could not be taken up: who decides has it tried again
                for approval in live.pending_approvals():
                    await after.host.approve("root", approval.id, "allow", "somebody")
                live = await after.host.open("root")
            async with asyncio.timeout(LONG):
                with contextlib.suppress(KadreError):
                    await after.allow(live)
            await after.settle()
            after.check()
            await after.answers()
            await after.close()
        if not story.journal.struck:
            assert len(after.pen.written) == 2
            return

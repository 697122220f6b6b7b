"""What a host promises of a run: its events, its bounds, its end."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from kadre.base.clock import FakeClock
from kadre.base.errors import Conflict, ModelError, NotFound, ToolError, TooMany, Unavailable
from kadre.engine import events as ev
from kadre.engine.messages import Message, ToolCall, ToolSpec, Usage
from kadre.engine.models.port import Reply
from kadre.engine.tools.functions import Functions
from kadre.engine.tools.port import CallContext, ToolOutput
from kadre.plan.types import Limits, Notice


def echo(text: str) -> str:
    """Say it again."""
    return text


class Stuck(Functions):
    """A tool that is sent and never answers."""

    def __init__(self) -> None:
        super().__init__(echo)
        self.sent = asyncio.Event()

    async def call(self, name: str, arguments: dict[str, Any], context: CallContext) -> ToolOutput:
        self.sent.set()
        await asyncio.Event().wait()
        raise AssertionError


async def test_a_hello_turn_is_told_in_four_kinds_of_events(scene: Any) -> None:
    await scene.says("hello")
    live = await scene.ask()
    assert scene.types(live) == ["run_started", "user_message", "usage", "assistant_message", "run_finished"]
    assert [event.seq for event in live.events] == [1, 2, 3, 4, 5]
    assert live.answer() == "hello"
    assert live.finished == live.events[-1]
    assert live.finished.usage == Usage(10, 2, 12)
    assert list(await scene.journal.events(live.info.run_id)) == live.events


async def test_what_was_said_before_in_the_session_is_sent_to_the_model(scene: Any) -> None:
    model = await scene.says("hello", "again", system_prompt="be kind")
    first = await scene.ask("one", session_id="s1")
    await scene.ask("two", session_id="s1")
    assert first.info.order == 1
    assert model.requests[1].messages == (
        Message("system", "be kind"),
        Message("user", "one"),
        Message("assistant", "hello"),
        Message("user", "two"),
    )


async def test_tool_results_reach_the_model_and_the_events(scene: Any) -> None:
    model = await scene.says([("echo", {"text": "hi"})], "done", tools=[Functions(echo)])
    live = await scene.ask()
    assert scene.types(live)[2:] == [
        *("usage", "assistant_message", "tool_start", "tool_end"),
        *("usage", "assistant_message", "run_finished"),
    ]
    (state,) = scene.tool_ends(live)
    assert (state.status, state.output, state.arguments) == ("complete", "hi", {"text": "hi"})
    assert model.requests[1].messages[-1].content == "hi"


async def test_calls_of_one_reply_are_made_at_once_and_answered_in_order(scene: Any) -> None:
    both = asyncio.Barrier(2)

    async def meet(name: str) -> str:
        """Return only when the other call is under way too."""
        await both.wait()
        return name

    model = await scene.says([("meet", {"name": "x"}), ("meet", {"name": "y"})], "done", tools=[Functions(meet)])
    await scene.ask()
    assert [message.content for message in model.requests[1].messages[-2:]] == ["x", "y"]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (("echo", "{broken"), "not valid JSON"),
        (("echo", "[1]"), "must be a JSON object"),
        (("ecko", {}), "there is no tool 'ecko'; the tools are: echo"),
    ],
)
async def test_a_call_that_cannot_be_sent_is_an_error_the_model_reads(scene: Any, call: Any, said: str) -> None:
    model = await scene.says([call], "done", tools=[Functions(echo)])
    live = await scene.ask()
    (state,) = scene.tool_ends(live)
    assert state.status == "error"
    assert said in state.error
    assert said in model.requests[1].messages[-1].content
    assert live.finished.status == "completed"


async def test_a_tool_that_fails_is_an_error_the_model_reads_and_the_user_sees(scene: Any) -> None:
    def fail() -> str:
        """Fail."""
        raise OSError("the disk is full")

    model = await scene.says([("fail", {})], "done", tools=[Functions(fail)])
    live = await scene.ask()
    assert "the disk is full" in scene.tool_ends(live)[0].error
    assert "the disk is full" in model.requests[1].messages[-1].content


async def test_a_long_answer_of_a_tool_is_cut_and_says_so(scene: Any) -> None:
    model = await scene.says(
        [("echo", {"text": "x" * 5000})], "done", tools=[Functions(echo)], limits=Limits(max_output_bytes=1000)
    )
    await scene.ask()
    text = model.requests[1].messages[-1].content
    assert text.startswith("x" * 1000)
    assert text.endswith("[cut: 4000 of 5000 bytes left out]")


async def test_a_run_stops_at_its_step_limit(scene: Any) -> None:
    calls = [("echo", {"text": "hi"})]
    await scene.says(calls, calls, calls, tools=[Functions(echo)], limits=Limits(max_steps=2))
    live = await scene.ask()
    assert live.finished.status == "failed"
    assert live.error().reason == "StepLimit"


async def test_a_model_error_fails_the_run_with_its_reason(scene: Any) -> None:
    await scene.says(ModelError("no such key", reason="ModelAuth"))
    live = await scene.ask()
    assert scene.types(live)[-2:] == ["error", "run_finished"]
    assert (live.error().reason, live.error().message) == ("ModelAuth", "no such key")
    assert live.finished.status == "failed"


async def test_a_deadline_ends_a_run_that_hangs(scene: Any) -> None:
    await scene.says(asyncio.Event(), limits=Limits(deadline=0.02))
    live = await scene.ask()
    assert live.finished.status == "failed"
    assert live.error().reason == "DeadlineExceeded"


async def test_a_cancelled_run_ends_as_cancelled_and_what_was_sent_ends_unknown(scene: Any) -> None:
    stuck = Stuck()
    await scene.says([("echo", {"text": "hi"})], tools=[stuck])
    live = await scene.start()
    await asyncio.wait_for(stuck.sent.wait(), 5)
    await scene.host.cancel(live.info.run_id)
    assert live.finished.status == "cancelled"
    (state,) = scene.tool_ends(live)
    assert state.status == "unknown"
    assert "not known" in state.error


async def test_tokens_are_streamed_only_to_those_who_asked(scene: Any) -> None:
    model = await scene.says("one two", "one two")
    live = await scene.start(stream=True)
    seen = [event.content async for event in live.follow() if isinstance(event, ev.Token)]
    assert seen == ["one ", "two"]
    assert model.requests[0].stream
    await scene.ask()
    assert not model.requests[1].stream


async def test_the_same_run_id_returns_the_run_that_is_there(scene: Any) -> None:
    model = await scene.says("hello")
    first = await scene.ask(run_id="run-x")
    again = await scene.ask("something else", run_id="run-x")
    assert again.events == first.events
    assert len(model.requests) == 1


async def test_a_second_message_of_a_session_waits_for_the_first(scene: Any) -> None:
    go = asyncio.Event()
    model = await scene.says(go, "first", "second")
    one = await scene.start("one", session_id="s")
    two = await scene.start("two", session_id="s")
    assert two.events[0].position == 1
    assert not model.requests[1:]
    go.set()
    await asyncio.wait_for(two.wait(), 5)
    assert (one.answer(), two.answer()) == ("first", "second")
    assert model.requests[1].messages[1].content == "first"


async def test_a_busy_session_may_refuse(scene: Any) -> None:
    await scene.says(asyncio.Event(), limits=Limits(on_busy="reject"))
    await scene.start("one", session_id="s")
    with pytest.raises(Conflict) as refused:
        await scene.start("two", session_id="s")
    assert refused.value.reason == "SessionBusy"


async def test_a_busy_session_may_be_interrupted(scene: Any) -> None:
    await scene.says(asyncio.Event(), "second", limits=Limits(on_busy="interrupt"))
    one = await scene.start("one", session_id="s")
    await asyncio.sleep(0)
    two = await scene.start("two", session_id="s")
    scene.models["a"].turns = ["second"]
    await asyncio.wait_for(two.wait(), 5)
    assert one.finished.status == "cancelled"
    assert two.answer() == "second"


async def test_past_its_bound_an_agent_refuses_with_when_to_come_back(scene: Any) -> None:
    await scene.says(asyncio.Event(), limits=Limits(max_concurrent_runs=1))
    await scene.start()
    with pytest.raises(TooMany) as refused:
        await scene.start()
    assert refused.value.retry_after == 1


async def test_requests_and_tokens_past_the_rate_are_refused(scene: Any) -> None:
    await scene.says("x", "y", limits=Limits(requests_per_minute=1))
    await scene.ask()
    with pytest.raises(TooMany, match="1 requests per minute"):
        await scene.ask()
    await scene.says("x", "y", limits=Limits(tokens_per_minute=6))
    await scene.ask()
    with pytest.raises(TooMany, match="6 tokens per minute"):
        await scene.ask()
    await scene.clock.advance(120)
    await scene.ask()


async def test_what_an_agent_does_without_is_among_the_first_events(scene: Any) -> None:
    await scene.says("hello", notices=(Notice(reason="NotSupportedYet", message="no retrieval"),))
    live = await scene.ask()
    assert scene.types(live)[:3] == ["run_started", "system", "user_message"]


async def test_tools_that_cannot_be_reached_are_told_and_the_run_goes_on(scene: Any) -> None:
    class Away(Functions):
        async def specs(self) -> Any:
            raise ToolError("echo-tools is away")

    await scene.says("hello", tools=[Away(echo)])
    live = await scene.ask()
    assert live.finished.status == "completed"
    assert [event.reason for event in live.events if isinstance(event, ev.System)] == ["ToolsUnavailable"]


async def test_an_unknown_agent_run_or_approval_is_not_found(scene: Any) -> None:
    await scene.says("hello")
    with pytest.raises(NotFound):
        await scene.start(name="b")
    with pytest.raises(NotFound):
        await scene.host.open("run-none")


async def test_a_host_that_shuts_down_takes_no_run_and_ends_those_it_has(scene: Any) -> None:
    model = await scene.says(asyncio.Event())
    live = await scene.start()
    await asyncio.sleep(0)
    closing = asyncio.create_task(scene.host.aclose(0.02))
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await scene.start()
    await closing
    assert live.finished.status == "interrupted"
    assert model.closed


async def test_a_replaced_agent_finishes_its_runs_before_it_is_closed(scene: Any) -> None:
    go = asyncio.Event()
    old = await scene.says(go, "old")
    live = await scene.start()
    await asyncio.sleep(0)
    await scene.says("new")
    assert not old.closed
    go.set()
    await asyncio.wait_for(live.wait(), 5)
    await asyncio.sleep(0)
    assert live.answer() == "old"
    assert old.closed
    assert (await scene.ask()).answer() == "new"


async def test_a_run_that_cannot_be_recorded_says_so_and_has_no_further_effect(scene: Any) -> None:
    model = await scene.says([("echo", {"text": "hi"})], "done", tools=[Functions(echo)])

    async def full(*_: Any) -> None:
        raise Unavailable("the disk is full", reason="JournalUnavailable")

    scene.journal.append = full  # the store's own failure, as its port tells it
    live = await scene.start()
    with pytest.raises(Unavailable, match="the disk is full"):
        await asyncio.wait_for(live.wait(), 5)
    assert len(model.requests) == 1


def test_the_scenes_clock_is_one_that_stands_still(scene: Any) -> None:
    assert isinstance(scene.clock, FakeClock)


def note(text: str) -> str:
    """Note it."""
    return text


@pytest.mark.parametrize("kept", [True, False])
async def test_a_cancel_in_the_middle_of_a_commit_leaves_no_gap(scene: Any, kept: bool) -> None:
    await scene.says([("note", {"text": "hi"})], tools=[Functions(note)])
    append, committing = scene.journal.append, asyncio.Event()

    async def slow(*words: Any) -> None:
        scene.journal.append = append
        if kept:
            await append(*words)
        committing.set()
        await asyncio.Event().wait()

    scene.journal.append = slow
    live = await scene.start()
    await asyncio.wait_for(committing.wait(), 5)
    await scene.host.cancel(live.info.run_id)
    assert [event.seq for event in live.events] == list(range(1, len(live.events) + 1))
    assert live.events == list(await scene.journal.events(live.info.run_id))
    assert live.finished is not None
    assert live.finished.status == "cancelled"


@pytest.mark.parametrize("when", ["put_blob", "append"])
async def test_a_cancel_and_then_the_hosts_end_in_the_middle_of_a_commit_leave_no_gap(scene: Any, when: str) -> None:
    await scene.says([("note", {"text": "word " * 20_000})], tools=[Functions(note)])
    go_on, committing, asking = getattr(scene.journal, when), asyncio.Event(), asyncio.Event()
    run = scene.journal.run

    async def slow(*words: Any) -> None:
        setattr(scene.journal, when, go_on)
        committing.set()
        await asyncio.Event().wait()

    async def asked(run_id: str) -> Any:
        scene.journal.run = run
        asking.set()
        await asyncio.Event().wait()

    setattr(scene.journal, when, slow)
    scene.journal.run = asked
    live = await scene.start()
    await asyncio.wait_for(committing.wait(), 5)
    first = asyncio.create_task(scene.host.cancel(live.info.run_id))
    if when == "append":  # else nothing can have been written: nobody asks
        await asyncio.wait_for(asking.wait(), 5)
    scene.journal.run = run
    await asyncio.wait_for(scene.host.aclose(0), 5)
    await first
    assert live.finished is not None
    assert live.finished.status == "cancelled"  # what was wished for first
    assert live.events == list(await scene.journal.events(live.info.run_id))
    assert (await scene.journal.run(live.info.run_id)).status == live.finished.status


async def test_an_answer_too_large_for_an_event_is_still_given_whole(scene: Any) -> None:
    answer = "word " * 40_000
    await scene.says(answer)
    live = await scene.ask(run_id="run-1")
    assert live.answer() == answer
    assert all(len(ev.encode(event)) <= ev.MAX_EVENT_BYTES for event in live.events)
    assert (await scene.host.open("run-1")).answer() == answer


async def test_calls_that_share_an_id_are_calls_of_their_own(scene: Any, asking: Any) -> None:
    said: list[str] = []

    def write(text: str) -> str:
        said.append(text)
        return f"wrote {text}"

    model = await scene.says([("write", {"text": "a"}), ("write", {"text": "b"})], "done", tools=[asking(write)])
    call = model.call

    async def numbering(request: Any) -> Any:
        async for piece in call(request):
            if isinstance(piece, Reply):
                calls = tuple(ToolCall("call_0", call.name, call.arguments) for call in piece.message.tool_calls)
                yield Reply(Message("assistant", piece.message.content, calls), piece.usage)
            else:
                yield piece

    model.call = numbering
    live = await scene.start()
    await scene.until(live, lambda: bool(live.pending_approvals()))
    one, two = live.pending_approvals()
    await scene.host.approve(live.info.run_id, one.id, "allow", "me")
    await scene.host.approve(live.info.run_id, two.id, "deny", "me")
    await asyncio.wait_for(live.wait(), 5)
    assert said == ["a"]
    results = [message.content for message in model.requests[1].messages if message.role == "tool"]
    assert results == ["wrote a", "Error: this call was denied by me"]


async def test_arguments_that_are_nested_too_deeply_are_an_error_the_model_reads(scene: Any) -> None:
    deep = '{"text": ' + "[" * 100_000 + "]" * 100_000 + "}"
    await scene.says([("echo", deep)], "done", tools=[Functions(echo)])
    live = await scene.ask()
    assert "not valid JSON" in scene.tool_ends(live)[0].error
    assert live.answer() == "done"


class Named(Functions):
    """A server whose tool has that name there."""

    def __init__(self, name: str, server: str) -> None:
        super().__init__(echo)
        self.name = name
        self.server = server
        self.called: list[str] = []

    async def specs(self) -> Sequence[ToolSpec]:
        return [msgspec.structs.replace(spec, name=self.name, server=self.server) for spec in await super().specs()]

    async def call(self, name: str, arguments: dict[str, Any], context: CallContext) -> ToolOutput:
        self.called.append(name)
        return await super().call("echo", arguments, context)


async def test_tools_are_offered_by_names_that_providers_accept_and_called_by_their_own(scene: Any) -> None:
    given = ["a.b", "a_b", "a_b", "a_b", "weird name/é", "x" * 100, "x" * 99 + "y"]
    toolsets = [Named(name, "s") for name in given]
    model = await scene.says("done", tools=toolsets)
    await scene.ask()
    offered = [spec.name for spec in model.requests[0].tools]
    assert len(set(offered)) == len(given)
    assert all(re.fullmatch("[a-zA-Z0-9_-]{1,64}", name) for name in offered)
    model.turns = [[(name, {"text": "hi"}) for name in offered], "done"]
    await scene.ask()
    assert [toolset.called for toolset in toolsets] == [[name] for name in given]

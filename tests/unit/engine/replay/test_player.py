"""A recorded run is played again by the agent as it is now: the same where nothing changed, else it shows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest

from kadre.base.errors import BadRequest, ModelError, ToolError
from kadre.engine import events as ev
from kadre.engine.live import Live
from kadre.engine.memory import spill
from kadre.engine.memory.inmemory import InMemoryJournal
from kadre.engine.messages import Message
from kadre.engine.models.scripted import Scripted
from kadre.engine.replay import case as cases
from kadre.engine.replay.case import Asked, Call, Case, Failure, Reply, Tool
from kadre.engine.replay.player import play
from kadre.engine.tools.functions import Functions
from kadre.engine.tools.port import Toolset
from kadre.local.cases import difference
from kadre.plan.types import (
    A2aTool,
    AgentKey,
    AgentPlan,
    AgentTool,
    ApiTool,
    ApprovalPlan,
    CodeTool,
    EmbeddingPlan,
    HumanTool,
    Limits,
    McpTools,
    MemoryPlan,
    ModelPlan,
    RetrievalTool,
    VectorsPlan,
)
from tests.support.scene import Asking, Scene, Turn

GRANTED = McpTools(name="desk", url="http://desk:80", granted=True)
BARE = McpTools(name="desk", url="http://desk:80")


def plan(*tools: Any, **more: Any) -> AgentPlan:
    return AgentPlan(key=AgentKey("default", "a"), model=ModelPlan(provider="openai", model="m"), tools=tools, **more)


def look(text: str) -> str:
    """Look."""
    return f"seen {text}"


def fail(text: str) -> str:
    """Fail."""
    raise ToolError(f"no {text} here")


def vanish(text: str) -> str:
    """Vanish."""
    raise ToolError(f"lost {text}", unknown=True)


async def recorded(*turns: Turn, tools: Sequence[Toolset] = (), limits: Limits | None = None, **ask: Any) -> Case:
    scene = Scene()
    await scene.says(*turns, tools=tools, limits=limits)
    return await of(scene, await scene.ask(**ask))


async def of(scene: Scene, live: Live) -> Case:
    return cases.of_events("default/a", [await spill.restore(scene.journal, event) for event in live.events])


async def decided(decide: Callable[[Scene, Live, ev.Approval], Any]) -> Case:
    """A run that asks a person about a call, and is told that."""
    scene = Scene()
    await scene.says([("look", {"text": "x"})], "done", tools=[Asking(look)])
    live = await scene.start()
    await decide(scene, live, await scene.approval(live))
    await asyncio.wait_for(live.wait(), 5)
    return await of(scene, live)


LARGE = "x" * 100_000


@pytest.mark.parametrize(
    ("turns", "limits"),
    [
        (["hello"], Limits()),
        ([[("look", {"text": "x"})], "done"], Limits()),
        ([[("look", {"text": "x"}), ("fail", {"text": "y"}), ("vanish", {"text": "z"})], "done"], Limits()),
        ([[("look", "{oops"), ("look", "[1]"), ("none", {})], "done"], Limits()),
        ([[("look", {"text": "x"})]] * 3 + ["done"], Limits()),
        ([[("look", {"text": LARGE})], LARGE], Limits(max_output_bytes=80_000)),
        ([[("look", {"text": "x"})], ModelError("on strike", reason="ModelOnStrike")], Limits()),
        ([ModelError("on strike", reason="ModelOnStrike")], Limits()),
        ([[("look", {"text": "x"})]] * 3, Limits(max_steps=2)),
        ([[("look", {"text": "x"})] * 3], Limits(max_tool_calls=2)),
    ],
)
async def test_a_run_is_played_as_it_was(turns: list[Turn], limits: Limits) -> None:
    functions = Functions(look, fail, vanish, read_only=True)
    case = await recorded(*turns, tools=[functions], limits=limits)
    read = cases.of_plain(cases.plain(case))
    assert read == case
    tools = tuple(
        Tool(name=spec.name, server="desk", parameters=spec.parameters, read_only=True)
        for spec in await functions.specs()
    )
    case = msgspec.structs.replace(case, tools=tools)
    played = await play(case, plan(GRANTED, limits=limits))
    assert difference(case, played) == ""
    bare = msgspec.structs.replace(case, tools=None)
    if "none" not in str(case.replies):  # what is known of the tools is what was called then
        assert difference(bare, await play(bare, plan(BARE, limits=limits))) == ""


async def test_what_a_person_decided_is_decided_again() -> None:
    async def allow(scene: Scene, live: Live, approval: ev.Approval) -> None:
        await scene.host.approve(live.info.run_id, approval.id, "allow", "ada", "fine")

    async def deny(scene: Scene, live: Live, approval: ev.Approval) -> None:
        await scene.host.approve(live.info.run_id, approval.id, "deny", "bob", "not on a Friday")

    async def expire(scene: Scene, live: Live, approval: ev.Approval) -> None:
        await scene.clock.advance(3601)

    async def cancel(scene: Scene, live: Live, approval: ev.Approval) -> None:
        await scene.host.cancel(live.info.run_id)

    for decide, by in ((allow, "ada"), (deny, "bob"), (expire, "expiry"), (cancel, "end")):
        case = await decided(decide)
        assert case.replies is not None
        (call,) = case.replies[0].calls
        assert call.approval is not None
        assert call.approval.by == by
        assert difference(case, await play(case, plan(BARE))) == "", by


async def test_what_nobody_decided_comes_to_the_default_that_it_has_now() -> None:
    async def expire(scene: Scene, live: Live, approval: ev.Approval) -> None:
        await scene.clock.advance(3601)

    case = await decided(expire)
    lets = plan(BARE, approvals=ApprovalPlan(on_expiry="allow"))
    assert "-      decision: deny\n" in difference(case, await play(case, lets))
    desk = HumanTool(name="desk", default="ask again")
    call = Call(tool="desk", arguments={"question": "?"}, output="nobody is here")
    call = msgspec.structs.replace(call, approval=Asked(decision="allow", by="expiry"))
    case = Case(agent="a", message="hi", replies=(Reply(calls=(call,)), Reply(text="done")))
    assert "+    output: ask again" in difference(case, await play(case, plan(desk)))


async def test_an_output_that_was_cut_is_cut_shorter_where_there_is_less_room_by_now() -> None:
    tools = [Functions(look, read_only=True)]
    limits = Limits(max_output_bytes=80_000)
    case = await recorded([("look", {"text": LARGE})], "done", tools=tools, limits=limits)
    assert difference(case, await play(case, plan(BARE, limits=limits))) == ""
    less = plan(BARE, limits=Limits(max_output_bytes=40_000))
    assert "[cut: " in difference(case, await play(case, less))


@pytest.mark.parametrize("status", ["failed", "interrupted", "cancelled"])
async def test_a_run_that_ended_while_a_question_was_open_ends_the_same_when_it_is_played(status: str) -> None:
    asked = Asked(decision="deny", by="end", note=f"the run was {status}")
    allowed = Asked(decision="allow", by="ada")
    calls = (Call(tool="look", arguments={"text": "x"}, approval=asked), Call(tool="write", approval=allowed))
    error = Failure(reason="DeadlineExceeded", message="the run took longer") if status == "failed" else None
    case = Case(agent="a", message="hi", replies=(Reply(calls=calls),), status=status, error=error)
    played = await play(case, plan(BARE))
    assert difference(case, played) == ""
    assert (played.status, played.error) == (status, error)
    tools = (Tool(name="look", server="desk"), Tool(name="write", server="desk"))
    unasked = await play(msgspec.structs.replace(case, tools=tools), plan(GRANTED))
    assert "-      by: end" in difference(case, unasked)


async def test_a_run_whose_deadline_passed_while_a_person_was_asked_is_played_as_it_was() -> None:
    scene = Scene(Slow())
    await scene.says([("look", {"text": "x"})], "done", tools=[Asking(look)], limits=Limits(deadline=0.05))
    case = await of(scene, await scene.ask())
    assert case.replies is not None
    (call,) = case.replies[0].calls
    assert (case.status, call.approval) == ("failed", Asked(decision="deny", by="end", note="the run was failed"))
    assert case.error is not None
    assert case.error.reason == "DeadlineExceeded"
    assert difference(case, await play(case, plan(BARE))) == ""


class Slow(InMemoryJournal):
    """Takes a question longer than a run may take: the clock stands only once it is written down."""

    async def append(self, run_id: str, expected_seq: int, events: Sequence[ev.Event], epoch: int) -> None:
        if any(isinstance(event, ev.ApprovalRequired) for event in events):
            await super().append(run_id, expected_seq, events, epoch)
            await asyncio.Event().wait()
        await super().append(run_id, expected_seq, events, epoch)


async def test_a_call_that_is_asked_about_now_shows_and_so_does_one_that_is_not() -> None:
    case = await recorded([("look", {"text": "x"})], "done", tools=[Functions(look)])
    tools = (Tool(name="look", server="desk"),)
    case = msgspec.structs.replace(case, tools=None)
    unasked = msgspec.structs.replace(case, tools=tools)
    changed = difference(msgspec.structs.replace(unasked, tools=None), await play(unasked, plan(BARE)))
    assert _lines(changed) == ["+    approval:", "+      decision: asked"]

    async def allow(scene: Scene, live: Live, approval: ev.Approval) -> None:
        await scene.host.approve(live.info.run_id, approval.id, "allow", "ada")

    asked = await decided(allow)
    changed = difference(asked, await play(asked, plan(GRANTED)))
    assert _lines(changed) == ["-    approval:", "-      decision: allow", "-      by: ada"]


async def test_what_else_is_given_to_the_model_shows() -> None:
    scene = Scene()
    await scene.says("hello")
    case = msgspec.structs.replace(
        await of(scene, await scene.ask()),
        prompt="Be kind.",
        history=(Message("user", "one"), Message("assistant", "two"), Message("user", "three")),
        tools=(Tool(name="look", server="desk", read_only=True), Tool(name="write", server="desk")),
    )
    same = plan(GRANTED, system_prompt="Be kind.")
    assert difference(case, await play(case, same)) == ""
    hidden = McpTools(name="desk", url="http://desk:80", capabilities=("read",))
    changed = plan(hidden, system_prompt="Be brief.", memory=MemoryPlan(max_history=1))
    assert _lines(difference(case, await play(case, changed))) == [
        "-prompt: Be kind.",
        "+prompt: Be brief.",
        "-- name: write",
        "-  server: desk",
        "-- role: user",
        "-  content: one",
        "-- role: assistant",
        "-  content: two",
    ]
    other = msgspec.structs.replace(same, model=ModelPlan(provider="openai", model="n"))
    assert _lines(difference(case, await play(case, other))) == ["-model: m", "+model: n"]


async def test_two_tools_of_one_name_stay_apart() -> None:
    servers = [McpTools(name=name, url=f"http://{name}:80", capabilities=("search",)) for name in ("one", "two")]
    tools = (
        Tool(name="search", server="one"),
        Tool(name="two_search", server="two", original="search"),
    )
    replies = (Reply(calls=(Call(tool="two_search", output="found"),)), Reply(text="done"))
    case = Case(agent="a", message="hi", tools=tools, replies=replies, status="completed")
    assert difference(case, await play(case, plan(*servers))) == ""


async def test_a_run_that_ended_before_the_model_was_asked_is_played_to_there() -> None:
    scene = Scene()
    await scene.says(asyncio.Event(), "never")
    first, second = await scene.start(session_id="s"), await scene.start(session_id="s")
    await scene.host.cancel(second.info.run_id)
    await scene.host.cancel(first.info.run_id)
    case = msgspec.structs.replace(await of(scene, second), history=(Message("user", "hi"),))
    assert case.replies == ()
    assert difference(case, await play(case, plan())) == ""


async def test_a_bound_that_is_lowered_or_raised_shows() -> None:
    functions = [Functions(look, read_only=True)]
    case = await recorded([("look", {"text": "x"})], "done", tools=functions)
    lowered = difference(case, await play(case, plan(GRANTED, limits=Limits(max_steps=1))))
    assert "+status: failed" in lowered
    assert "+  reason: StepLimit" in lowered
    case = await recorded([("look", {"text": "x"})], tools=functions, limits=Limits(max_steps=1))
    raised = difference(case, await play(case, plan(GRANTED)))
    assert "-  reason: StepLimit\n" in raised
    assert "+  reason: CaseEnded\n" in raised


async def test_a_run_that_was_ended_from_outside_is_played_as_far_as_it_got() -> None:
    scene, hangs = Scene(), asyncio.Event()
    model = await scene.says([("look", {"text": "x"})], hangs, tools=[Functions(look, read_only=True)])
    live = await scene.start()
    await scene.until(live, lambda: len(model.requests) == 2)
    await scene.host.cancel(live.info.run_id)
    case = await of(scene, live)
    assert case.status == "cancelled"
    assert difference(case, await play(case, plan(GRANTED))) == ""


async def test_another_agents_answer_is_recorded_and_it_is_not_asked() -> None:
    case = Case(
        agent="a",
        message="ask b",
        replies=(Reply(calls=(Call(tool="b", arguments={"message": "hi"}, output="from b"),)), Reply(text="done")),
        status="completed",
    )
    tool = AgentTool(name="b", agent=AgentKey("default", "b"), description="knows")
    played = await play(case, plan(tool))
    assert difference(case, played) == ""
    assert played.tools == (
        Tool(
            name="b",
            server="b",
            description="Ask the agent b: knows",
            parameters=(await _specs(tool)),
            idempotent=True,
        ),
    )


CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOWN = {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]}
API = ApiTool(name="weather", endpoint="http://weather/{city}", parameters=CITY, description="Tells the weather.")
SEARCH = RetrievalTool(
    name="search",
    store=VectorsPlan(type="in-memory", collection="notes"),
    embedding=EmbeddingPlan(model=ModelPlan(provider="openai", model="e")),
    parameters={"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]},
)
CODE, REMOTE = CodeTool(name="python"), A2aTool(name="far", url="http://far:80")


async def test_a_tool_is_offered_as_it_is_declared_now_and_not_as_it_was() -> None:
    case = Case(agent="a", message="hi", replies=(Reply(text="done"),), status="completed")
    was = plan(API, SEARCH, CODE, REMOTE)
    case = msgspec.structs.replace(case, tools=(await play(case, was)).tools)
    assert case.tools is not None
    assert [tool.name for tool in case.tools] == ["weather", "search", "python", "far"]
    assert difference(case, await play(case, was)) == ""
    now = plan(
        msgspec.structs.replace(API, description="Tells nothing.", method="POST"),
        msgspec.structs.replace(SEARCH, description="Search my notes."),
        msgspec.structs.replace(CODE, description="Counts."),
        msgspec.structs.replace(REMOTE, description="Knows."),
    )
    changed = _lines(difference(case, await play(case, now)))
    assert changed[:4] == [
        "-  description: Tells the weather.",
        "+  description: Tells nothing.",
        "-  read_only: true",
        "-  idempotent: true",
    ]
    assert "+  description: Search my notes." in changed
    assert any("Counts." in line for line in changed)
    assert "+  description: 'Ask the agent far: Knows.'" in changed


async def test_what_a_call_was_given_is_held_against_the_parameters_of_today() -> None:
    call = Call(tool="weather", arguments={"city": "Oslo"}, output="rain")
    case = Case(agent="a", message="hi", replies=(Reply(calls=(call,)), Reply(text="done")), status="completed")
    assert difference(case, await play(case, plan(API))) == ""
    moved = msgspec.structs.replace(API, endpoint="http://weather/{town}", parameters=TOWN)
    changed = difference(case, await play(case, plan(moved)))
    assert "-    output: rain" in changed
    assert "the arguments are wrong" in changed


async def test_what_the_card_of_a_remote_agent_said_is_kept() -> None:
    tool = Tool(name="far", server="far", description="Ask the agent far: all about ships")
    case = Case(agent="a", message="hi", tools=(tool,), replies=(Reply(text="done"),), status="completed")
    (offered,) = (await play(case, plan(REMOTE))).tools or ()
    assert offered.description == "Ask the agent far: all about ships"


async def test_a_case_without_replies_has_the_scripted_model_answer_and_its_tools_say_what_they_are_told() -> None:
    case = Case(agent="a", message='call look {"text": "x"}', outputs={"look": "a cat"})
    played = await play(case, plan(GRANTED), Scripted())
    assert played.replies == (
        Reply(calls=(Call(tool="look", arguments={"text": "x"}, output="a cat"),)),
        Reply(text="Here is what I found: a cat"),
    )


def test_a_run_that_goes_on_is_no_case() -> None:
    with pytest.raises(BadRequest, match="has not ended"):
        cases.of_events("default/a", [])


def test_a_decision_is_told_with_its_call() -> None:
    asked = Asked(decision="deny", by="ada", note="no")
    call = Call(tool="look", approval=asked, error="this call was denied by ada: no")
    assert msgspec.to_builtins(call)["approval"] == {"decision": "deny", "by": "ada", "note": "no"}


def _lines(changed: str) -> list[str]:
    """The lines of a difference that are not the same on both sides."""
    return [line for line in changed.splitlines()[2:] if line[:1] in "+-"]


async def _specs(tool: AgentTool) -> dict[str, Any]:
    from kadre.engine.tools.agent import PARAMETERS

    return PARAMETERS

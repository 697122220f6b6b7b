"""Runs of an agent with more tools than its model is sent: found, called, ruled about, and the same after a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from kadre.engine import events as ev
from kadre.engine.live import Live
from kadre.engine.models.port import ModelRequest
from kadre.engine.replay import case as cases
from kadre.engine.replay.player import play
from kadre.engine.tools.functions import Functions
from kadre.local.cases import difference
from kadre.plan.types import AgentPlan, ApprovalPlan, ApprovalRule, Limits, McpTools
from tests.support.scene import Scene, restarted

FEW = Limits(max_tool_tokens=500)
FIND = "find_tools"


def numbered(number: int) -> Callable[[str], str]:
    """A function of its own name."""

    def shelf(text: str) -> str:
        """Look what is on this shelf, which is one of many and has a description of some length to go with it."""
        return f"{text} of {number}"

    shelf.__name__ = f"shelf_{number}"
    return shelf


def water_plants(text: str) -> str:
    """Give water to the plants."""
    return f"watered {text}"


def clock() -> str:
    """What time it is."""
    return "noon"


def tools(*, ask: bool = False) -> list[Any]:
    many = Functions(*(numbered(number) for number in range(40)), water_plants, server="house", read_only=True)
    return [_Asked(many) if ask else many, Functions(clock, server="hall", read_only=True)]


class _Asked:
    """The same, each call of which is asked about."""

    notice = ""
    ready = True

    def __init__(self, inner: Functions) -> None:
        self._inner = inner
        self.call, self.aclose = inner.call, inner.aclose

    async def specs(self) -> Any:
        return [msgspec.structs.replace(spec, ask=True) for spec in await self._inner.specs()]


def names(request: ModelRequest) -> list[str]:
    return [spec.name for spec in request.tools]


def unsent(live: Live) -> list[Any]:
    return [event.tools_unsent for event in live.events if isinstance(event, ev.UsageEvent)]


async def test_what_is_found_is_sent_from_then_on_and_the_saving_is_told(scene: Scene) -> None:
    turns: list[Any] = [[(FIND, {"query": "water the plants"})], [("water_plants", {"text": "fern"})], "done"]
    model = await scene.says(*turns, tools=tools(), limits=FEW)
    live = await scene.ask()
    assert [names(request) for request in model.requests] == [
        ["clock", FIND],
        ["clock", FIND, "water_plants"],
        ["clock", FIND, "water_plants"],
    ]
    assert model.requests[1].tools is model.requests[2].tools
    assert [call.output for call in scene.tool_ends(live)][1] == "watered fern"
    first, second, third = unsent(live)
    assert first > second == third > 1000
    (notice,) = [event for event in live.events if isinstance(event, ev.System)]
    assert notice.reason == "ToolsFoundBySearch"
    assert notice.message.startswith("41 tools are found by find_tools instead of being sent with each request")
    assert f"about {first} tokens" in notice.message


async def test_where_there_is_room_all_are_sent_and_nothing_is_saved(scene: Scene) -> None:
    model = await scene.says("done", tools=tools())
    live = await scene.ask()
    assert len(names(model.requests[0])) == 42
    assert unsent(live) == [msgspec.UNSET]


async def test_a_tool_that_was_not_found_works_and_one_that_is_not_there_is_told_shortly(scene: Scene) -> None:
    model = await scene.says([("shelf_7", {"text": "books"}), ("shelf_99", {})], "done", tools=tools(), limits=FEW)
    live = await scene.ask()
    done, wrong = scene.tool_ends(live)
    assert done.output == "books of 7"
    assert wrong.error == "there is no tool 'shelf_99'; the tools are: clock, find_tools"
    assert names(model.requests[1]) == ["clock", FIND, "shelf_7"]


async def test_what_was_found_is_there_in_the_next_run_of_the_session(scene: Scene) -> None:
    model = await scene.says([(FIND, {"query": "plants"})], "done", "again", tools=tools(), limits=FEW)
    await scene.ask(session_id="s")
    await scene.ask(session_id="s")
    assert names(model.requests[2]) == ["clock", FIND, "water_plants"]


async def test_a_tool_of_that_name_keeps_it(scene: Scene) -> None:
    def find_tools() -> str:
        """In the shed."""
        return "a spade"

    model = await scene.says(
        [(FIND, {}), ("kadre_find_tools", {"query": "plants"})],
        "done",
        tools=[*tools(), Functions(find_tools, server="shed", read_only=True)],
        limits=FEW,
    )
    live = await scene.ask()
    assert [call.output.partition("\n")[2] or call.output for call in scene.tool_ends(live)] == [
        "a spade",
        "water_plants",
    ]
    assert set(names(model.requests[1])) == {"clock", FIND, "kadre_find_tools", "water_plants"}


def ruled(action: Any, *tools: str) -> ApprovalPlan:
    return ApprovalPlan(rules=(ApprovalRule(action=action, tools=tools),))


async def test_rules_hold_for_tools_that_are_found_or_guessed(scene: Scene) -> None:
    guessed: Any = [[(FIND, {"query": "plants"}), ("water_plants", {"text": "fern"})], "done"]
    await scene.says(*guessed, tools=tools(), limits=FEW, approvals=ruled("deny", "water_*"))
    live = await scene.ask()
    nothing, refused = scene.tool_ends(live)
    assert nothing.error.startswith("no tool has to do with 'plants'")
    assert refused.error.startswith("there is no tool 'water_plants'")

    await scene.says(*guessed, name="b", tools=tools(), limits=FEW, approvals=ruled("ask", "water_*"))
    live = await scene.start(name="b")
    approval = await scene.approval(live)
    assert approval.tool_call.name == "water_plants"
    await scene.host.approve(live.info.run_id, approval.id, "deny", "ada")
    await asyncio.wait_for(live.wait(), 30)
    assert [call.status for call in scene.tool_ends(live)] == ["complete", "error"]


@pytest.mark.parametrize("action", ["deny", "ask"])
async def test_looking_for_tools_is_nothing_that_a_rule_is_about(scene: Scene, action: Any) -> None:
    rules = ApprovalPlan(rules=(ApprovalRule(action="allow", tools=("shelf_*",)), ApprovalRule(action=action)))
    await scene.says([(FIND, {"query": "shelf"})], "done", tools=tools(), limits=FEW, approvals=rules)
    (state,) = scene.tool_ends(await scene.ask())
    assert state.status == "complete"
    assert not state.outside


async def test_a_run_that_another_process_goes_on_with_is_sent_the_same_tools() -> None:
    scene = Scene()
    model = await scene.says(
        [(FIND, {"query": "water plants"})], [("water_plants", {"text": "fern"})], tools=tools(ask=True), limits=FEW
    )
    live = await scene.start()
    approval = await scene.approval(live)
    before = names(model.requests[1])
    after = await restarted(scene)
    model = await after.says("done", tools=tools(ask=True), limits=FEW)
    await after.host.recover()
    await after.host.approve(live.info.run_id, approval.id, "allow", "ada")
    again = await after.host.open(live.info.run_id)
    assert (await asyncio.wait_for(again.wait(), 30)).status == "completed"
    assert names(model.requests[0]) == before == ["clock", FIND, "water_plants"]


async def test_a_recorded_run_is_played_with_the_search_it_had() -> None:
    scene = Scene()
    turns: list[Any] = [[(FIND, {"query": "water the plants"})], [("water_plants", {"text": "fern"})], "done"]
    await scene.says(*turns, tools=tools()[:1], limits=FEW)
    live = await scene.ask()
    (agent,) = scene.host.agents.values()
    case = cases.of_events("default/a", live.events)
    case = msgspec.structs.replace(case, tools=cases.offered(await agent.offer()))
    assert FIND not in {tool.name for tool in case.tools or ()}
    plan: AgentPlan = msgspec.structs.replace(
        agent.plan, tools=(McpTools(name="house", url="http://house:80", granted=True),)
    )
    assert difference(case, await play(case, plan)) == ""
    fewer = msgspec.structs.replace(case, tools=tuple(tool for tool in case.tools or () if "water" not in tool.name))
    assert "no tool has to do with" in difference(case, await play(fewer, plan))

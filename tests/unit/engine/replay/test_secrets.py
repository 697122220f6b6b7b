"""A run is played with the secrets that it was recorded with, or without: its model sees none of them."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from kadre.engine.agent import HostedAgent
from kadre.engine.masking import Masks
from kadre.engine.memory import spill
from kadre.engine.messages import Message, ToolCall, ToolSpec
from kadre.engine.replay import case as cases
from kadre.engine.replay.case import Case, Tool
from kadre.engine.replay.player import play
from kadre.engine.tools.functions import Functions
from kadre.engine.tools.port import CallContext, ToolOutput
from kadre.local.cases import difference
from kadre.plan.types import AgentKey, AgentPlan, ApiTool, McpTools, ModelPlan, SecretRef
from tests.support.scene import Scene, Told

pytestmark = [pytest.mark.requirement("record-replay"), pytest.mark.requirement("secrets-masked")]
CANARY = "c4n4ry-12345678"
TOKEN = SecretRef(namespace="default", name="keys", key="token")
DESK = McpTools(name="desk", url="http://desk:80", granted=True, secret_headers={"X-Key": TOKEN})
STRICT: dict[str, Any] = {
    "type": "object",
    "properties": {"code": {"type": "string", "pattern": "^c4n4ry-[0-9]{8}$"}},
    "additionalProperties": False,
}
LOCK = ApiTool(name="lock", endpoint="http://lock", method="POST", parameters=STRICT, secret_headers={"X-Key": TOKEN})


class Kept:
    """A SecretReader with one secret."""

    def read(self, ref: SecretRef) -> str | None:
        return CANARY if ref.key == "token" else None


def plan(*tools: Any) -> AgentPlan:
    return AgentPlan(key=AgentKey("default", "a"), model=ModelPlan(provider="openai", model="m"), tools=tools)


async def recorded(made: AgentPlan, toolset: Any, *turns: Any) -> Case:
    """A run with the secret, whose every question is allowed, as a case that has been read from its file."""
    scene = Scene()
    agent = HostedAgent(made, Told(turns), [toolset], scene.journal, scene.clock, Masks(made, Kept()))
    await scene.host.replace({made.key: agent})
    live = await scene.start()
    approval = await scene.approval(live)
    await scene.host.approve(live.info.run_id, approval.id, "allow", "ada")
    await asyncio.wait_for(live.wait(), 30)
    case = cases.of_events("default/a", [await spill.restore(scene.journal, event) for event in live.events])
    specs = await toolset.specs()
    server = made.tools[0].name
    tools = tuple(Tool(name=each.name, server=server, parameters=each.parameters, read_only=None) for each in specs)
    return cases.of_plain(cases.plain(msgspec.structs.replace(case, tools=tools)))


def show() -> str:
    """Show it."""
    return f"the code is {CANARY}"


def open_door(code: str) -> str:
    """Open it."""
    return f"opened with {code}"


async def test_what_a_person_was_asked_because_of_a_secret_is_asked_again_with_it_and_without() -> None:
    turns = [[("show", {})], [("open_door", {"code": "[secret:keys/token]"})], "done"]
    case = await recorded(plan(DESK), Functions(show, open_door), *turns)
    assert CANARY not in repr(case)
    assert (case.replies or ())[1].calls[0].approval is not None
    for secrets in (Kept(), None):
        assert difference(case, await play(case, plan(DESK), None, secrets)) == ""


class Lock:
    """Takes a code of a certain form, which Kadre holds what it is given against."""

    ready, notice = True, ""

    async def specs(self) -> list[ToolSpec]:
        return [ToolSpec(name="lock", parameters=STRICT, filled=True, server="lock")]

    async def call(self, name: str, arguments: dict[str, Any], context: CallContext) -> ToolOutput:
        return ToolOutput("opened")

    async def aclose(self) -> None:
        pass


async def test_a_placeholder_is_not_taken_for_its_secret_where_that_is_not_there() -> None:
    case = await recorded(plan(LOCK), Lock(), [("lock", {"code": "[secret:keys/token]"})], "done")
    case = msgspec.structs.replace(case, tools=None)
    for secrets in (Kept(), None):
        assert difference(case, await play(case, plan(LOCK), None, secrets)) == ""


async def test_a_model_that_is_played_with_sees_no_secret_of_what_a_case_says() -> None:
    earlier = (
        Message("user", "hi"),
        Message("assistant", "", (ToolCall("c", "show", "{}"),)),
        Message("tool", f"it is {CANARY}", tool_call_id="c", name="show"),
        Message("assistant", "I see"),
    )
    case = Case(agent="a", message="again", history=earlier, outputs={"show": f"the code is {CANARY}"})
    model = Told([[("show", {})], "done"])
    played = await play(case, plan(DESK), model, Kept())
    assert len(model.requests) == 2
    told = [message.content for message in model.requests[1].messages]
    assert told[2] == "it is [secret:keys/token]"
    assert told[-1] == "the code is [secret:keys/token]"
    assert CANARY not in repr(model.requests)
    assert CANARY not in repr(played.replies)

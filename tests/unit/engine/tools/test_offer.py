"""An agent's tools come from several places, which are asked together where they must be asked at all."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from kadre.base.errors import ToolError
from kadre.engine import events as ev
from kadre.engine.agent import HostedAgent
from kadre.engine.masking import Masks
from kadre.engine.messages import ToolSpec
from kadre.engine.tools.allowed import Allowed
from kadre.engine.tools.functions import Functions
from kadre.plan.types import AgentKey, AgentPlan, McpTools, ModelPlan, SecretRef
from tests.support.scene import Scene, Told


def look() -> str:
    return "seen"


class Slow(Functions):
    """Answers, or says that it is away, once three are asked."""

    waiting = 0
    together: asyncio.Event

    def __init__(self, name: str, *, away: bool = False) -> None:
        super().__init__(look, server=name)
        self.name = name
        self.away = away

    @property
    def ready(self) -> bool:
        return False

    async def specs(self) -> Sequence[ToolSpec]:
        Slow.waiting += 1
        if Slow.waiting == 3:
            Slow.together.set()
        await Slow.together.wait()
        if self.away:
            raise ToolError(f"{self.name} is away")
        return await super().specs()


async def test_servers_are_asked_together_and_offered_in_their_order(scene: Scene) -> None:
    Slow.waiting, Slow.together = 0, asyncio.Event()
    tools: list[Any] = [Slow("one"), Functions(look, server="here"), Slow("two", away=True), Slow("three")]
    await scene.says("hello", tools=tools)
    (agent,) = scene.host.agents.values()
    async with asyncio.timeout(5):
        offer = await agent.offer()
    assert [(name, bound.toolset) for name, bound in offer.tools.items()] == [
        ("look", tools[0]),
        ("here_look", tools[1]),
        ("three_look", tools[3]),
    ]
    assert [notice.message for notice in offer.notices] == ["two is away"]


class Counting(Functions):
    """Tells in which task it was asked."""

    asked: asyncio.Task[Any] | None = None

    async def specs(self) -> Sequence[ToolSpec]:
        self.asked = asyncio.current_task()
        return await super().specs()


async def test_what_is_known_is_read_without_a_task(scene: Scene) -> None:
    tools = [Counting(look, server="one"), Counting(look, server="two")]
    await scene.says("hello", tools=tools)
    (agent,) = scene.host.agents.values()
    await agent.offer()
    assert [toolset.asked for toolset in tools] == [asyncio.current_task()] * 2


class Cut(Functions):
    """Leaves some tools out."""

    notice = "the first one is offered"


async def test_what_a_server_left_out_is_told_in_the_run(scene: Scene) -> None:
    await scene.says("hello", tools=[Allowed(Cut(look, server="here"), (), granted=True)])
    live = await scene.ask()
    told = [(event.reason, event.message) for event in live.events if isinstance(event, ev.System)]
    assert told == [("ToolsLeftOut", "the first one is offered")]


class Showing(Functions):
    """Lists what it is logged in with."""

    notice = "the first tool for token-of-the-test is offered"

    async def specs(self) -> Sequence[ToolSpec]:
        parameters = {"properties": {"token-of-the-test": {"enum": ["token-of-the-test", 1]}}}
        (spec,) = await super().specs()
        return [msgspec.structs.replace(spec, description="For token-of-the-test.", parameters=parameters)]


class Failing(Functions):
    """Says that it is away, and what it was asked with."""

    async def specs(self) -> Sequence[ToolSpec]:
        raise ToolError("not with token-of-the-test")


class Secrets:
    """One secret."""

    def read(self, ref: SecretRef) -> str | None:
        return {"TOKEN": "token-of-the-test"}.get(ref.env)


@pytest.mark.requirement("secrets-masked")
async def test_what_a_servers_listing_shows_of_a_secret_is_a_placeholder(scene: Scene) -> None:
    server = McpTools(name="here", url="http://here", secret_headers={"X": SecretRef(env="TOKEN")})
    plan = AgentPlan(key=AgentKey("default", "a"), model=ModelPlan(provider="scripted", model="m"), tools=(server,))
    tools = [Showing(look, server="here"), Failing(look, server="there")]
    agent = HostedAgent(plan, Told([]), tools, scene.journal, scene.clock, Masks(plan, Secrets()))
    offer = await agent.offer()
    (spec,) = offer.specs
    assert spec.description == "For [secret:TOKEN]."
    assert spec.parameters == {"properties": {"[secret:TOKEN]": {"enum": ["[secret:TOKEN]", 1]}}}
    told = [notice.message for notice in offer.notices]
    assert told == ["the first tool for [secret:TOKEN] is offered", "not with [secret:TOKEN]"]

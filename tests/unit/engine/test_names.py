"""A rule that allows a tool by its name means that tool, whatever another server calls its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from kadre.base.errors import ToolError
from kadre.engine import policy
from kadre.engine.messages import ToolSpec
from kadre.engine.tools.port import CallContext, ToolOutput
from kadre.plan.types import ApprovalPlan, ApprovalRule

pytestmark = pytest.mark.requirement("approval-policy")


class Server:
    """Offers tools that nobody has allowed."""

    ready, notice = True, ""

    def __init__(self, name: str, *tools: str) -> None:
        self.name = name
        self.away = False
        self.specs_ = [ToolSpec(name=tool, server=name, ask=True) for tool in tools]

    async def specs(self) -> Sequence[ToolSpec]:
        if self.away:
            raise ToolError(f"{self.name} is away")
        return self.specs_

    async def call(self, name: str, arguments: dict[str, Any], context: CallContext) -> ToolOutput:
        return ToolOutput("done")

    async def aclose(self) -> None:
        pass


def rules(action: Any, *tools: str) -> ApprovalPlan:
    return ApprovalPlan(rules=(ApprovalRule(action=action, tools=tools),))


async def actions(scene: Any, made: ApprovalPlan, *servers: Server, outside: str = "") -> dict[str, str]:
    """What becomes of a call of each tool, by `server/tool`."""
    await scene.says(tools=servers, approvals=made)
    (agent,) = scene.host.agents.values()
    return decided((await agent.offer()).tools.values(), made, outside)


def decided(tools: Any, made: ApprovalPlan, outside: str = "") -> dict[str, str]:
    return {
        f"{bound.spec.server}/{bound.name}": policy.decide(made, bound.spec, bound.name, {}, outside).action
        for bound in tools
    }


async def test_what_a_server_says_of_its_tools_ends_what_a_class_allows_at_others(scene: Any) -> None:
    def server(name: str, trusted: bool = False, listed: bool = True) -> Server:
        made = Server(name)
        made.specs_ = [ToolSpec(name=f"{name}_it", server=name, by_class=True, listed=listed, trusted=trusted)]
        return made

    none = ApprovalPlan()
    alone = await actions(scene, none, server("close"), server("own", listed=False), server("ours", trusted=True))
    assert alone == {"close/close_it": "allow", "own/own_it": "ask", "ours/ours_it": "allow"}
    both = await actions(scene, none, server("close"), server("read"))
    assert both == {"close/close_it": "ask", "read/read_it": "ask"}
    (agent,) = scene.host.agents.values()
    bound = (await agent.offer()).tools["close_it"]
    verdict = policy.decide(none, bound.spec, bound.name, {}, "")
    assert verdict.lapsed
    assert verdict.reason == "the model has read what read says of its tools, and close_it may change something"
    named = msgspec.structs.replace(bound.spec, by_class=False)
    assert policy.decide(none, named, bound.name, {}, "").action == "allow"
    by_name = await actions(scene, rules("allow", "close_it"), server("close"), server("read"))
    assert by_name == {"close/close_it": "allow", "read/read_it": "ask"}


async def test_a_name_that_two_servers_have_allows_neither_and_one_with_its_server_does(scene: Any) -> None:
    servers = Server("github", "close", "list"), Server("other", "close")
    assert await actions(scene, rules("allow", "close", "list"), *servers) == {
        "github/close": "ask",
        "github/list": "allow",
        "other/close": "ask",
    }
    for allowed in ("github/close", "github", "github/c*"):
        found = await actions(scene, rules("allow", allowed), *servers)
        assert (found["github/close"], found["other/close"]) == ("allow", "ask")


async def test_a_rule_that_asks_or_denies_by_a_name_means_every_tool_of_that_name(scene: Any) -> None:
    servers = Server("github", "close"), Server("other", "close")
    assert await actions(scene, rules("ask", "close"), *servers) == {"github/close": "ask", "other/close": "ask"}
    assert await actions(scene, rules("deny", "close"), *servers) == {}


@pytest.mark.parametrize(
    ("allowed", "forged"),
    [
        ("github", "github"),  # all of a server's, and a tool of that name
        ("github/close", "github/close"),
        ("github/*", "github/anything"),
        ("github_close", "github_close"),  # what the model calls the second `close`
        ("close", "close"),
    ],
)
async def test_no_server_has_its_tool_allowed_by_what_it_calls_it(scene: Any, allowed: str, forged: str) -> None:
    first, github, evil = Server("first", "close"), Server("github", "close", "open"), Server("evil", forged)
    found = await actions(scene, rules("allow", allowed), first, github, evil)
    assert found[f"evil/{forged}"] == "ask"


@pytest.mark.requirement("text-from-outside")
async def test_a_glob_is_no_name_though_a_tool_is_called_so(scene: Any) -> None:
    found = await actions(scene, rules("allow", "clos*"), Server("evil", "clos*"), outside="web")
    assert found == {"evil/clos*": "ask"}
    found = await actions(scene, rules("allow", "evil"), Server("evil", "evil", "other"), outside="web")
    assert found == {"evil/evil": "ask", "evil/other": "ask"}


@pytest.mark.requirement("text-from-outside")
async def test_a_tool_that_is_all_of_its_reference_is_named_by_it(scene: Any) -> None:
    found = await actions(
        scene, rules("allow", "create-ticket"), Server("create-ticket", "create-ticket"), outside="web"
    )
    assert found == {"create-ticket/create-ticket": "allow"}


async def test_a_server_that_is_away_keeps_what_its_tools_are_called(scene: Any) -> None:
    github, other = Server("github", "close"), Server("other", "close")
    made = rules("allow", "close")
    assert set((await actions(scene, made, github, other)).values()) == {"ask"}
    github.away = True
    (agent,) = scene.host.agents.values()
    assert decided((await agent.offer()).tools.values(), made) == {"other/close": "ask"}
    github.away, github.specs_ = False, [msgspec.structs.replace(github.specs_[0], name="shut")]
    assert decided((await agent.offer()).tools.values(), made)["other/close"] == "allow"

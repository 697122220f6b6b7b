"""An agent sees and calls what its author allows of a server, and nothing else."""

from __future__ import annotations

import pytest

from kadre.base.errors import ToolError
from kadre.engine.tools.allowed import Allowed
from kadre.engine.tools.functions import Functions
from kadre.engine.tools.port import CallContext, ToolOutput

CONTEXT = CallContext(run_id="run-1", session_id="ses-1", key="run-1/1")


def pods_list() -> str:
    return "web-1"


def pods_delete() -> str:
    return "gone"


async def test_a_capability_hides_every_other_tool_and_asks_for_none() -> None:
    tools = Allowed(Functions(pods_list, pods_delete), ("pods_list",), granted=False)
    assert [(spec.name, spec.ask) for spec in await tools.specs()] == [("pods_list", False)]


async def test_a_hidden_tool_cannot_be_called() -> None:
    tools = Allowed(Functions(pods_list, pods_delete), ("pods_list",), granted=False)
    await tools.specs()
    assert await tools.call("pods_list", {}, CONTEXT) == ToolOutput("web-1")
    with pytest.raises(ToolError, match="pods_delete is not among"):
        await tools.call("pods_delete", {}, CONTEXT)


async def test_a_server_named_as_a_resource_is_allowed_whole() -> None:
    tools = Allowed(Functions(pods_list, pods_delete), (), granted=True)
    assert [(spec.name, spec.ask) for spec in await tools.specs()] == [("pods_list", False), ("pods_delete", False)]


async def test_a_bare_endpoint_is_asked_for_what_is_not_known_to_only_read() -> None:
    unknown = Allowed(Functions(pods_delete), (), granted=False)
    reading = Allowed(Functions(pods_list, read_only=True), (), granted=False)
    assert [spec.ask for spec in await unknown.specs()] == [True]
    assert [spec.ask for spec in await reading.specs()] == [False]


async def test_the_offer_is_the_same_object_until_the_tools_change() -> None:
    tools = Allowed(Functions(pods_list, pods_delete), ("pods_*",), granted=False)
    assert await tools.specs() is await tools.specs()

"""Agents as tools of an MCP server, at a host and through the gateway: the SDK's own client is the judge."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult, TextContent

from kadre.plan.types import AgentKey
from kadre.server.gateway.visitors import Reception
from kadre.server.mcp import names_of
from tests.doors.test_gateway import A, B, Fixed, People, Person
from tests.support.gateway import gateway
from tests.support.scene import Asking, Scene
from tests.support.serving import serving

pytestmark = pytest.mark.requirement("mcp-outward")
DOORS = ["host", "gateway"]


@asynccontextmanager
async def tools(where: str, scene: Scene, folder: Path) -> AsyncIterator[Client]:
    """A client of the scene's agents."""
    if where == "host":
        async with serving(scene) as url, Client(streamable_http_client(f"{url}/mcp")) as client:
            yield client
        return
    async with gateway(folder, {"a": [scene]}) as (http, fleet):
        fleet.at[B] = fleet.at[A] if AgentKey("default", "b") in scene.host.agents else []
        if not fleet.at[B]:
            del fleet.at[B]
        async with Client(streamable_http_client(str(http._build_url("/mcp")))) as client:
            yield client


def text(answer: CallToolResult) -> str:
    """What a model reads of it."""
    (part,) = answer.content
    assert isinstance(part, TextContent)
    return part.text


@pytest.mark.parametrize("where", DOORS)
async def test_each_agent_is_a_tool_that_goes_on_with_a_conversation(where: str, tmp_path: Path) -> None:
    scene = Scene()
    await scene.says("one", "two", description="Knows things.")
    async with tools(where, scene, tmp_path) as client:
        listed = (await client.list_tools()).tools
        assert [tool.name for tool in listed] == ["a", "read_run"]
        first = await client.call_tool("a", {"message": "hi"})
        assert (first.is_error, text(first)) == (False, "one")
        said = first.structured_content
        assert said is not None
        second = await client.call_tool("a", {"message": "again", "session_id": said["session_id"]})
        assert text(second) == "two"
        read = await client.call_tool("read_run", {"run_id": said["run_id"]})
        assert read.structured_content is not None
        assert read.structured_content["status"] == "completed"
        assert read.structured_content["events"][-1]["type"] == "run_finished"
    assert [message.content for message in scene.models["a"].requests[1].messages][-3:] == ["hi", "one", "again"]


@pytest.mark.parametrize("where", DOORS)
async def test_what_cannot_be_done_is_told_to_the_model(where: str, tmp_path: Path) -> None:
    def write() -> str:
        """Write."""
        return "written"

    scene = Scene()
    await scene.says([("write", {})], "done", tools=[Asking(write)])
    async with tools(where, scene, tmp_path) as client:
        for name, given, told in (
            ("a", {}, "it needs an argument `message`"),
            ("z", {"message": "hi"}, "there is no tool 'z'; there is a, read_run"),
            ("read_run", {"run_id": "run-none"}, "there is no run 'run-none'"),
            ("a", {"message": "hi", "session_id": "a b"}, "session_id must match"),
        ):
            answer = await client.call_tool(name, given)
            assert answer.is_error
            assert told in text(answer)
        waiting = await client.call_tool("a", {"message": "write"})
        assert not waiting.is_error
        assert "It waits for a person" in text(waiting)
        assert waiting.structured_content is not None
        assert waiting.structured_content["approvals"]


async def test_through_the_gateway_a_caller_has_their_own_agents_and_runs(tmp_path: Path) -> None:
    one, other = Scene(), Scene()
    await one.says("from a")
    await other.says("from b", name="b")
    secret = (await one.ask()).info.run_id
    ada = Person("user:ada", ("chat", B))
    reception = Reception(Fixed(), reviewer=People(ada), trust_local=False)
    async with gateway(tmp_path, {"a": [one], "b": [other]}, reception) as (http, _):
        url = str(http._build_url("/mcp"))
        bearer = httpx2.AsyncClient(headers={"Authorization": "Bearer token-user:ada"})
        async with bearer, Client(streamable_http_client(url, http_client=bearer)) as client:
            assert [tool.name for tool in (await client.list_tools()).tools] == ["b", "read_run"]
            answer = await client.call_tool("b", {"message": "hi"})
            assert text(answer) == "from b"
            assert (await client.call_tool("a", {"message": "hi"})).is_error
            assert (await client.call_tool("read_run", {"run_id": secret})).is_error
        async with http.post("/mcp", json={}) as refused:
            assert refused.status == 401


def test_names_are_told_apart() -> None:
    keys = [AgentKey("x", "a"), AgentKey("y", "a"), AgentKey("x", "b.c"), AgentKey("x", "read_run")]
    assert list(names_of(keys).values()) == ["x_a", "y_a", "b_c", "x_read_run"]


def test_the_library_is_loaded_for_its_first_client_alone() -> None:
    script = "import sys, kadre.server.app, kadre.server.gateway.app; print('mcp' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "False"

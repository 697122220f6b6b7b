"""A plan of a tool becomes the toolset that does it, and nothing is connected to for that."""

from __future__ import annotations

import subprocess
import sys

from kadre.engine.tools.a2a import A2aToolset
from kadre.engine.tools.agent import AgentToolset
from kadre.engine.tools.allowed import Allowed
from kadre.engine.tools.factory import Means, build
from kadre.engine.tools.mcp import McpPool
from kadre.engine.tools.mcp_target import Address
from kadre.engine.tools.port import CallContext, ToolOutput
from kadre.engine.tools.retrieval import Retrieval
from kadre.plan.types import A2aTool, AgentKey, AgentTool, ApiTool, LaunchPlan, McpTools, SecretRef, UnsupportedTool


class NoSecrets:
    def read(self, ref: SecretRef) -> str | None:
        return None


class NoAgents:
    async def delegate(self, agent: AgentKey, message: str, context: CallContext) -> ToolOutput:
        return ToolOutput("")


def no_searches() -> Retrieval:
    raise AssertionError("none of these searches")


async def test_each_kind_of_plan_has_its_toolset() -> None:
    pool = McpPool(NoSecrets())
    means = Means(pool, NoAgents(), NoSecrets(), no_searches)
    agent = AgentTool(name="analyst", agent=AgentKey("default", "analyst"))
    other = UnsupportedTool(name="files", type="filesystem", message="not built yet")
    server = McpTools(name="echo", url="http://localhost:1/mcp")
    assert isinstance(build(server, means, 5), Allowed)
    assert isinstance(build(agent, means, 5), AgentToolset)
    remote = A2aTool(name="far", url="http://localhost:1")
    assert isinstance(build(remote, means, 5), A2aToolset)
    api = ApiTool(name="tickets", endpoint="http://localhost:1", parameters={}, method="POST", capabilities=("read",))
    tickets = build(api, means, 5)
    assert tickets is not None
    assert list(await tickets.specs()) == []  # it writes, and only reading is allowed
    await tickets.aclose()
    assert build(other, means, 5) is None
    await pool.aclose()


async def test_agents_share_a_server_that_they_reach_in_the_same_way() -> None:
    pool = McpPool(NoSecrets())
    one = pool.toolset(McpTools(name="one", url="http://localhost:1/mcp", capabilities=("read",)))
    two = pool.toolset(McpTools(name="two", url="http://localhost:1/mcp", timeout=5))
    key = pool.toolset(McpTools(name="two", url="http://localhost:1/mcp", headers={"x-team": "b"}))
    run = pool.toolset(McpTools(name="run", launch=LaunchPlan(kind="command", command=("server",))))
    assert pool.in_use == 3
    await one.aclose()
    assert pool.in_use == 3
    await two.aclose()
    await two.aclose()
    assert pool.in_use == 2
    await key.aclose()
    await run.aclose()
    assert pool.in_use == 0


def test_a_process_without_a_server_in_use_does_not_load_the_sdk() -> None:
    heavy = {"mcp", "a2a", "httpx", "pydantic", "jsonschema", "kadre.engine.tools.api"}
    code = f"import sys, kadre.engine.tools.factory; sys.exit(bool({heavy!r} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_address_is_told_without_the_key_that_may_be_in_it() -> None:
    assert repr(Address("https://me:key@mcp.example/mcp?token=key", headers={"x": "key"})) == (
        "Address(https://mcp.example/mcp)"
    )

"""Servers that are not there, not themselves, or not willing: a clear error each, and nothing repeated unasked."""

from __future__ import annotations

import sys

import pytest

from kadre.base.clock import FakeClock
from kadre.base.errors import ToolError
from kadre.engine.tools.mcp import McpPool
from kadre.engine.tools.mcp_target import Command
from kadre.engine.tools.port import ToolOutput
from kadre.plan.types import LaunchPlan, McpTools, SecretRef
from tests.contract.tools.conftest import SERVER, Secrets, World, call
from tests.contract.tools.proxies import answering, before, refusal

PAGE = b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 4\r\nconnection: close\r\n\r\n<p/>"


async def problem(plan: McpTools, pool: McpPool | None = None) -> str:
    """Why the server's tools cannot be known."""
    pool = pool or McpPool(Secrets())
    with pytest.raises(ToolError) as caught:
        await pool.toolset(plan).specs()
    await pool.aclose()
    return str(caught.value)


async def test_an_address_where_nobody_listens_is_named_without_what_is_secret_in_it() -> None:
    said = await problem(McpTools(name="orders", url="http://user:pass@127.0.0.1:9/mcp?key=pass"))
    assert said.startswith("orders: no MCP server at http://127.0.0.1:9/mcp (cannot be reached")
    assert "pass" not in said


async def test_every_address_tried_is_told_with_what_it_answered() -> None:
    async def missing(head: str, body: bytes) -> bytes:
        return refusal("404 Not Found")

    async with answering(missing) as port:
        said = await problem(McpTools(name="orders", url=f"http://127.0.0.1:{port}"))
    assert f"{port}/mcp (the server answered HTTP 404 Not Found) nor" in said
    assert f"{port}/sse (" in said


async def test_a_page_is_no_mcp_server() -> None:
    async def page(head: str, body: bytes) -> bytes:
        return PAGE

    async with answering(page) as port:
        said = await problem(McpTools(name="orders", url=f"http://127.0.0.1:{port}/", transport="http"))
    assert "text/html" in said


@pytest.mark.parametrize("world", ["http-json"], indirect=True)
@pytest.mark.parametrize(
    ("status", "unknown"),
    [("500 Internal Server Error", True), ("503 Service Unavailable", False), ("403 Forbidden", False)],
)
async def test_a_refused_call_is_unknown_only_where_it_may_have_happened(
    world: World, status: str, unknown: bool
) -> None:
    instead: list[bytes] = []
    async with before(world, instead) as port:
        pool = McpPool(Secrets())
        tools = pool.toolset(McpTools(name="orders", url=f"http://127.0.0.1:{port}/mcp"))
        await tools.specs()
        instead += [refusal(status)] * (3 if not unknown else 1)
        with pytest.raises(ToolError, match=f"orders: the server answered HTTP {status}") as caught:
            await call(tools, "who")
        assert caught.value.unknown is unknown
        instead.clear()
        assert await call(tools, "echo", text="x") == ToolOutput("x")
        await pool.aclose()


@pytest.mark.parametrize("world", ["http-json"], indirect=True)
async def test_a_new_key_is_used_as_soon_as_the_old_one_is_refused(world: World) -> None:
    secrets = Secrets(KEY="old")
    valid = ["old"]
    async with before(world, [], lambda head: f"authorization: {valid[0]}" in head.lower()) as port:
        ref = SecretRef(namespace="default", name="orders", key="token", env="KEY")
        plan = McpTools(name="orders", url=f"http://127.0.0.1:{port}/mcp", secret_headers={"authorization": ref})
        pool = McpPool(secrets)
        tools = pool.toolset(plan)
        assert await call(tools, "echo", text="x") == ToolOutput("x")
        valid[0] = "new"
        with pytest.raises(ToolError, match="HTTP 401"):
            await call(tools, "echo", text="x")
        secrets.values["KEY"] = "new"
        assert await call(tools, "echo", text="x") == ToolOutput("x")
        await pool.aclose()


async def test_a_missing_secret_is_named_and_nothing_is_sent() -> None:
    ref = SecretRef(namespace="default", name="orders", key="token", env="ORDERS_TOKEN")
    plan = McpTools(name="orders", url="http://127.0.0.1:9/mcp", secret_headers={"authorization": ref})
    said = await problem(plan)
    assert "orders: no value for the header authorization" in said
    assert "key token of Secret default/orders or the line ORDERS_TOKEN of .env" in said


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("import sys; sys.exit('the database is missing')", "its process does not start: the database is missing"),
        ("print('hello, I am no MCP server')", "its process does not start"),
    ],
)
async def test_a_process_that_does_not_start_is_told_with_its_last_words(program: str, said: str) -> None:
    async def launch(name: str, plan: LaunchPlan) -> Command:
        return Command(sys.executable, ("-c", program))

    plan = McpTools(name="orders", launch=LaunchPlan(kind="command"))
    assert f"orders: {said}" in await problem(plan, McpPool(Secrets(), launch))


async def test_a_program_that_is_not_there_is_named() -> None:
    async def launch(name: str, plan: LaunchPlan) -> Command:
        return Command("no-such-program")

    plan = McpTools(name="orders", launch=LaunchPlan(kind="command"))
    assert await problem(plan, McpPool(Secrets(), launch)) == "orders: there is no program no-such-program"


async def test_a_process_that_keeps_ending_is_started_ever_more_rarely() -> None:
    starts = []

    async def launch(name: str, plan: LaunchPlan) -> Command:
        starts.append(name)
        return Command(sys.executable, ("-S", "-c", "import sys; sys.exit('out of luck')"))

    clock = FakeClock()
    pool = McpPool(Secrets(), launch, clock)
    tools = pool.toolset(McpTools(name="orders", launch=LaunchPlan(kind="command")))
    for expected in ("out of luck$", "out of luck$", "tried again in"):
        with pytest.raises(ToolError, match=expected):
            await tools.specs()
    assert len(starts) == 2
    await clock.advance(0.5)
    with pytest.raises(ToolError, match=r"out of luck$"):
        await tools.specs()
    assert len(starts) == 3
    await pool.aclose()


async def test_a_server_on_a_port_of_its_own_is_run_and_ended() -> None:
    async def launch(name: str, plan: LaunchPlan) -> Command:
        return Command("sh", ("-c", f'exec {sys.executable} {SERVER} http "$MCP_PORT"'), serves="http")

    pool = McpPool(Secrets(), launch)
    tools = pool.toolset(McpTools(name="orders", launch=LaunchPlan(kind="command")))
    assert await call(tools, "echo", text="x") == ToolOutput("x")
    with pytest.raises(ToolError) as caught:
        await call(tools, "die")
    assert caught.value.unknown
    await pool.aclose()


@pytest.mark.parametrize("world", ["http", "sse"], indirect=True)
async def test_a_server_on_this_machine_is_reached_past_the_environments_proxy(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert await call(world.toolset(), "echo", text="x") == ToolOutput("x")

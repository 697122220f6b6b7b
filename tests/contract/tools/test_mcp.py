"""What every MCP server gives its agents, whichever way it is spoken to."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from kadre.base.errors import ToolError
from kadre.engine.tools.port import ToolOutput
from tests.contract.tools.conftest import World, call, children, open_files, until


async def test_tools_are_discovered_with_what_is_known_of_their_effects(world: World) -> None:
    tools = world.toolset()
    specs = {spec.name: spec for spec in await tools.specs()}
    echo, who = specs["echo"], specs["who"]
    assert (echo.description, echo.read_only, echo.idempotent, echo.server) == ("Say it again.", True, True, "tests")
    assert echo.parameters["properties"]["text"]["type"] == "string"
    assert (who.read_only, who.idempotent) == (None, False)
    assert await tools.specs() is await tools.specs()


async def test_an_answer_is_text_whatever_it_is_made_of(world: World) -> None:
    tools = world.toolset()
    assert await call(tools, "echo", text="hello") == ToolOutput("hello")
    assert await call(tools, "mixed") == ToolOutput("look:\n[image image/png, 30 bytes]\na note")
    assert await call(tools, "structured") == ToolOutput('{"a":[1,2]}')


async def test_a_tool_that_fails_says_so(world: World) -> None:
    output = await call(world.toolset(), "fail", message="no such order")
    assert output.is_error
    assert "no such order" in output.content


async def test_a_changed_list_of_tools_is_read_again(world: World) -> None:
    tools = world.toolset()
    before = await tools.specs()
    await call(tools, "grow")
    async with asyncio.timeout(10):
        while (now := await tools.specs()) is before:  # noqa: ASYNC110 - what is waited for comes from another process
            await asyncio.sleep(0)
    assert {spec.name for spec in now} - {spec.name for spec in before} == {"grown"}
    assert await call(tools, "grown", text="new") == ToolOutput("new")


async def test_fifty_calls_are_under_way_at_once_over_one_session(world: World) -> None:
    tools = world.toolset()
    outputs = await asyncio.gather(*[call(tools, "meet", people=50) for _ in range(50)])
    assert outputs == [ToolOutput("met")] * 50


async def test_agents_share_the_session_of_a_server(world: World) -> None:
    one, two = world.toolset(), world.toolset()
    assert await call(one, "who") == await call(two, "who")
    await one.aclose()
    assert (await call(two, "who")).content.isdigit()
    await two.aclose()
    assert world.pool.in_use == 0
    with pytest.raises(ToolError, match="closed"):
        await call(two, "who")


async def test_a_call_without_an_answer_in_time_is_unknown_and_the_session_goes_on(world: World) -> None:
    tools = world.toolset(timeout=0.3)
    with pytest.raises(ToolError, match=r"hang gave no answer within 0\.3 s") as caught:
        await call(tools, "hang")
    assert caught.value.unknown
    assert await call(world.toolset(), "echo", text="still here") == ToolOutput("still here")


async def test_a_cancelled_call_leaves_the_session_to_the_others(world: World) -> None:
    tools = world.toolset()
    await tools.specs()
    hanging = asyncio.create_task(call(tools, "hang"))
    await call(tools, "echo", text="sent after it")
    hanging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hanging
    assert await call(tools, "echo", text="on") == ToolOutput("on")


async def test_a_server_that_dies_in_a_call_leaves_it_unknown_and_serves_again_once_it_is_back(world: World) -> None:
    tools = world.toolset()
    before = await tools.specs()
    with pytest.raises(ToolError) as caught:
        await call(tools, "die")
    assert caught.value.unknown
    if world.kind != "stdio":
        await world.stop()
        with pytest.raises(ToolError) as refused:
            await call(tools, "echo", text="lost")
        assert not refused.value.unknown
        assert await tools.specs() == before
        await world.start()
    assert await call(tools, "echo", text="back") == ToolOutput("back")
    assert await tools.specs() == before


async def test_closing_leaves_no_file_no_process_and_no_task(world: World) -> None:
    tasks = asyncio.all_tasks()
    await call(world.toolset(), "echo", text="the first call loads what is needed")
    await world.pool.aclose()
    # Waited for, since the SDK's reader, cancelled between two events, leaves its generator behind: the event loop
    # closes that in a task which comes after ours.
    await until(lambda: asyncio.all_tasks() == tasks)
    files, processes = open_files(), children()
    again = World(world.kind)
    again.port = world.port
    tools = again.toolset(timeout=0.2)
    await tools.specs()
    with pytest.raises(ToolError):
        await call(tools, "hang")
    await tools.aclose()
    await again.pool.aclose()
    await until(lambda: asyncio.all_tasks() == tasks)
    assert (open_files(), children()) == (files, processes)


async def test_a_server_that_died_unused_is_there_for_the_next_call(world: World) -> None:
    tools = world.toolset()
    before = asyncio.all_tasks()
    first = await call(tools, "who")
    os.kill(int(first.content), signal.SIGKILL)
    await world.stop()
    if world.kind == "stdio":
        await until(lambda: asyncio.all_tasks() == before)
    await world.start()
    assert await call(tools, "who") != first

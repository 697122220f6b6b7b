"""Servers that send too much, or what nobody can use: the call ends clearly, and this process stays as it was."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from kadre.base.errors import ToolError
from kadre.engine.tools import mcp, mcp_bounds
from kadre.engine.tools.mcp import McpPool, McpToolset
from kadre.engine.tools.mcp_target import Command
from kadre.engine.tools.port import ToolOutput
from kadre.plan.types import LaunchPlan, McpTools
from tests.contract.tools.conftest import Secrets, call

ROUGH = str(Path(__file__).parent / "rough.py")
KINDS = ("stdio", "http", "http-json", "sse")


@asynccontextmanager
async def rough(kind: str, *options: str, seconds: float = 20.0, idempotent: bool = False) -> AsyncIterator[McpToolset]:
    """The tools of a server that is not made by the SDK."""

    async def launch(name: str, plan: LaunchPlan) -> Command:
        return Command(sys.executable, (ROUGH, kind, *options))

    pool = McpPool(Secrets(), launch)
    try:
        if kind == "stdio":
            plan = McpTools(name="rough", launch=LaunchPlan(kind="command"), timeout=seconds, idempotent=idempotent)
            yield pool.toolset(plan)
            return
        process = await asyncio.create_subprocess_exec(
            sys.executable, ROUGH, kind, *options, stdout=asyncio.subprocess.PIPE
        )
        try:
            assert process.stdout is not None
            async with asyncio.timeout(20):
                port = int(await process.stdout.readline())
            path = "sse" if kind == "sse" else "mcp"
            url = f"http://127.0.0.1:{port}/{path}"
            yield pool.toolset(McpTools(name="rough", url=url, timeout=seconds, idempotent=idempotent))
        finally:
            await pool.aclose()
            process.kill()
            await process.wait()
    finally:
        await pool.aclose()


def peak() -> int:
    """The most memory this process has had since it was last asked for, in bytes."""
    status = Path("/proc/self/status").read_text()
    Path("/proc/self/clear_refs").write_text("5")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


@pytest.mark.parametrize("kind", KINDS)
async def test_an_answer_without_end_is_given_up_and_memory_stays_flat(kind: str) -> None:
    async with rough(kind) as tools:
        await tools.specs()
        peak()
        before = peak()
        with pytest.raises(ToolError, match=r"MB, which is not read|exceeded the \d+ byte limit") as caught:
            await call(tools, "flood")
        assert caught.value.unknown
        assert peak() - before < 128 << 20
        assert await call(tools, "x") == ToolOutput("called x")


@pytest.mark.parametrize(("kind", "size"), [("stdio", 15), ("http", 15), ("http-json", 15), ("sse", 0.9)])
async def test_a_large_answer_arrives_whole(kind: str, size: float) -> None:
    async with rough(kind) as tools:
        assert await call(tools, "big", size=int(size * 1_000_000)) == ToolOutput("x" * int(size * 1_000_000))


@pytest.mark.parametrize("kind", KINDS)
async def test_five_thousand_tools_are_cut_and_people_are_told(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    async with rough(kind, "many") as tools:
        with caplog.at_level(logging.WARNING, "kadre"):
            specs = await tools.specs()
        assert [spec.name for spec in specs] == [f"tool-{number}" for number in range(1000)]
        assert tools.notice == "rough: the server lists more than 1000 tools; the first 1000 are offered"
    assert [record.getMessage() for record in caplog.records] == [tools.notice]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_list_that_is_too_large_in_all_is_cut(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mcp_bounds, "LIST_LIMIT", 2_000_000)
    async with rough(kind, "heavy") as tools:
        specs = await tools.specs()
        assert [spec.name for spec in specs] == [f"tool-{number}" for number in range(4)]
        assert tools.notice == "rough: the server's list of tools is larger than 2 MB; the first 4 are offered"
        assert await call(tools, "x") == ToolOutput("called x")


@pytest.mark.parametrize("kind", KINDS)
async def test_malformed_tools_are_left_out_and_the_others_are_offered(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with rough(kind, "rotten") as tools:
        with caplog.at_level(logging.WARNING, "kadre"):
            assert [spec.name for spec in await tools.specs()] == ["good"]
        assert tools.notice == ""
    assert [record.getMessage() for record in caplog.records] == [
        "rough: 4 tools of the server are malformed and left out: (no name), no-schema, (no name), x"
    ]


@pytest.mark.parametrize("kind", KINDS)
async def test_odd_tools_are_offered_as_what_a_model_provider_takes(kind: str) -> None:
    async with rough(kind) as tools:
        specs = {spec.name: spec for spec in await tools.specs()}
        assert specs["odd"].parameters == {"type": "object"}
        assert specs["heard"].description == "What was heard"
        assert await call(tools, "büro/öffnen now!") == ToolOutput("called büro/öffnen now!")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_cancelled_call_and_one_that_is_late_are_told_to_the_server(kind: str) -> None:
    async with rough(kind, seconds=0.5) as tools:
        with pytest.raises(ToolError, match="no answer within"):
            await call(tools, "hang")
        hanging = asyncio.create_task(call(tools, "hang"))
        await call(tools, "x")
        hanging.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hanging
        async with asyncio.timeout(10):
            while json.loads((await call(tools, "heard")).content).count("notifications/cancelled") < 2:
                pass


@pytest.mark.parametrize("kind", KINDS)
async def test_a_server_that_never_answers_is_told_and_left(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mcp, "CONNECT_TIMEOUT", 1.0)
    async with rough(kind, "silent") as tools:
        with pytest.raises(ToolError, match="rough: no answer from the MCP server within 1 s"):
            await tools.specs()


async def test_a_process_is_given_no_variable_that_it_was_not_meant_to_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    async with rough("stdio") as tools:
        seen = set(json.loads((await call(tools, "env")).content))
    assert seen <= {"HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER", "LC_CTYPE"}


async def test_a_flood_on_stderr_keeps_no_answer_back() -> None:
    async with rough("stdio", "noisy") as tools:
        peak()
        before = peak()
        for _ in range(100):
            assert await call(tools, "x") == ToolOutput("called x")
        assert peak() - before < 32 << 20


@pytest.mark.parametrize("kind", ["http", "http-json"])
async def test_a_session_the_server_forgot_is_made_anew_once(kind: str) -> None:
    async with rough(kind) as tools:
        await call(tools, "forget")
        assert await call(tools, "x") == ToolOutput("called x")
        heard = json.loads((await call(tools, "heard")).content)
        assert (heard.count("initialize"), heard.count("too late")) == (2, 1)
    async with rough(kind, "forgetful") as tools:
        with pytest.raises(ToolError, match="the server ended the session") as caught:
            await call(tools, "x")
        assert not caught.value.unknown

"""Real MCP servers as child processes, one of each transport."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from kadre.engine.tools.mcp import McpPool, McpToolset
from kadre.engine.tools.mcp_target import Command
from kadre.engine.tools.port import CallContext, ToolOutput, Toolset
from kadre.plan.types import LaunchPlan, McpTools, SecretRef

SERVER = str(Path(__file__).parent / "server.py")
CONTEXT = CallContext(run_id="run-1", session_id="ses-1", key="run-1/1")


class Secrets:
    """Values by the variable that holds them."""

    def __init__(self, **values: str) -> None:
        self.values = values

    def read(self, ref: SecretRef) -> str | None:
        return self.values.get(ref.env)


class World:
    """A server of one kind, and a pool of sessions to reach it through."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.pool = McpPool(Secrets(), self._launch)
        self.port = 0
        self._process: asyncio.subprocess.Process | None = None

    async def _launch(self, name: str, launch: LaunchPlan) -> Command:
        return Command(sys.executable, (SERVER, "stdio"))

    async def start(self) -> None:
        """Start the server, on the port it had before. One that speaks over stdin is started by the pool."""
        if self.kind == "stdio":
            return
        command = [SERVER, self.kind.partition("-")[0], str(self.port), *self.kind.split("-")[1:]]
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, *command, stdout=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.DEVNULL
        )
        assert self._process.stdout is not None
        async with asyncio.timeout(20):
            self.port = int(await self._process.stdout.readline())

    async def stop(self) -> None:
        """Kill the server and see it gone."""
        process, self._process = self._process, None
        if process is not None:
            if process.returncode is None:
                process.kill()
            await process.wait()

    def toolset(self, timeout: float = 20.0) -> McpToolset:
        """The server's tools."""
        if self.kind == "stdio":
            return self.pool.toolset(McpTools(name="tests", launch=LaunchPlan(kind="command"), timeout=timeout))
        return self.pool.toolset(McpTools(name="tests", url=f"http://127.0.0.1:{self.port}", timeout=timeout))


@pytest.fixture(params=["stdio", "sse", "http", "http-json"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """A running server of each kind."""
    here = World(request.param)
    await here.start()
    yield here
    await here.pool.aclose()
    await here.stop()


async def call(tools: Toolset, tool: str, **arguments: Any) -> ToolOutput:
    """Call it, as nobody in particular."""
    return await tools.call(tool, arguments, CONTEXT)


def open_files() -> list[str]:
    """What this process has open: sockets, pipes, files."""
    found = []
    for number in Path("/proc/self/fd").iterdir():
        try:
            found.append(str(number.readlink()))
        except FileNotFoundError:
            continue
    return sorted(name.partition(":")[0] if name.startswith(("socket", "pipe")) else name for name in found)


def children() -> list[str]:
    """Processes started by this one, zombies too."""
    return Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for something outside this process, which sends no event."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0)

"""`kadre tools`: what an MCPServer's pod runs, asked by the SDK's own client."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from mcp import Client

from kadre.plan.types import LaunchPlan
from tests.cluster.processes import free_ports

pytestmark = pytest.mark.requirement("kaos-servers")
SECONDS = 30.0
FUNCTIONS = """
import os, time

def calculate(expression: str) -> str:
    '''Evaluate a mathematical expression.'''
    return str(eval(expression))

def level() -> str:
    return os.environ.get("LEVEL", "") + os.environ.get("HIDDEN", "")

def die() -> str:
    os._exit(3)
"""


@asynccontextmanager
async def served(port: int, *words: str, **env: str) -> AsyncIterator[str]:
    """`kadre tools`, as soon as it serves: its address."""
    command = [sys.executable, "-m", "kadre", "tools", "--host=127.0.0.1", f"--port={port}", *words]
    process = await asyncio.create_subprocess_exec(
        *command, env={**os.environ, **env}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(SECONDS):
            said = b""
            while b"served on port" not in said:
                line = await process.stdout.readline()
                assert line, said.decode()
                said += line
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.terminate()
        await process.communicate()
        assert process.returncode == 0


async def test_an_authors_functions_are_served_and_get_only_what_they_are_given(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    launch = tmp_path / "launch.json"
    launch.write_bytes(msgspec.json.encode(LaunchPlan(kind="source", source=FUNCTIONS)))
    words = (f"--launch={launch}", "--env=LEVEL")
    async with (
        served(port, *words, LEVEL="debug", HIDDEN="x") as url,
        Client(url) as client,
    ):
        listed = await client.list_tools()
        first = listed.tools[0]
        assert (first.name, first.description) == ("calculate", "Evaluate a mathematical expression.")
        assert "42" in str((await client.call_tool("calculate", {"expression": "6*7"})).content)
        assert "'debug'" in str((await client.call_tool("level", {})).content)
        wrong = await client.call_tool("calculate", {"expression": "1/0"})
        assert wrong.is_error
        assert "ZeroDivisionError" in str(wrong.content)
        # Functions that end their process are started again.
        assert (await client.call_tool("die", {})).is_error
        assert "2" in str((await client.call_tool("calculate", {"expression": "1+1"})).content)


async def test_functions_that_cannot_be_loaded_end_it_with_the_reason_as_last_words(tmp_path: Path) -> None:
    launch, source = tmp_path / "launch.json", tmp_path / "tools.py"
    launch.write_bytes(msgspec.json.encode(LaunchPlan(kind="source")))
    source.write_text("import nothing_of_this_name")
    command = [sys.executable, "-m", "kadre", "tools", f"--launch={launch}", f"--source={source}", "--port=1"]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(SECONDS):
        said, _ = await process.communicate()
    assert process.returncode == 1
    assert b"nothing_of_this_name" in said
    assert b"fix: correct the functions" in said

"""Child processes of MCP servers: what they say on stderr, and those that serve HTTP.

A server that speaks over stdin and stdout is run by the SDK; one that insists on a port is run here.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Self, TextIO

from mcp.client.stdio import get_default_environment

from kadre.base.errors import ToolError, shorten
from kadre.base.tasks import Tasks
from kadre.engine.tools.mcp import Command

log = logging.getLogger(__name__)
TAIL_BYTES = 8192
"""How much of what a process said last is kept."""
GRACE = 2.0
"""Seconds between asking a process to end and ending it."""
_POLL = 0.05


class Tail(asyncio.Protocol):
    """The last of what a process writes to `file`: for the error that says why it ended, and the debug log."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._kept = b""
        self._done = asyncio.Event()
        self._transport: asyncio.ReadTransport | None = None
        self.file: TextIO
        """What to hand to the child as its stderr; there once entered."""

    async def __aenter__(self) -> Self:
        reading, writing = os.pipe()
        self.file = os.fdopen(writing, "w")
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.connect_read_pipe(lambda: self, os.fdopen(reading, "rb", 0))
        return self

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self._kept = (self._kept + data)[-TAIL_BYTES:]
        log.debug("%s: %s", self._name, data.decode(errors="replace").rstrip())

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """See asyncio.Protocol."""
        self._done.set()

    def release(self) -> None:
        """Close our copy of the writing end, once the child has its own."""
        self.file.close()

    async def read(self) -> str:
        """The last lines, on one line of a message; waits a moment for a process that has just ended."""
        self.release()
        with suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                await self._done.wait()
        lines = self._kept.decode(errors="replace").strip().splitlines()
        return shorten(" | ".join(line.strip() for line in lines[-5:] if line.strip()))

    async def __aexit__(self, *_: object) -> None:
        self.release()
        if self._transport is not None:
            self._transport.close()


@asynccontextmanager
async def serving(target: Command, tail: Tail, ended: asyncio.Event) -> AsyncIterator[str]:
    """Run a server that listens on a port of its own; gives its URL once it does. `ended` is set when it ends."""
    port = _free_port()
    process = await asyncio.create_subprocess_exec(
        target.command,
        *target.args,
        env={**get_default_environment(), **target.env, "MCP_HOST": "127.0.0.1", "MCP_PORT": str(port)},
        cwd=target.cwd or None,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=tail.file,
        stderr=tail.file,
        start_new_session=True,
    )
    tasks = Tasks("mcp")
    tasks.spawn(f"process {process.pid}", _watch(process, ended))
    try:
        while not await _listens(port):
            if process.returncode is not None:
                raise ToolError(f"its process ended with status {process.returncode}")
            await asyncio.sleep(_POLL)
        yield f"http://127.0.0.1:{port}"
    finally:
        await _end(process)
        await tasks.aclose()


async def _watch(process: asyncio.subprocess.Process, ended: asyncio.Event) -> None:
    await process.wait()
    ended.set()


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return True


async def _end(process: asyncio.subprocess.Process) -> None:
    """Ask the process and its children to end, then make them."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with suppress(TimeoutError):
            async with asyncio.timeout(GRACE):
                await process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

"""Child processes of MCP servers: those that speak over stdin and stdout, those that serve HTTP, and their stderr.

The SDK can run the former too, but keeps whatever a server writes until a line ends, which may be never.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Self, TextIO

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.client.stdio import get_default_environment
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter

from kadre.base.errors import ToolError, shorten
from kadre.base.tasks import Tasks
from kadre.engine.tools.mcp_bounds import MESSAGE_LIMIT, End, too_large
from kadre.engine.tools.mcp_target import Command

log = logging.getLogger(__name__)
TAIL_BYTES = 8192
"""How much of what a process said last is kept."""
GRACE = 2.0
"""Seconds between asking a process to end and ending it."""
_POLL = 0.05
_FLUSH = 0.5
"""Seconds for what is still to be said to a process that is left."""
_GONE = (anyio.ClosedResourceError, anyio.BrokenResourceError, ConnectionError)

_Incoming = MemoryObjectSendStream[SessionMessage | Exception]
_Outgoing = MemoryObjectReceiveStream[SessionMessage]


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
async def speaking(target: Command, tail: Tail, end: End) -> AsyncIterator[tuple[Any, Any]]:
    """Run a server that speaks over stdin and stdout, a message a line; gives the two streams of an SDK's transport.

    Lines that are no message are passed over: many a program greets on stdout. `end` is told of one that is too long.
    """
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", 0) as pipe, os.fdopen(writing, "wb", 0) as theirs:
        process = await asyncio.create_subprocess_exec(
            target.command,
            *target.args,
            env={**get_default_environment(), **target.env},
            cwd=target.cwd or None,
            stdin=asyncio.subprocess.PIPE,
            # A pipe of our own: the process's end is then not waited for where a child of its keeps the pipe open.
            stdout=theirs,
            stderr=tail.file,
            start_new_session=True,
        )
        theirs.close()
        if process.stdin is not None:  # always: a pipe was asked for
            async with _streams(process, process.stdin, pipe, end) as streams:
                yield streams


@asynccontextmanager
async def _streams(
    process: asyncio.subprocess.Process, stdin: asyncio.StreamWriter, pipe: Any, end: End
) -> AsyncIterator[tuple[Any, Any]]:
    incoming, received = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    sending, outgoing = anyio.create_memory_object_stream[SessionMessage](0)
    tasks = Tasks("mcp")
    lines = asyncio.StreamReader(MESSAGE_LIMIT)
    stdout: asyncio.BaseTransport | None = None
    try:
        loop = asyncio.get_running_loop()
        stdout, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), pipe)
        tasks.spawn(f"stdout {process.pid}", _receive(lines, incoming, end))
        writer = tasks.spawn(f"stdin {process.pid}", _send(stdin, outgoing, incoming))
        yield received, sending
        received.close()
        sending.close()
        await asyncio.wait([writer], timeout=_FLUSH)
    finally:
        stdin.close()
        # Its stdin's end is how a server is told to end; what it still says meanwhile is read, and dropped.
        with suppress(TimeoutError):
            async with asyncio.timeout(GRACE):
                await process.wait()
        await _end(process)
        await tasks.aclose()
        if stdout is not None:
            stdout.close()
        for stream in (incoming, received, sending, outgoing):
            stream.close()


async def _receive(lines: asyncio.StreamReader, incoming: _Incoming, end: End) -> None:
    async with incoming:
        while True:
            try:
                line = await lines.readuntil()
            except asyncio.IncompleteReadError:
                return
            except asyncio.LimitOverrunError:
                end.because(too_large(MESSAGE_LIMIT))
                return
            try:
                message = jsonrpc_message_adapter.validate_json(line, by_name=False)
            except ValueError:
                log.debug("no message on stdout: %.200r", line)
                continue
            with suppress(*_GONE):
                await incoming.send(SessionMessage(message))


async def _send(stdin: asyncio.StreamWriter, outgoing: _Outgoing, incoming: _Incoming) -> None:
    try:
        async with outgoing:
            async for item in outgoing:
                stdin.write(item.message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n")
                await stdin.drain()
    except _GONE:
        # It may live on: who waits for an answer is told that none will come.
        incoming.close()


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

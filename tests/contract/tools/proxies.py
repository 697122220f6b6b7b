"""Web servers between an agent and an MCP server, or in its place."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from kadre.base.tasks import Tasks
from tests.contract.tools.conftest import World

Answer = Callable[[str, bytes], Awaitable[bytes]]


def refusal(status: str) -> bytes:
    """A refusal with a page, as proxies send it."""
    return f"HTTP/1.1 {status}\r\ncontent-type: text/html\r\ncontent-length: 4\r\n\r\n<p/>".encode()


@asynccontextmanager
async def answering(answer: Answer) -> AsyncIterator[int]:
    """A web server that answers as told; gives its port."""

    tasks = Tasks("answering")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = re.search(rb"(?i)content-length: *(\d+)", head)
                body = await reader.readexactly(int(length.group(1)) if length else 0)
                writer.write(await answer(head.decode(), body))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(lambda *ends: tasks.spawn("connection", serve(*ends)), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await tasks.aclose()


@asynccontextmanager
async def before(
    world: World, instead: list[bytes], authorised: Callable[[str], bool] = lambda _: True
) -> AsyncIterator[int]:
    """A proxy before the server that gives each answer in `instead` once in the server's place; gives its port."""

    async def forward(head: str, body: bytes) -> bytes:
        if not authorised(head):
            return refusal("401 Unauthorized")
        if instead:
            return instead.pop()
        reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
        writer.write(re.sub("(?i)connection: keep-alive", "connection: close", head).encode() + body)
        try:
            return await reader.read(-1)
        finally:
            writer.close()

    async with answering(forward) as port:
        yield port

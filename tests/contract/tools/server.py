"""A real MCP server to run as a child process: `server.py stdio`, or `server.py (sse | http) PORT [json] [many]`.

Its tools do what the tests need done: answer, fail, never answer, die, and change the list of tools; with `many` it has
hundreds besides. Over HTTP it prints its port when it can be connected to.
"""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import sys
from typing import Any

import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import CallToolResult, EmbeddedResource, ImageContent, TextContent, TextResourceContents, ToolAnnotations

server = MCPServer("tests", log_level="CRITICAL")
arrived = 0
all_here = asyncio.Event()


@server.tool(annotations=ToolAnnotations(read_only_hint=True, idempotent_hint=True))
async def echo(text: str) -> str:
    """Say it again."""
    return text


@server.tool()
async def who() -> str:
    """The process that answers."""
    return str(os.getpid())


@server.tool()
async def meet(people: int) -> str:
    """Answer when that many calls are waiting here."""
    global arrived
    arrived += 1
    if arrived == people:
        all_here.set()
    await all_here.wait()
    return "met"


@server.tool()
async def hang() -> str:
    """Never answer."""
    await asyncio.Event().wait()
    return "never"


@server.tool()
async def fail(message: str) -> str:
    """Say that it did not work."""
    raise ToolError(message)


@server.tool()
async def die() -> str:
    """End the process in the middle of the call."""
    os.kill(os.getpid(), 9)
    return "never"


@server.tool()
async def mixed() -> CallToolResult:
    """A text, an image and a resource."""
    image = ImageContent(data=base64.b64encode(b"x" * 30).decode(), mime_type="image/png")
    note = EmbeddedResource(resource=TextResourceContents(uri="file:///note", text="a note"))
    return CallToolResult(content=[TextContent(text="look:"), image, note])


@server.tool()
async def structured() -> CallToolResult:
    """Structured content and no text."""
    return CallToolResult(content=[], structured_content={"a": [1, 2]})


@server.tool()
async def grow(context: Context[Any, Any]) -> str:
    """Add a tool, and tell it in the older and in the newer way."""
    server.add_tool(echo, name="grown")
    await context.session.send_tool_list_changed()
    await context.notify_tools_changed()
    return "grown"


def add_many() -> None:
    """A tool for each thing that may be done with each sort of paper: more than a model is sent."""
    for paper in (
        "invoice",
        "order",
        "offer",
        "receipt",
        "contract",
        "reminder",
        "parcel",
        "licence",
        "ticket",
        "visa",
    ):
        for what in ("read", "list", "count", "print", "archive", "sign", "send", "cancel", "copy", "split"):
            for place in ("office", "store", "branch"):

                async def do(number: str, done: str = f"{what} {paper}, {place}:") -> str:
                    return f"{done} {number}"

                server.add_tool(
                    do,
                    name=f"{place}_{what}_{paper}",
                    description=f"In the {place}: {what} one {paper} of a customer, by the number that is on it.",
                    annotations=ToolAnnotations(read_only_hint=what in ("read", "list", "count")),
                )


def main() -> None:
    """Serve until killed."""
    kind = sys.argv[1]
    if "many" in sys.argv:
        add_many()
    if kind == "stdio":
        server.run("stdio")
        return
    app = server.sse_app() if kind == "sse" else server.streamable_http_app(json_response="json" in sys.argv)
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", int(sys.argv[2])))
    listening.listen(128)
    print(listening.getsockname()[1], flush=True)  # noqa: T201
    uvicorn.Server(uvicorn.Config(app, log_level="critical")).run(sockets=[listening])


if __name__ == "__main__":
    main()

"""Where writes go: an API and an MCP server whose writes can be seen, and held at either side of what they do."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

from mcp.server.mcpserver import MCPServer
from mcp_types import ToolAnnotations
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from tests.support.serving import answering

Step = Literal["received", "acted"]
"""The request is there and nothing is done; it is done and not answered."""


class Held:
    """A write that is held: `reached` is set when it is, and it goes on with `go`."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.go = asyncio.Event()


class Sink:
    """What came, and what was done, by the message written; `keys`: the Idempotency-Keys a message came with."""

    def __init__(self) -> None:
        self.url = ""
        self.came: list[str] = []
        self.done: list[str] = []
        self.keys: dict[str, set[str]] = {}
        self._results: dict[str, int] = {}
        self._held: dict[tuple[Step, str], Held] = {}

    def hold(self, step: Step, message: str) -> Held:
        """Hold the next write of that message at that step."""
        held = self._held[step, message] = Held()
        return held

    async def act(self, message: str, key: str) -> int:
        """Do the write, unless one of that key was done: the number of its result. An empty key is none."""
        self.came.append(message)
        await self._at("received", message)
        if key not in self._results:
            self.done.append(message)
            number = len(self.done)
            if key:
                self._results[key] = number
        else:
            number = self._results[key]
        await self._at("acted", message)
        return number

    async def _at(self, step: Step, message: str) -> None:
        held = self._held.pop((step, message), None)
        if held is not None:
            held.reached.set()
            await held.go.wait()

    async def write(self, request: Request) -> Response:
        """An API: at `/honours` it does what has one Idempotency-Key once, at `/ignores` it looks at none."""
        message, key = (await request.json())["message"], request.headers["idempotency-key"]
        self.keys.setdefault(message, set()).add(key)
        return JSONResponse({"number": await self.act(message, key if request.url.path == "/honours" else "")})

    def tools(self) -> MCPServer:
        """The same for MCP, where a tool can say no more than that calling it again changes nothing."""
        server = MCPServer("sink", log_level="CRITICAL")

        @server.tool(annotations=ToolAnnotations(idempotent_hint=True))
        async def put(message: str) -> str:
            """Write the message; once, however often it is told."""
            return str(await self.act(message, message))

        @server.tool()
        async def add(message: str) -> str:
            """Write the message."""
            return str(await self.act(message, ""))

        return server


@asynccontextmanager
async def sinking() -> AsyncIterator[Sink]:
    """Serve one: its API below `url`, its MCP server at `url`/mcp."""
    sink = Sink()
    server = sink.tools()
    mcp = server.streamable_http_app(json_response=True, stateless_http=True)
    paths = [Route(path, sink.write, methods=["POST"]) for path in ("/honours", "/ignores")]
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(server.session_manager.run())
        sink.url = await stack.enter_async_context(answering(Starlette(routes=[*paths, Mount("/", mcp)])))
        yield sink

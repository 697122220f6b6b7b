"""The floor: the same upstream calls in the same mode, by a bare proxy that is no agent at all."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from benchmarks.apps import MCP_URL, MODEL_URL
from benchmarks.scenarios import ANSWER, HISTORY_TURNS, SYSTEM_PROMPT, TOOL_NAME, USER_TEXT, echo

Message = dict[str, Any]
CallTool = Callable[[Message], Awaitable[str]]

URL = f"{MODEL_URL}/chat/completions"
HEADERS = {"Content-Type": "application/json"}
SYSTEM = {"role": "system", "content": SYSTEM_PROMPT}
EARLIER = [{"role": "user", "content": USER_TEXT}, {"role": "assistant", "content": ANSWER}] * HISTORY_TURNS
PARAMETERS = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
FUNCTION = {"name": TOOL_NAME, "description": echo.__doc__, "parameters": PARAMETERS}
TOOLS = [{"type": "function", "function": FUNCTION}]

encode, decode = msgspec.json.encode, msgspec.json.decode


class Proxy:
    """One endpoint a scenario."""

    def __init__(self) -> None:
        self._sessions: dict[str, list[Message]] = {}
        self._mcp: Any = None

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """Keep one pool of connections to the model."""
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as self._http:
            yield

    async def hello(self, request: Request) -> Response:
        """One call."""
        return _reply(await self._ask([SYSTEM, await _said(request)]))

    async def tool(self, request: Request) -> Response:
        """Two calls, a function between them."""

        async def call(arguments: Message) -> str:
            return echo(**arguments)

        return await self._with_tool(request, call)

    async def mcp(self, request: Request) -> Response:
        """Two calls, between them one by the MCP SDK over a session that stays open."""
        if self._mcp is None:
            from mcp import Client  # here, or it would be in the floor's idle memory

            self._mcp = await Client(MCP_URL).__aenter__()

        async def call(arguments: Message) -> str:
            text: str = (await self._mcp.call_tool(TOOL_NAME, arguments)).content[0].text
            return text

        return await self._with_tool(request, call)

    async def history(self, request: Request) -> Response:
        """One call with the session's last messages."""
        body = decode(await request.body())
        past = self._sessions.setdefault(body["session_id"], list(EARLIER))
        past.append({"role": "user", "content": body["message"]})
        past.append(await self._ask([SYSTEM, *past]))
        del past[:2]
        return _reply(past[-1])

    async def stream(self, request: Request) -> Response:
        """One streamed call, its bytes passed on as they come."""
        message = await _said(request)

        async def pieces() -> AsyncIterator[bytes]:
            async with self._post([SYSTEM, message], stream=True) as response:
                async for piece in response.content.iter_any():
                    yield piece

        return StreamingResponse(pieces(), media_type="text/event-stream")

    async def _with_tool(self, request: Request, call: CallTool) -> Response:
        messages = [SYSTEM, await _said(request)]
        asked = await self._ask(messages, tools=TOOLS)
        wanted = asked["tool_calls"][0]
        output = await call(decode(wanted["function"]["arguments"]))
        messages += [asked, {"role": "tool", "tool_call_id": wanted["id"], "content": output}]
        return _reply(await self._ask(messages, tools=TOOLS))

    async def _ask(self, messages: list[Message], **more: Any) -> Message:
        async with self._post(messages, **more) as response:
            message: Message = decode(await response.read())["choices"][0]["message"]
            return message

    def _post(self, messages: list[Message], **more: Any) -> Any:
        body = encode({"model": "mock", "messages": messages, **more})
        return self._http.post(URL, data=body, headers=HEADERS)


async def _said(request: Request) -> Message:
    return {"role": "user", "content": decode(await request.body())["message"]}


def _reply(message: Message) -> Response:
    return Response(encode({"response": message["content"]}), media_type="application/json")


def create_app() -> Starlette:
    """The proxy as uvicorn wants it."""
    proxy = Proxy()
    doors = (proxy.hello, proxy.tool, proxy.mcp, proxy.history, proxy.stream)
    routes = [Route(f"/{door.__name__}", door, methods=["POST"]) for door in doors]
    return Starlette(routes=routes, lifespan=proxy.lifespan)

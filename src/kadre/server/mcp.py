"""The MCP door: an MCP server whose tools are agents, so that whatever speaks MCP can ask them.

It is imported when the first client comes, never before: it loads the SDK. Each request stands alone (no session of the
protocol's own), so any replica answers any of them; a conversation is an argument like any other.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from http import HTTPStatus
from typing import Any

import mcp_types as types
import msgspec
from mcp.server import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.types import Receive, Scope, Send

from kadre.base.errors import KadreError
from kadre.base.tasks import Tasks
from kadre.plan.names import tool_name
from kadre.plan.types import AgentKey
from kadre.server import body
from kadre.server.asking import Agents, Told

logging.getLogger("mcp").setLevel(logging.CRITICAL)  # what fails is told to whoever asked

READ_RUN = "read_run"
ASKED = {
    "type": "object",
    "properties": {
        "message": {"type": "string", "description": "What the agent is asked."},
        "session_id": {"type": "string", "description": "The conversation to go on with; a new one where left out."},
    },
    "required": ["message"],
}
READ = {
    "type": "object",
    "properties": {"run_id": {"type": "string", "description": "As an agent's answer named it."}},
    "required": ["run_id"],
}


_scope: ContextVar[Scope] = ContextVar("mcp-scope")


class McpServer:
    """An ASGI application. It serves from the first request on, until its tasks are ended."""

    def __init__(self, agents: Agents, tasks: Tasks) -> None:
        self._agents = agents
        self._tasks = tasks
        server: Server[dict[str, Any]] = Server(
            "kadre", instructions="Every tool is an agent.", on_list_tools=self._list, on_call_tool=self._call
        )
        self._manager = StreamableHTTPSessionManager(
            server, json_response=True, stateless=True, max_request_body_size=body.MAX_BODY
        )
        self._serving: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI. Who calls is in the scope already."""
        if self._serving is None:
            self._serving = self._tasks.spawn("mcp", self._serve())
        await self._ready.wait()
        _scope.set(scope)
        await self._manager.handle_request(scope, receive, send)

    async def _serve(self) -> None:
        async with self._manager.run():
            self._ready.set()
            await asyncio.Event().wait()

    async def _list(self, _: ServerRequestContext[Any], __: Any) -> types.ListToolsResult:
        offered = await self._agents.offered(_scope.get())
        named = names_of([each.key for each in offered])
        tools = [
            types.Tool(name=named[each.key], description=each.description or f"Ask {each.key}.", input_schema=ASKED)
            for each in offered
        ]
        about = "Read a run: its status, and every event of it."
        return types.ListToolsResult(tools=[*tools, types.Tool(name=READ_RUN, description=about, input_schema=READ)])

    async def _call(self, _: ServerRequestContext[Any], params: types.CallToolRequestParams) -> types.CallToolResult:
        given = params.arguments or {}
        try:
            if params.name == READ_RUN:
                told = await self._agents.read(_scope.get(), _text(given, "run_id"))
                return _result(msgspec.json.encode(told.body).decode(), told)
            offered = await self._agents.offered(_scope.get())
            named = {name: key for key, name in names_of([each.key for each in offered]).items()}
            if params.name not in named:
                raise ValueError(f"there is no tool {params.name!r}; there is {', '.join([*named, READ_RUN])}")
            session = given.get("session_id")
            told = await self._agents.ask(
                _scope.get(), named[params.name], _text(given, "message"), session if isinstance(session, str) else ""
            )
        except (KadreError, ValueError) as error:
            return types.CallToolResult(content=[types.TextContent(text=str(error))], is_error=True)
        return _result(_said(told), told)


def names_of(agents: Sequence[AgentKey]) -> dict[AgentKey, str]:
    """A tool's name for each: the agent's own, with its namespace where that is not its alone."""
    plain = [tool_name(key.name) for key in agents] + [READ_RUN]
    return {
        key: tool_name(key.name) if plain.count(tool_name(key.name)) == 1 else tool_name(f"{key.namespace}_{key.name}")
        for key in agents
    }


def _text(given: Mapping[str, Any], name: str) -> str:
    value = given.get(name)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"it needs an argument `{name}`, as text")
    return value


def _said(told: Told) -> str:
    """What a model is to read of an answer."""
    if told.status == HTTPStatus.OK:
        return str(told.body.get("response", ""))
    if told.status == HTTPStatus.ACCEPTED:
        run = told.body.get("run_id", "")
        return f"It waits for a person to approve a call; ask them, and then read the run {run} with {READ_RUN}."
    error = told.body.get("error") or {}
    return str(error.get("message") or f"it failed ({told.status})")


def _result(text: str, told: Told) -> types.CallToolResult:
    failed = told.status >= HTTPStatus.BAD_REQUEST
    content = [types.TextContent(text=text)]
    return types.CallToolResult(content=content, structured_content=dict(told.body), is_error=failed)

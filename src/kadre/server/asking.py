"""A host's agents, asked and read for doors that are not HTTP's own: see `kadre.server.mcp.Agents`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from kadre.base.tasks import Tasks
from kadre.engine.host import Ask, Host
from kadre.plan.types import AgentKey
from kadre.server import auth, chat, names, runs


class Offered(NamedTuple):
    """An agent that can be asked."""

    key: AgentKey
    description: str


class Told(NamedTuple):
    """What a door answered: an HTTP status, and what it says as JSON."""

    status: int
    body: Mapping[str, Any]


class Agents(Protocol):
    """Who can be asked: by the caller of the request whose ASGI scope is given."""

    async def offered(self, scope: Scope) -> Sequence[Offered]:
        """Those that are there for the caller. Raises Refused."""
        ...

    async def ask(self, scope: Scope, agent: AgentKey, message: str, session_id: str) -> Told:
        """What the chat door answers. Raises Refused."""
        ...

    async def read(self, scope: Scope, run_id: str) -> Told:
        """What the runs door tells of a run. Raises Refused."""
        ...


class HostAgents:
    """The agents of this process."""

    def __init__(self, host: Host, directory: names.Directory) -> None:
        self._host = host
        self._runs = runs.RunsDoor(host, directory)

    async def offered(self, scope: Scope) -> Sequence[Offered]:
        """See Agents."""
        caller: auth.Caller = scope["caller"]
        agents = sorted(self._host.agents.values(), key=lambda agent: agent.plan.key)
        theirs = [agent.plan for agent in agents if caller.agent in {"", str(agent.plan.key)}]
        return [Offered(plan.key, plan.description) for plan in theirs]

    async def ask(self, scope: Scope, agent: AgentKey, message: str, session_id: str) -> Told:
        """See Agents."""
        caller: auth.Caller = scope["caller"]
        auth.check(caller, agent)
        live = await self._host.start(Ask(agent=agent, message=message, session_id=session_id, caller=caller.name))
        answer = chat.chat_reply(live, await live.wait_decision())
        return Told(answer.status_code, msgspec.json.decode(answer.body))

    async def read(self, scope: Scope, run_id: str) -> Told:
        """See Agents."""
        answer = await self._runs.get(Request({**scope, "path_params": {"id": run_id}}))
        return Told(answer.status_code, msgspec.json.decode(answer.body))


class McpDoor:
    """The MCP door, whose library is loaded when its first client comes."""

    def __init__(self, agents: Agents, tasks: Tasks) -> None:
        self._agents = agents
        self._tasks = tasks
        self._server: Any = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if self._server is None:
            from kadre.server.mcp import McpServer

            self._server = McpServer(self._agents, self._tasks)
        await self._server(scope, receive, send)

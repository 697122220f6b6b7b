"""A host's agents, asked and read for doors that speak another protocol than Kadre's own: MCP and A2A."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from kadre.base.errors import Refused
from kadre.base.tasks import Tasks
from kadre.engine import events as ev
from kadre.engine.accepting import Ask
from kadre.engine.host import Host
from kadre.engine.live import Live
from kadre.plan.types import AgentKey
from kadre.server import auth, chat, runs, sse, webhooks

Method = Literal["GET", "POST", "DELETE"]


class Offered(NamedTuple):
    """An agent that can be asked."""

    key: AgentKey
    description: str


class Told(NamedTuple):
    """What a door answered: an HTTP status, what it says as JSON, and in how many seconds to ask again, if it said."""

    status: int
    body: Mapping[str, Any]
    retry_after: float | None = None


class Answered(Refused):
    """A host has refused it: what it said, as whoever asked through the gateway is told."""

    def __init__(self, told: Told) -> None:
        error = told.body.get("error") or {}
        message = str(error.get("message") or f"it failed ({told.status})")
        super().__init__(message, reason=str(error.get("reason") or "Refused"), retry_after=told.retry_after)
        self.status = told.status  # type: ignore[misc]  # the host's, whatever it is


class Agents(Protocol):
    """Who can be asked: by the caller of the request whose ASGI scope is given."""

    async def offered(self, scope: Scope) -> Sequence[Offered]:
        """Those that are there for the caller. Raises Refused."""
        ...

    async def ask(self, scope: Scope, agent: AgentKey, message: str, session_id: str) -> Told:
        """What the chat door answers. Raises Refused."""
        ...

    async def begin(self, scope: Scope, agent: AgentKey, message: str, session_id: str) -> Told:
        """What the runs door answers to a run that nobody waits for. Raises Refused."""
        ...

    def stream(self, scope: Scope, agent: AgentKey, message: str, session_id: str) -> AsyncGenerator[ev.Event]:
        """The events of a run that is begun so, and its tokens, until it has ended. Raises KadreError."""
        ...

    async def read(self, scope: Scope, run_id: str) -> Told:
        """What the runs door tells of a run. Raises Refused."""
        ...

    def follow(self, scope: Scope, run_id: str, after: int) -> AsyncGenerator[ev.Event]:
        """The run's events with a number above `after`, and its tokens, until it has ended. Raises KadreError."""
        ...

    async def runs(self, scope: Scope, query: Mapping[str, str]) -> Told:
        """What the runs door lists. Raises Refused."""
        ...

    async def cancel(self, scope: Scope, run_id: str) -> Told:
        """What the runs door answers when it has ended a run. Raises Refused."""
        ...

    async def webhooks(
        self, scope: Scope, run_id: str, method: Method, webhook: str = "", sent: Mapping[str, str] | None = None
    ) -> Told:
        """What the door of webhooks answers: of a run's, or of that one. Raises Refused."""
        ...


class HostAgents:
    """The agents of this process."""

    def __init__(self, host: Host, door: runs.RunsDoor, hooks: webhooks.WebhooksDoor) -> None:
        self._host = host
        self._runs = door
        self._hooks = hooks

    async def offered(self, scope: Scope) -> Sequence[Offered]:
        """See Agents."""
        caller: auth.Caller = scope["caller"]
        agents = sorted(self._host.agents.values(), key=lambda agent: agent.plan.key)
        theirs = [agent.plan for agent in agents if caller.agent in {"", str(agent.plan.key)}]
        return [Offered(plan.key, plan.description) for plan in theirs]

    async def ask(self, scope: Scope, agent: AgentKey, message: str, session_id: str) -> Told:
        """See Agents."""
        live = await self._start(scope, agent, message, session_id, stream=False)
        return _told(chat.chat_reply(live, await live.wait_decision()))

    async def begin(self, scope: Scope, agent: AgentKey, message: str, session_id: str) -> Told:
        """See Agents."""
        return _told(await self._runs.accepted(await self._start(scope, agent, message, session_id, stream=True)))

    async def stream(self, scope: Scope, agent: AgentKey, message: str, session_id: str) -> AsyncGenerator[ev.Event]:
        """See Agents."""
        live = await self._start(scope, agent, message, session_id, stream=True)
        async for event in live.follow():
            yield event

    async def _start(self, scope: Scope, agent: AgentKey, message: str, session_id: str, *, stream: bool) -> Live:
        caller: auth.Caller = scope["caller"]
        auth.check(caller, agent)
        ask = Ask(agent=agent, message=message, session_id=session_id, caller=caller.name, stream=stream)
        return await self._host.start(ask)

    async def read(self, scope: Scope, run_id: str) -> Told:
        """See Agents."""
        return _told(await self._runs.get(_of(scope, run_id)))

    async def follow(self, scope: Scope, run_id: str, after: int) -> AsyncGenerator[ev.Event]:
        """See Agents."""
        live = await self._runs.open(_of(scope, run_id))
        async for event in live.follow(after):
            yield event

    async def runs(self, scope: Scope, query: Mapping[str, str]) -> Told:
        """See Agents."""
        return _told(await self._runs.index(Request({**scope, "query_string": urlencode(query).encode()})))

    async def cancel(self, scope: Scope, run_id: str) -> Told:
        """See Agents."""
        return _told(await self._runs.cancel(_of(scope, run_id)))

    async def webhooks(
        self, scope: Scope, run_id: str, method: Method, webhook: str = "", sent: Mapping[str, str] | None = None
    ) -> Told:
        """See Agents."""
        request = _of(scope, run_id, webhook, msgspec.json.encode(sent or {}))
        match method:
            case "POST":
                return _told(await self._hooks.create(request))
            case "DELETE":
                return _told(await self._hooks.delete(request))
            case "GET":
                return _told(await (self._hooks.one(request) if webhook else self._hooks.index(request)))


def _of(scope: Scope, run_id: str, webhook: str = "", sent: bytes = b"") -> Request:
    async def receive() -> Message:
        return {"type": "http.request", "body": sent, "more_body": False}

    headers = [each for each in scope["headers"] if each[0] != b"content-length"]  # that of another body
    return Request({**scope, "path_params": {"id": run_id, "webhook": webhook}, "headers": headers}, receive)


def _told(answer: Response) -> Told:
    return Told(answer.status_code, msgspec.json.decode(answer.body), retry_after(answer.headers))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """In how many seconds to ask again, where an answer of ours says so."""
    seconds = sse.number(headers.get("retry-after", ""))
    return None if seconds is None else float(seconds)


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

"""Every agent that the caller may talk to, for the MCP door: see `kadre.server.asking.Agents`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.types import Message, Scope

from kadre.base.errors import Unavailable
from kadre.base.ids import new_id
from kadre.plan.types import AgentKey
from kadre.server.asking import Offered, Told
from kadre.server.gateway import visitors
from kadre.server.gateway.fleet import Fleet
from kadre.server.gateway.runs import RunDoors
from kadre.server.gateway.upstream import Call, Upstream, whole
from kadre.server.gateway.visitors import Visitor

_JSON = {"content-type": "application/json", "accept": "application/json", "accept-encoding": "identity"}
_body = msgspec.json.Decoder(dict[str, Any])


class GatewayAgents:
    """Agents at their hosts."""

    def __init__(self, fleet: Fleet, upstream: Upstream, runs: RunDoors) -> None:
        self._fleet = fleet
        self._upstream = upstream
        self._runs = runs

    async def offered(self, scope: Scope) -> Sequence[Offered]:
        """See Agents."""
        keys = sorted(await visitors.allowed(scope["visitor"], self._fleet.all()))
        return [Offered(key, str(self._fleet.shown(key).get("description") or "")) for key in keys]

    async def ask(self, scope: Scope, agent: AgentKey, message: str, session_id: str) -> Told:
        """See Agents."""
        visitor: Visitor = scope["visitor"]
        await visitors.check(visitor, "chat", agent)
        session = session_id or new_id("ses")
        said = msgspec.json.encode({"message": message, "session_id": session})
        call = Call("POST", f"/agents/{agent.namespace}/{agent.name}/chat", _JSON, said)
        return await _told(await self._upstream.ask(call, agent, visitor, f"{agent} {session}"))

    async def read(self, scope: Scope, run_id: str) -> Told:
        """See Agents."""
        request = Request({**scope, "path_params": {"id": run_id}, "path": f"/runs/{run_id}", "method": "GET"}, _never)
        return await _told(await self._runs.found(request, _JSON))


async def _told(answer: Any) -> Told:
    try:
        return Told(answer.status, _body.decode(await whole(answer)))
    except ValueError as error:
        raise Unavailable(f"what the agent's pod answers cannot be read: {error}") from error


async def _never() -> Message:
    await asyncio.Event().wait()
    raise AssertionError

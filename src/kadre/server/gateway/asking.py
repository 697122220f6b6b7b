"""Every agent that the caller may talk to, for MCP and A2A: see `kadre.server.asking.Agents`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
import msgspec
from starlette.requests import Request
from starlette.types import Message, Scope

from kadre.base.errors import Unavailable
from kadre.base.ids import new_id
from kadre.engine import events as ev
from kadre.engine import sse
from kadre.plan.types import AgentKey
from kadre.server.asking import Answered, Method, Offered, Told, retry_after
from kadre.server.gateway import visitors
from kadre.server.gateway.fleet import Fleet
from kadre.server.gateway.runs import RunDoors
from kadre.server.gateway.upstream import Call, Upstream, whole
from kadre.server.gateway.visitors import Visitor
from kadre.server.openai import BASE

_JSON = {"content-type": "application/json", "accept": "application/json", "accept-encoding": "identity"}
_STREAM = {**_JSON, "accept": "text/event-stream"}
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
        return await _told(await self._sent(scope, agent, Call("POST", _chat(agent), _JSON), message, session_id))

    async def begin(self, scope: Scope, agent: AgentKey, message: str, session_id: str) -> Told:
        """See Agents."""
        return await _told(await self._sent(scope, agent, Call("POST", "/runs", _JSON), message, session_id))

    async def stream(self, scope: Scope, agent: AgentKey, message: str, session_id: str) -> AsyncGenerator[ev.Event]:
        """See Agents."""
        call = Call("POST", _chat(agent), _STREAM, seconds=None)
        async with aclosing(_events(await self._sent(scope, agent, call, message, session_id))) as events:
            async for event in events:
                yield event

    async def _sent(
        self, scope: Scope, agent: AgentKey, call: Call, message: str, session_id: str
    ) -> aiohttp.ClientResponse:
        visitor: Visitor = scope["visitor"]
        await visitors.check(visitor, "chat", agent)
        session = session_id or new_id("ses")
        said = msgspec.json.encode({"message": message, "session_id": session, "agent": agent.short})
        call = msgspec.structs.replace(call, body=said)
        return await self._upstream.ask(call, agent, visitor, f"{agent} {session}")

    async def read(self, scope: Scope, run_id: str) -> Told:
        """See Agents."""
        return await _told(await self._runs.found(_of(scope, run_id), _JSON))

    async def follow(self, scope: Scope, run_id: str, after: int) -> AsyncGenerator[ev.Event]:
        """See Agents."""
        headers = {**_STREAM, "last-event-id": str(after)}
        answer = await self._runs.found(_of(scope, run_id, "/events"), headers, seconds=None)
        async with aclosing(_events(answer)) as events:
            async for event in events:
                yield event

    async def runs(self, scope: Scope, query: Mapping[str, str]) -> Told:
        """See Agents."""
        listed = await self._runs.index(Request({**scope, "query_string": urlencode(query).encode()}, _never))
        return Told(listed.status_code, _body.decode(listed.body))

    async def cancel(self, scope: Scope, run_id: str) -> Told:
        """See Agents."""
        return await _told(await self._runs.found(_of(scope, run_id, "/cancel", "POST"), _JSON))

    async def webhooks(
        self, scope: Scope, run_id: str, method: Method, webhook: str = "", sent: Mapping[str, str] | None = None
    ) -> Told:
        """See Agents."""
        rest = f"/webhooks/{quote(webhook, safe='')}" if webhook else "/webhooks"
        request = _of(scope, run_id, rest, method)
        headers = {**_JSON, BASE: str(request.base_url)}
        return await _told(await self._runs.found(request, headers, msgspec.json.encode(sent) if sent else b""))


def _of(scope: Scope, run_id: str, rest: str = "", method: str = "GET") -> Request:
    path = f"/runs/{run_id}{rest}"
    return Request({**scope, "path_params": {"id": run_id}, "path": path, "method": method}, _never)


def _chat(agent: AgentKey) -> str:
    return f"/agents/{agent.namespace}/{agent.name}/chat"


async def _events(answer: aiohttp.ClientResponse) -> AsyncGenerator[ev.Event]:
    """The events that a host streams. Raises Refused where it streams none, Unavailable where it breaks off."""
    if answer.status != HTTPStatus.OK:
        raise Answered(await _told(answer))
    parser = sse.Parser()
    try:
        async for chunk in answer.content.iter_any():
            for told in parser.feed(chunk):
                event = _event(told.data)
                if event is not None:
                    yield event
    except (aiohttp.ClientError, TimeoutError, sse.EventTooLarge) as error:
        raise Unavailable("the agent's pod broke off; subscribe to the task again") from error
    finally:
        answer.close()


def _event(data: bytes) -> ev.Event | None:
    """The event; None for one of a later version. Raises Unavailable for the host's word that the run was lost."""
    try:
        return ev.decode(data)
    except msgspec.DecodeError:
        why = ev.lost(data)
        if why is not None:
            raise Unavailable(why) from None
        return None


async def _told(answer: Any) -> Told:
    try:
        return Told(answer.status, _body.decode(await whole(answer)), retry_after(answer.headers))
    except ValueError as error:
        raise Unavailable(f"what the agent's pod answers cannot be read: {error}") from error


async def _never() -> Message:
    await asyncio.Event().wait()
    raise AssertionError

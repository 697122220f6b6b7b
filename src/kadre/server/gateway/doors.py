"""The gateway's doors: whom a request asks for, and how it is handed on."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable
from typing import TypeVar

import aiohttp
import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from kadre.base import ids
from kadre.base.errors import BadRequest, KadreError, NotFound
from kadre.plan.types import AgentKey
from kadre.server import body, errors, names
from kadre.server.gateway import visitors
from kadre.server.gateway.fleet import Fleet
from kadre.server.gateway.relay import Relay
from kadre.server.gateway.upstream import ANSWER_SECONDS, Call, Upstream, passed_on
from kadre.server.gateway.visitors import Visitor

T = TypeVar("T")


class Talk(msgspec.Struct):
    """What is read of a message to an agent; the rest is the host's to judge."""

    session_id: str = ""
    agent: str = ""
    model: str = ""
    stream: bool | None = None


_talk = msgspec.json.Decoder(Talk)


class Doors:
    """What is asked of agents: chat and chat completions; and which agents there are."""

    def __init__(self, fleet: Fleet, upstream: Upstream, home: str = "") -> None:
        self._fleet = fleet
        self._upstream = upstream
        self._home = home
        """The namespace in which a bare name is looked for first."""

    async def chat(self, request: Request) -> Response:
        """`POST /agents/{name}/chat`, `/agents/{namespace}/{name}/chat`."""
        agent = self._named(request)
        sent = await body.read(request)
        session = read(sent).session_id or request.headers.get("x-session-id") or ids.new_id("ses")
        stream = "text/event-stream" in request.headers.get("accept", "")
        path = f"/agents/{agent.namespace}/{agent.name}/chat"
        return await self._hand_on(request, agent, path, sent, session, stream=stream)

    async def completions(self, request: Request) -> Response:
        """`POST /v1/chat/completions` (agent in `model`), `/{name}/v1/…` and `/{namespace}/{name}/v1/…`."""
        sent = await body.read(request)
        told = read(sent)
        agent = self._completing(request, told.model)
        session = request.headers.get("x-session-id", "")
        path = f"/{agent.namespace}/{agent.name}/v1/chat/completions"
        return await self._hand_on(request, agent, path, sent, session, stream=bool(told.stream))

    async def models(self, request: Request) -> Response:
        """`GET /v1/models` and `/{agent}/v1/models`: agents, as models."""
        if "name" in request.path_params:
            keys = [self._completing(request, "")]
        else:
            keys = list(await visitors.allowed(_visitor(request), self._fleet.all()))
        named = Counter(key.name for key in keys)
        data = [
            {
                "id": key.name if named[key.name] == 1 else key.short,
                "object": "model",
                "created": 0,
                "owned_by": "kadre",
            }
            for key in sorted(keys)
        ]
        return errors.json_response({"object": "list", "data": data})

    async def agents(self, request: Request) -> Response:
        """`GET /agents`: those that the caller may talk to."""
        keys = sorted(await visitors.allowed(_visitor(request), self._fleet.all()))
        return errors.json_response({"agents": [self._fleet.shown(key) for key in keys]})

    async def agent(self, request: Request) -> Response:
        """`GET /agents/{name}`, `/agents/{namespace}/{name}`."""
        agent = self._named(request)
        await visitors.check(_visitor(request), "chat", agent)
        return errors.json_response(self._fleet.shown(agent))

    def _named(self, request: Request) -> AgentKey:
        params = request.path_params
        return self._resolve(params["name"], params.get("namespace", ""))

    def _completing(self, request: Request, model: str) -> AgentKey:
        params = request.path_params
        if "name" not in params:
            return self._resolve(model) if model else names.only(self._fleet)
        if params["name"] in names.RESERVED and "namespace" not in params:
            message = f"{params['name']} is an address of Kadre's own; use /NAMESPACE/{params['name']}/v1 for the agent"
            raise NotFound(message, reason="ReservedName")
        return self._named(request)

    def _resolve(self, name: str, namespace: str = "") -> AgentKey:
        return names.resolve(self._fleet, name, namespace, self._home)

    async def _hand_on(
        self, request: Request, agent: AgentKey, path: str, sent: bytes, session: str, *, stream: bool = False
    ) -> Response:
        headers = passed_on(request.headers)
        if session:
            headers["x-session-id"] = session
        return await hand_on(
            request,
            self._upstream,
            agent,
            Call("POST", path, headers, sent, None if stream else ANSWER_SECONDS),
            session,
        )


async def hand_on(request: Request, upstream: Upstream, agent: AgentKey, call: Call, session: str) -> Response:
    """What one of the agent's hosts answers. Raises Forbidden, Unavailable, BadGateway, ClientDisconnect."""
    visitor = _visitor(request)
    await visitors.check(visitor, "chat", agent)
    near = f"{agent} {session or ids.new_id('req')}"
    return Relay(await while_there(request, upstream.ask(call, agent, visitor, near)))


def _visitor(request: Request) -> Visitor:
    visitor: Visitor = request.scope["visitor"]
    return visitor


def read(sent: bytes) -> Talk:
    """What has to be known of it here. What is wrong with the rest the host says."""
    try:
        return _talk.decode(sent)
    except msgspec.ValidationError as error:
        raise BadRequest(f"the body is not what this address takes: {error}", reason="InvalidBody") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"the body is not valid JSON: {error}", reason="InvalidJSON") from error
    except RecursionError as error:
        raise BadRequest("the body is nested too deeply", reason="InvalidJSON") from error


async def while_there(request: Request, asking: Awaitable[T]) -> T:
    """What is asked for, as long as the client waits for it. Raises ClientDisconnect."""
    asked = asyncio.ensure_future(asking)
    left = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({asked, left}, return_when=asyncio.FIRST_COMPLETED)
        if not asked.done():
            raise ClientDisconnect
        return asked.result()
    finally:
        left.cancel()
        if not asked.done():
            asked.cancel()
            with contextlib.suppress(asyncio.CancelledError, aiohttp.ClientError, KadreError):
                late = await asked  # it may have come just now
                if isinstance(late, aiohttp.ClientResponse):
                    late.close()


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass

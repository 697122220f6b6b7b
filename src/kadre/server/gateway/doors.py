"""The gateway's doors: whom a request asks for, and how it is handed on."""

from __future__ import annotations

import contextlib
import functools
from collections import Counter
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from kadre.base import ids
from kadre.base.errors import BadRequest, Conflict, NotFound
from kadre.plan.names import RESERVED
from kadre.plan.types import AgentKey
from kadre.server import body, errors, names
from kadre.server.gateway import visitors
from kadre.server.gateway.fleet import Fleet
from kadre.server.gateway.relay import Relay
from kadre.server.gateway.upstream import ANSWER_SECONDS, Call, Upstream, passed_on, with_session
from kadre.server.gateway.visitors import Visitor
from kadre.server.gateway.waiting import while_there
from kadre.server.openai import BASE

T = TypeVar("T")


class Talk(msgspec.Struct):
    """What is read of a message to an agent; the rest is the host's to judge."""

    session_id: str = ""
    run_id: str = ""
    agent: str = ""
    model: str | None = ""
    stream: bool | None = None


_fields = msgspec.json.Decoder(dict[str, Any])
_talk = msgspec.json.Decoder(Talk)


class Doors:
    """What is asked of agents: chat and chat completions; and which agents there are."""

    def __init__(self, fleet: Fleet, upstream: Upstream, home: str = "") -> None:
        self._fleet = fleet
        self._upstream = upstream
        self.home = home
        """The namespace in which a bare name is looked for first."""

    async def chat(self, request: Request) -> Response:
        """`POST /agents/{name}/chat`, `/agents/{namespace}/{name}/chat`, and `/chat` where there is one agent."""
        agent = await self._named(request)
        sent = await body.read(request)
        told = read(sent)
        headers = passed_on(request.headers)
        seconds = None if "text/event-stream" in headers.get("accept", "") else ANSWER_SECONDS
        path = f"/agents/{agent.namespace}/{agent.name}/chat"
        session = told.session_id or headers.get("x-session-id", "")
        call = Call("POST", path, headers, sent, seconds)
        return await hand_on(request, self._upstream, agent, call, session, told.run_id)

    async def completions(self, request: Request) -> Response:
        """`POST /v1/chat/completions` (agent in `model`), `/{name}/v1/…` and `/{namespace}/{name}/v1/…`."""
        sent = await body.read(request)
        told = read(sent)
        agent = await self._completing(request, told.model or "")
        path = f"/{agent.namespace}/{agent.name}/v1/chat/completions"
        headers = {**passed_on(request.headers), BASE: str(request.base_url)}
        call = Call("POST", path, headers, sent, None if told.stream else ANSWER_SECONDS)
        # Without a session the client's messages are the history: none is begun here.
        near = headers.get("x-session-id") or ids.new_id("req")
        visitor: Visitor = request.scope["visitor"]
        await visitors.check(visitor, "chat", agent)
        answer = await while_there(request.receive, self._upstream.ask(call, agent, visitor, f"{agent} {near}"))
        return Relay(answer, functools.partial(self._upstream.fate, agent))

    async def models(self, request: Request) -> Response:
        """`GET /v1/models` and `/{agent}/v1/models`: agents, as models."""
        if "name" in request.path_params:
            agent = await self._completing(request, "")
            await visitors.check(request.scope["visitor"], "chat", agent)
            keys = [agent]
        else:
            keys = list(await visitors.allowed(request.scope["visitor"], self._fleet.all()))
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
        keys = sorted(await visitors.allowed(request.scope["visitor"], self._fleet.all()))
        return errors.json_response({"agents": [self._fleet.shown(key) for key in keys]})

    async def agent(self, request: Request) -> Response:
        """`GET /agents/{name}`, `/agents/{namespace}/{name}`."""
        return errors.json_response(self._fleet.shown(await self.asked(request)))

    async def offer(self, request: Request) -> Response:
        """`GET /agents/{namespace}/{name}/offer`: what one of its hosts answers."""
        agent = await self._named(request)
        path = f"/agents/{agent.namespace}/{agent.name}/offer"
        call = Call("GET", path, passed_on(request.headers), b"", ANSWER_SECONDS)
        return await hand_on(request, self._upstream, agent, call, "", "")

    async def memories(self, request: Request) -> Response:
        """`/agents/{name}/memories…`: what the agent remembers of the caller, at one of its hosts."""
        agent = await self.asked(request)
        one = request.path_params.get("id", "")
        path = f"/agents/{agent.namespace}/{agent.name}/memories" + (f"/{quote(one, safe='')}" if one else "")
        visitor: Visitor = request.scope["visitor"]
        call = Call(request.method, path, passed_on(request.headers))
        answer = await while_there(request.receive, self._upstream.ask(call, agent, visitor, str(agent)))
        return Relay(answer, functools.partial(self._upstream.fate, agent))

    async def asked(self, request: Request) -> AgentKey:
        """The agent that the address names, for who may talk to it. Raises Refused."""
        agent = await self._named(request)
        await visitors.check(request.scope["visitor"], "chat", agent)
        return agent

    async def _named(self, request: Request) -> AgentKey:
        params = request.path_params
        return await resolve(request, self._fleet, params.get("name", ""), params.get("namespace", ""), self.home)

    async def _completing(self, request: Request, model: str) -> AgentKey:
        params = request.path_params
        if "name" not in params:
            return await resolve(request, self._fleet, model, "", self.home)
        if params["name"] in RESERVED and "namespace" not in params:
            message = f"{params['name']} is an address of Kadre's own; use /NAMESPACE/{params['name']}/v1 for the agent"
            raise NotFound(message, reason="ReservedName")
        return await self._named(request)


async def resolve(request: Request, fleet: Fleet, name: str, namespace: str, home: str) -> AgentKey:
    """The agent of that name; the only one where it is empty. Raises NotFound, Conflict with the candidates.

    Of what the caller may not talk to nothing is told: neither as a hint nor as a candidate.
    """
    if name:
        with contextlib.suppress(NotFound, Conflict):
            return names.resolve(fleet, name, namespace, home)
    seen = names.Some(await visitors.allowed(request.scope["visitor"], fleet.all()))
    return names.resolve(seen, name, namespace, home) if name else names.only(seen)


async def hand_on(
    request: Request, upstream: Upstream, agent: AgentKey, call: Call, session: str, run_id: str
) -> Response:
    """What one of the agent's hosts answers. Raises Forbidden, Unavailable, BadGateway, ClientDisconnect.

    A run that was begun before is asked for where it is; a session, else the run, prefers one host to the others.
    """
    visitor: Visitor = request.scope["visitor"]
    await visitors.check(visitor, "chat", agent)
    if not session and not run_id:
        session = ids.new_id("ses")
    call = msgspec.structs.replace(call, headers=with_session(dict(call.headers), session))
    known = upstream.place(visitor, run_id) if run_id else None
    if known is not None and known.agent == agent:
        asking = upstream.at(call, known, visitor)
    else:
        asking = upstream.ask(call, agent, visitor, f"{agent} {session or run_id}")
    return Relay(await while_there(request.receive, asking), functools.partial(upstream.fate, agent))


def read(sent: bytes) -> Talk:
    """What has to be known of it here. What is wrong with the rest the host says. Raises BadRequest."""
    return _decoded(sent, _talk)


def fields(sent: bytes) -> dict[str, Any]:
    """All that is in it. Raises BadRequest."""
    return _decoded(sent, _fields)


def _decoded(sent: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    try:
        return decoder.decode(sent)
    except msgspec.ValidationError as error:
        raise BadRequest(f"the body is not what this address takes: {error}", reason="InvalidBody") from error
    except ValueError as error:
        raise BadRequest(f"the body is not valid JSON: {error}", reason="InvalidJSON") from error
    except RecursionError as error:
        raise BadRequest("the body is nested too deeply", reason="InvalidJSON") from error

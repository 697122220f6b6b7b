"""The gateway's addresses, those of a host: whoever can talk to one agent can talk to all of them."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from kadre.base.errors import KadreError, Unavailable
from kadre.base.tasks import Tasks
from kadre.plan.types import AgentKey
from kadre.server import errors
from kadre.server.a2a.doors import A2aDoor, CardDoor, grpc_server
from kadre.server.app import Door, nowhere
from kadre.server.asking import Agents, McpDoor
from kadre.server.auth import is_open
from kadre.server.gateway.asking import GatewayAgents
from kadre.server.gateway.crowd import Crowd
from kadre.server.gateway.doors import Doors
from kadre.server.gateway.fleet import Fleet
from kadre.server.gateway.runs import RunDoors
from kadre.server.gateway.sessions import SessionDoors
from kadre.server.gateway.upstream import Upstream
from kadre.server.gateway.usage import UsageDoor
from kadre.server.gateway.visitors import Reception

if TYPE_CHECKING:
    from kadre.server.a2a.grpc import GrpcServer


class Entrance:
    """Lets in who may come in, as many as there is room for: `scope["visitor"]` is who it is."""

    def __init__(self, app: ASGIApp, reception: Reception, crowd: Crowd, a2a: _Agents) -> None:
        self._app = app
        self._a2a = a2a
        self._reception = reception
        self._crowd = crowd

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http" or is_open(scope["path"]):
            await self._app(scope, receive, send)
            return
        try:
            visitor = scope["visitor"] = await self._reception.visitor(scope)
            self._crowd.enter(visitor.name)
        except KadreError as error:
            await errors.as_refusal(error, scope["path"])(scope, receive, send)
            return
        try:
            await self._app(scope, receive, send)
        finally:
            self._crowd.leave(visitor.name)

    def grpc(self, port: int) -> GrpcServer:
        """What serves the same agents over gRPC, to be started at that port. Raises ProblemError."""

        async def admit(scope: Scope) -> Callable[[], None]:
            visitor = scope["visitor"] = await self._reception.visitor(scope)
            self._crowd.enter(visitor.name)
            return functools.partial(self._crowd.leave, visitor.name)

        server = grpc_server(self._a2a.agents, admit, self._a2a.find)
        self._a2a.cards.grpc_port = port
        return server


def figures(metrics: Callable[[Request], Awaitable[Response]]) -> ASGIApp:
    """What is at the port of metrics, and nothing else is."""
    return Router([Route("/metrics", Door(get=metrics))], redirect_slashes=False, default=nowhere)


def build(
    fleet: Fleet,
    upstream: Upstream,
    reception: Reception,
    crowd: Crowd,
    metrics: Callable[[Request], Awaitable[Response]],
    home: str = "",
    waits: Callable[[], str] = str,
) -> Entrance:
    """The ASGI application. `home`: the namespace in which a bare name is looked for first.

    `waits`: what is not known yet that requests need; empty: nothing.
    """

    async def health(request: Request) -> Response:
        del request
        return errors.json_response({"status": "ok", "agents": sum(1 for _ in fleet.all())})

    async def ready(request: Request) -> Response:
        if waiting := waits():
            raise Unavailable(waiting, reason="NotReady", retry_after=1.0)
        return await health(request)

    well = Door(get=health)
    around: dict[str, ASGIApp] = {
        "/health": well,
        "/healthz": well,
        "/readyz": Door(get=ready),
        "/metrics": Door(get=metrics),
    }
    around["/usage"] = Door(get=UsageDoor(fleet, upstream).get)
    runs = RunDoors(fleet, upstream, home)
    doors = Doors(fleet, upstream, home)
    a2a = _Agents(fleet, GatewayAgents(fleet, upstream, runs), doors)
    around["/mcp"] = McpDoor(a2a.agents, Tasks("gateway"))
    around |= a2a.addresses()
    # Addresses are tried one after the other: those of every day come first.
    served = _talking(doors) | around | _described(doors) | _running(runs, SessionDoors(fleet, upstream, runs))
    routes = [Route(path, door) for path, door in served.items()]
    return Entrance(Router(routes, redirect_slashes=False, default=nowhere), reception, crowd, a2a)


class _Agents:
    """What A2A is served of: HTTP's addresses, and what gRPC asks."""

    def __init__(self, fleet: Fleet, agents: Agents, doors: Doors) -> None:
        self.agents = agents
        self.find = doors.asked
        self._fleet = fleet
        self.cards = CardDoor(fleet, self._described, doors.home)

    def addresses(self) -> dict[str, Door]:
        """Those of cards, and of agents."""
        card, door = Door(get=self.cards.get), A2aDoor(self.agents, self.find)
        answer = Door(get=door.answer, post=door.answer, delete=door.answer)
        return dict.fromkeys(CardDoor.PATHS, card) | dict.fromkeys(A2aDoor.PATHS, answer)

    def _described(self, key: AgentKey) -> tuple[str, str]:
        told = self._fleet.shown(key)
        return str(told.get("display_name") or ""), str(told.get("description") or "")


def _talking(doors: Doors) -> dict[str, ASGIApp]:
    talk, completions = Door(post=doors.chat), Door(post=doors.completions)
    return {
        "/agents/{name}/chat": talk,
        "/agents/{namespace}/{name}/chat": talk,
        "/chat": talk,
        "/v1/chat/completions": completions,
        "/{name}/v1/chat/completions": completions,
        "/{namespace}/{name}/v1/chat/completions": completions,
    }


def _described(doors: Doors) -> dict[str, ASGIApp]:
    agent, models = Door(get=doors.agent), Door(get=doors.models)
    memories = Door(get=doors.memories, delete=doors.memories)
    return {
        "/agents/{name}/memories": memories,
        "/agents/{namespace}/{name}/memories": memories,
        "/agents/{name}/memories/{id}": Door(delete=doors.memories),
        "/agents/{namespace}/{name}/memories/{id}": Door(delete=doors.memories),
        "/agents": Door(get=doors.agents),
        "/agents/{name}": agent,
        "/agents/{namespace}/{name}": agent,
        "/agents/{namespace}/{name}/offer": Door(get=doors.offer),
        "/v1/models": models,
        "/{name}/v1/models": models,
        "/{namespace}/{name}/v1/models": models,
    }


def _running(runs: RunDoors, sessions: SessionDoors) -> dict[str, ASGIApp]:
    run, change = Door(get=runs.one), Door(post=runs.one)
    return {
        "/runs": Door(get=runs.index, post=runs.create),
        "/runs/{id}": run,
        "/runs/{id}/events": Door(get=runs.events),
        "/runs/{id}/blobs/{digest}": run,
        "/runs/{id}/cancel": change,
        "/runs/{id}/approve": change,
        "/runs/{id}/fork": Door(post=runs.fork),
        "/runs/{id}/webhooks": Door(get=runs.one, post=runs.one),
        "/runs/{id}/webhooks/{webhook}": Door(get=runs.one, delete=runs.one),
        "/approvals": Door(get=runs.approvals),
        "/sessions": Door(get=sessions.index),
        "/sessions/{id}": Door(get=sessions.get, patch=sessions.change, delete=sessions.change),
    }

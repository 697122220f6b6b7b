"""The gateway's addresses, those of a host: whoever can talk to one agent can talk to all of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from kadre.base.errors import KadreError, Unavailable
from kadre.base.tasks import Tasks
from kadre.server import errors
from kadre.server.app import Door, nowhere
from kadre.server.asking import McpDoor
from kadre.server.auth import OPEN_PATHS
from kadre.server.gateway.asking import GatewayAgents
from kadre.server.gateway.crowd import Crowd
from kadre.server.gateway.doors import Doors
from kadre.server.gateway.fleet import Fleet
from kadre.server.gateway.runs import RunDoors
from kadre.server.gateway.upstream import Upstream
from kadre.server.gateway.usage import UsageDoor
from kadre.server.gateway.visitors import Reception


class Entrance:
    """Lets in who may come in, as many as there is room for: `scope["visitor"]` is who it is."""

    def __init__(self, app: ASGIApp, reception: Reception, crowd: Crowd) -> None:
        self._app = app
        self._reception = reception
        self._crowd = crowd

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS:
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
) -> ASGIApp:
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
    around["/mcp"] = McpDoor(GatewayAgents(fleet, upstream, runs), Tasks("gateway"))
    served = around | _talking(Doors(fleet, upstream, home)) | _running(runs)
    routes = [Route(path, door) for path, door in served.items()]
    return Entrance(Router(routes, redirect_slashes=False, default=nowhere), reception, crowd)


def _talking(doors: Doors) -> dict[str, ASGIApp]:
    talk, completions, models = Door(post=doors.chat), Door(post=doors.completions), Door(get=doors.models)
    agent = Door(get=doors.agent)
    return {
        "/chat": talk,
        "/agents/{name}/chat": talk,
        "/agents/{namespace}/{name}/chat": talk,
        "/v1/chat/completions": completions,
        "/agents": Door(get=doors.agents),
        "/agents/{name}": agent,
        "/agents/{namespace}/{name}": agent,
        "/v1/models": models,
        "/{name}/v1/chat/completions": completions,
        "/{namespace}/{name}/v1/chat/completions": completions,
        "/{name}/v1/models": models,
        "/{namespace}/{name}/v1/models": models,
    }


def _running(runs: RunDoors) -> dict[str, ASGIApp]:
    run, change = Door(get=runs.one), Door(post=runs.one)
    return {
        "/runs": Door(get=runs.index, post=runs.create),
        "/runs/{id}": run,
        "/runs/{id}/events": Door(get=runs.events),
        "/runs/{id}/blobs/{digest}": run,
        "/runs/{id}/cancel": change,
        "/runs/{id}/approve": change,
        "/runs/{id}/fork": change,
        "/sessions": Door(get=runs.sessions),
        "/sessions/{id}": Door(get=runs.session),
    }

"""The gateway's addresses, those of a host: whoever can talk to one agent can talk to all of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from kadre.base.errors import KadreError
from kadre.server import errors
from kadre.server.app import Door, nowhere
from kadre.server.auth import OPEN_PATHS
from kadre.server.gateway.crowd import Crowd
from kadre.server.gateway.doors import Doors
from kadre.server.gateway.fleet import Fleet
from kadre.server.gateway.runs import RunDoors
from kadre.server.gateway.upstream import Upstream
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


def build(
    fleet: Fleet,
    upstream: Upstream,
    reception: Reception,
    crowd: Crowd,
    metrics: Callable[[Request], Awaitable[Response]],
    home: str = "",
) -> ASGIApp:
    """The ASGI application. `home`: the namespace in which a bare name is looked for first."""
    doors, runs = Doors(fleet, upstream, home), RunDoors(fleet, upstream, home)

    async def health(request: Request) -> Response:
        del request
        return errors.json_response({"status": "ok", "agents": sum(1 for _ in fleet.all())})

    talk, completions, models = Door(post=doors.chat), Door(post=doors.completions), Door(get=doors.models)
    agent, well = Door(get=doors.agent), Door(get=health)
    run, change = Door(get=runs.one), Door(post=runs.one)
    routes = [
        Route("/agents/{name}/chat", talk),
        Route("/agents/{namespace}/{name}/chat", talk),
        Route("/v1/chat/completions", completions),
        Route("/health", well),
        Route("/healthz", well),
        Route("/readyz", well),
        Route("/metrics", Door(get=metrics)),
        Route("/agents", Door(get=doors.agents)),
        Route("/agents/{name}", agent),
        Route("/agents/{namespace}/{name}", agent),
        Route("/runs", Door(get=runs.index, post=doors.create_run)),
        Route("/runs/{id}", run),
        Route("/runs/{id}/events", run),
        Route("/runs/{id}/blobs/{digest}", run),
        Route("/runs/{id}/cancel", change),
        Route("/runs/{id}/approve", change),
        Route("/runs/{id}/fork", change),
        Route("/sessions", Door(get=runs.sessions)),
        Route("/sessions/{id}", Door(get=runs.session)),
        Route("/v1/models", models),
        Route("/{name}/v1/chat/completions", completions),
        Route("/{namespace}/{name}/v1/chat/completions", completions),
        Route("/{name}/v1/models", models),
        Route("/{namespace}/{name}/v1/models", models),
    ]
    return Entrance(Router(routes, redirect_slashes=False, default=nowhere), reception, crowd)

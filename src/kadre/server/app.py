"""All doors on one port: the routes, and what every request passes before them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from kadre.base.errors import KadreError, Refused
from kadre.base.problems import Problem
from kadre.base.tasks import Tasks
from kadre.engine.host import Host
from kadre.plan.types import AgentKey
from kadre.server import agents, auth, chat, errors, metrics, openai, runs

log = logging.getLogger(__name__)


class HostDirectory:
    """The host's own agents."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def all(self) -> Iterable[AgentKey]:
        """See Directory."""
        return self._host.agents.keys()


class Guard:
    """Lets in only who may come in, and says who it is: `scope["caller"]`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "http":
            try:
                scope["caller"] = auth.caller(scope)
            except Refused as error:
                await errors.refusal(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def build(host: Host, counted: metrics.Metrics, problems: Callable[[], Sequence[Problem]] = tuple) -> ASGIApp:
    """The ASGI application over a host. `problems` tells what keeps the latest files from being served."""
    directory = HostDirectory(host)
    talk = chat.ChatDoor(host, directory)
    completions = openai.OpenAIDoor(host, directory, Tasks("server"))
    run = runs.RunsDoor(host, directory)
    listed = agents.AgentsDoor(host, directory, problems)
    routes = [
        Route("/agents/{name}/chat", talk.post, methods=["POST"]),
        Route("/chat", talk.post, methods=["POST"]),
        Route("/v1/chat/completions", completions.completions, methods=["POST"]),
        Route("/agents/{namespace}/{name}/chat", talk.post, methods=["POST"]),
        Route("/health", listed.health),
        Route("/healthz", listed.health),
        Route("/readyz", listed.health),
        Route("/metrics", counted.get),
        Route("/agents", listed.index),
        Route("/agents/{name}", listed.get),
        Route("/agents/{namespace}/{name}", listed.get),
        Route("/runs", run.create, methods=["POST"]),
        Route("/runs", run.index),
        Route("/runs/{id}", run.get),
        Route("/runs/{id}/events", run.events),
        Route("/runs/{id}/cancel", run.cancel, methods=["POST"]),
        Route("/runs/{id}/approve", run.approve, methods=["POST"]),
        Route("/runs/{id}/fork", run.fork, methods=["POST"]),
        Route("/sessions", run.sessions),
        Route("/sessions/{id}", run.session),
        Route("/v1/models", completions.models),
        Route("/{name}/v1/chat/completions", completions.completions, methods=["POST"]),
        Route("/{namespace}/{name}/v1/chat/completions", completions.completions, methods=["POST"]),
        Route("/{name}/v1/models", completions.models),
        Route("/{namespace}/{name}/v1/models", completions.models),
    ]
    handlers = {KadreError: _on_error, HTTPException: _on_http, ClientDisconnect: _on_gone, Exception: _on_crash}
    return Guard(Starlette(routes=routes, exception_handlers=handlers))  # type: ignore[arg-type]  # handlers are narrower


async def _on_error(request: Request, error: KadreError) -> Response:
    del request
    return errors.as_refusal(error)


async def _on_http(request: Request, error: HTTPException) -> Response:
    message = error.detail
    if error.status_code == 404:
        message = f"nothing is served at {request.url.path}; see /agents, /runs and /v1/models"
    if error.status_code == 405:
        message = f"{request.method} is not served at {request.url.path}"
    reason = {404: "NoSuchPath", 405: "MethodNotAllowed"}.get(error.status_code, "HTTPError")
    body = {"error": {"reason": reason, "message": message}}
    return errors.json_response(body, error.status_code, dict(error.headers or {}))


async def _on_gone(request: Request, error: ClientDisconnect) -> Response:
    del request, error
    return Response(status_code=499)  # nobody reads it; the log's code for a client that left


async def _on_crash(request: Request, error: Exception) -> Response:
    log.error("request %s %s failed", request.method, request.url.path, exc_info=error)
    return errors.json_response({"error": {"reason": "InternalError", "message": "Kadre failed; see its log"}}, 500)

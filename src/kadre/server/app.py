"""All doors on one port: the routes, and what every request passes before them."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from kadre.base.errors import KadreError, Refused
from kadre.base.problems import Problem
from kadre.base.tasks import Tasks
from kadre.engine.agent import HostedAgent
from kadre.engine.host import Host
from kadre.plan.types import AgentKey
from kadre.server import agents, asking, auth, chat, errors, metrics, openai, runs
from kadre.server.identity import Verifier

log = logging.getLogger(__name__)


class HostDirectory:
    """The host's own agents, by name too: looked for again only when the host has others."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._indexed: Mapping[AgentKey, HostedAgent] = {}
        self._named: dict[str, list[AgentKey]] = {}

    def all(self) -> Iterable[AgentKey]:
        """See Directory."""
        return self._host.agents.keys()

    def named(self, name: str) -> Sequence[AgentKey]:
        """See Directory."""
        agents = self._host.agents
        if agents is not self._indexed:  # the host makes a new mapping with every change
            self._named = {}
            for key in agents:
                self._named.setdefault(key.name, []).append(key)
            self._indexed = agents
        return self._named.get(name, ())


class Guard:
    """Lets in only who may come in, and says who it is: `scope["caller"]`, an auth.Caller."""

    def __init__(self, app: ASGIApp, verifier: Verifier | None = None) -> None:
        self._app = app
        self._verifier = verifier

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "http":
            try:
                scope["caller"] = auth.caller(scope, self._verifier)
            except Refused as error:
                await errors.as_refusal(error, scope["path"])(scope, receive, send)
                return
        await self._app(scope, receive, send)


Handler = Callable[[Request], Awaitable[Response]]


class Door:
    """One address: a handler a method, and every error turned into an answer, in one frame.

    Starlette's own way (an application with exception handlers) passes six; on the way of a hello turn that is a tenth
    of what the turn costs.
    """

    def __init__(self, *, get: Handler | None = None, post: Handler | None = None) -> None:
        self._handlers = {name: made for name, made in (("GET", get), ("HEAD", get), ("POST", post)) if made}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        request = Request(scope, receive, send)
        try:
            handler = self._handlers.get(request.method)
            response = _wrong_method(request, self._handlers) if handler is None else await handler(request)
        except KadreError as error:
            response = errors.as_refusal(error, request.url.path)
        except ClientDisconnect:
            return
        except Exception:
            log.exception("request %s %s failed", request.method, request.url.path)
            failed = {"reason": "InternalError", "message": "Kadre failed in an unexpected way; see its log"}
            response = errors.answer(request.url.path, 500, failed)
        await response(scope, receive, send)


def _wrong_method(request: Request, served: Iterable[str]) -> Response:
    allowed = ", ".join(served)
    message = f"{request.method} is not served at {request.url.path}; {allowed} is"
    error = {"reason": "MethodNotAllowed", "message": message}
    return errors.answer(request.url.path, 405, error, {"Allow": allowed})


async def nowhere(scope: Scope, receive: Receive, send: Send) -> None:
    """The answer at an address that is none."""
    if scope["type"] == "http":
        message = f"nothing is served at {scope['path']}; see /agents, /runs and /v1/models"
        response = errors.answer(scope["path"], 404, {"reason": "NoSuchPath", "message": message})
        await response(scope, receive, send)


def build(
    host: Host,
    counted: metrics.Metrics,
    problems: Callable[[], Sequence[Problem]] = tuple,
    verifier: Verifier | None = None,
) -> ASGIApp:
    """The ASGI application over a host. `problems` tells what keeps the latest files from being served.

    `verifier`: hears whom the gateway vouches for; without it only callers on this machine are served.
    """
    directory = HostDirectory(host)
    talk = Door(post=chat.ChatDoor(host, directory).post)
    tasks = Tasks("server")
    ai = openai.OpenAIDoor(host, directory, tasks)
    completions, models = Door(post=ai.completions), Door(get=ai.models)
    run = runs.RunsDoor(host, directory)
    listed = agents.AgentsDoor(host, directory, problems)
    agent, health = Door(get=listed.get), Door(get=listed.health)
    routes = [
        Route("/agents/{name}/chat", talk),
        Route("/chat", talk),
        Route("/v1/chat/completions", completions),
        Route("/agents/{namespace}/{name}/chat", talk),
        Route("/health", health),
        Route("/healthz", health),
        Route("/readyz", health),
        Route("/metrics", Door(get=counted.get)),
        Route("/agents", Door(get=listed.index)),
        Route("/agents/{name}", agent),
        Route("/agents/{namespace}/{name}", agent),
        Route("/runs", Door(get=run.index, post=run.create)),
        Route("/runs/{id}", Door(get=run.get)),
        Route("/runs/{id}/events", Door(get=run.events)),
        Route("/runs/{id}/blobs/{digest}", Door(get=run.blob)),
        Route("/runs/{id}/cancel", Door(post=run.cancel)),
        Route("/runs/{id}/approve", Door(post=run.approve)),
        Route("/runs/{id}/fork", Door(post=run.fork)),
        Route("/sessions", Door(get=run.sessions)),
        Route("/sessions/{id}", Door(get=run.session)),
        Route("/mcp", asking.McpDoor(asking.HostAgents(host, directory), tasks)),
        Route("/v1/models", models),
        Route("/{name}/v1/chat/completions", completions),
        Route("/{namespace}/{name}/v1/chat/completions", completions),
        Route("/{name}/v1/models", models),
        Route("/{namespace}/{name}/v1/models", models),
    ]
    return Guard(Router(routes, redirect_slashes=False, default=nowhere), verifier)

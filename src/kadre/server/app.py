"""All doors on one port: the routes, and what every request passes before them."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from kadre.base.addresses import Policy
from kadre.base.errors import KadreError, Refused
from kadre.base.problems import Problem
from kadre.base.tasks import Tasks
from kadre.engine.agent import HostedAgent
from kadre.engine.host import Host
from kadre.plan.types import AgentKey
from kadre.server import (
    agents,
    approvals,
    asking,
    auth,
    chat,
    errors,
    memories,
    metrics,
    names,
    openai,
    runs,
    sessions,
    webhooks,
)
from kadre.server.a2a.doors import A2aDoor, CardDoor, grpc_server
from kadre.server.identity import Verifier

if TYPE_CHECKING:
    from kadre.server.a2a.grpc import GrpcServer

log = logging.getLogger(__name__)


class HostDirectory:
    """The host's own agents, by name too: looked for again only when the host has others."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._indexed: Mapping[AgentKey, HostedAgent] = {}
        self._named: dict[str, list[AgentKey]] = {}
        self._said: frozenset[str] = frozenset()

    def all(self) -> Iterable[AgentKey]:
        """See Directory."""
        return self._host.agents.keys()

    def named(self, name: str) -> Sequence[AgentKey]:
        """See Directory."""
        self._look()
        return self._named.get(name, ())

    def has(self, agent: str) -> bool:
        """Whether that is one of them, as the gateway says it: `namespace/name`."""
        self._look()
        return agent in self._said

    def _look(self) -> None:
        agents = self._host.agents
        if agents is not self._indexed:  # the host makes a new mapping with every change
            self._named = {}
            for key in agents:
                self._named.setdefault(key.name, []).append(key)
            self._said = frozenset(map(str, agents))
            self._indexed = agents


class Guard:
    """Lets in only who may come in, and says who it is: `scope["caller"]`, an auth.Caller."""

    def __init__(self, app: ASGIApp, a2a: _Agents, verifier: Verifier | None = None) -> None:
        self._app = app
        self._a2a = a2a
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

    def grpc(self, port: int) -> GrpcServer:
        """What serves the same agents over gRPC, to be started at that port. Raises ProblemError."""

        async def admit(scope: Scope) -> Callable[[], None]:
            scope["caller"] = auth.caller(scope, self._verifier)
            return lambda: None

        server = grpc_server(self._a2a.agents, admit, self._a2a.find)
        self._a2a.cards.grpc_port = port
        return server


Handler = Callable[[Request], Awaitable[Response]]


class Door:
    """One address: a handler a method, and every error turned into an answer, in one frame.

    Starlette's own way (an application with exception handlers) passes six; on the way of a hello turn that is a tenth
    of what the turn costs.
    """

    def __init__(
        self,
        *,
        get: Handler | None = None,
        post: Handler | None = None,
        patch: Handler | None = None,
        delete: Handler | None = None,
    ) -> None:
        made = {"GET": get, "HEAD": get, "POST": post, "PATCH": patch, "DELETE": delete}
        self._handlers = {name: handler for name, handler in made.items() if handler}

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
    policy: Policy | None = None,
) -> Guard:
    """The ASGI application over a host. `problems` tells what keeps the latest files from being served.

    `verifier`: hears whom the gateway vouches for; without it only callers on this machine are served. `policy`: where
    webhooks may be; public addresses where none is given.
    """
    directory = HostDirectory(host)
    talk = Door(post=chat.ChatDoor(host, directory).post)
    tasks = Tasks("server")
    run = runs.RunsDoor(host, directory)
    hooks = webhooks.WebhooksDoor(run, tasks, host.clock, policy or Policy())
    asked = asking.HostAgents(host, run, hooks)
    a2a = _Agents(host, directory, asked)
    ai = openai.OpenAIDoor(host, directory, tasks)
    completions, models = Door(post=ai.completions), Door(get=ai.models)
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
        *a2a.routes(),
        *_remembering(memories.MemoriesDoor(host, directory)),
        Route("/agents", Door(get=listed.index)),
        Route("/agents/{name}", agent),
        Route("/agents/{namespace}/{name}", agent),
        Route("/agents/{namespace}/{name}/offer", Door(get=listed.offer)),
        Route("/approvals", Door(get=approvals.ApprovalsDoor(host, run).index)),
        *_running(run, sessions.SessionsDoor(host, run), hooks),
        Route("/mcp", asking.McpDoor(asked, tasks)),
        Route("/v1/models", models),
        Route("/{name}/v1/chat/completions", completions),
        Route("/{namespace}/{name}/v1/chat/completions", completions),
        Route("/{name}/v1/models", models),
        Route("/{namespace}/{name}/v1/models", models),
    ]
    return Guard(Router(routes, redirect_slashes=False, default=nowhere), a2a, verifier)


def _remembering(door: memories.MemoriesDoor) -> list[Route]:
    whole, one = Door(get=door.index, delete=door.forget), Door(delete=door.forget)
    return [Route(f"{path}{rest}", each) for path in door.PATHS for rest, each in (("", whole), ("/{id}", one))]


class _Agents:
    """What A2A is served of: HTTP's routes, and what gRPC asks."""

    def __init__(self, host: Host, directory: names.Directory, agents: asking.Agents) -> None:
        self.agents = agents
        self._host = host
        self._directory = directory
        self.cards = CardDoor(directory, self._described)

    def routes(self) -> list[Route]:
        """Addresses of cards, and of agents."""
        card, door = Door(get=self.cards.get), A2aDoor(self.agents, self.find)
        answer = Door(get=door.answer, post=door.answer, delete=door.answer)
        return [Route(path, card) for path in CardDoor.PATHS] + [Route(path, answer) for path in A2aDoor.PATHS]

    async def find(self, request: Request) -> AgentKey:
        """See doors.Find."""
        name, namespace = request.path_params.get("name"), request.path_params.get("namespace", "")
        agent = names.resolve(self._directory, name, namespace) if name else names.only(self._directory)
        auth.check(request.scope["caller"], agent)
        return agent

    def _described(self, key: AgentKey) -> tuple[str, str]:
        plan = self._host.agents[key].plan
        return plan.display_name, plan.description


def _running(run: runs.RunsDoor, kept: sessions.SessionsDoor, hooks: webhooks.WebhooksDoor) -> list[Route]:
    return [
        Route("/runs", Door(get=run.index, post=run.create)),
        Route("/runs/{id}", Door(get=run.get)),
        Route("/runs/{id}/events", Door(get=run.events)),
        Route("/runs/{id}/blobs/{digest}", Door(get=run.blob)),
        Route("/runs/{id}/cancel", Door(post=run.cancel)),
        Route("/runs/{id}/approve", Door(post=run.approve)),
        Route("/runs/{id}/fork", Door(post=run.fork)),
        Route("/runs/{id}/webhooks", Door(get=hooks.index, post=hooks.create)),
        Route("/runs/{id}/webhooks/{webhook}", Door(get=hooks.one, delete=hooks.delete)),
        Route("/sessions", Door(get=kept.index)),
        Route("/sessions/{id}", Door(get=kept.get, patch=kept.rename, delete=kept.delete)),
    ]

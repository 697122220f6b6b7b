"""A2A's addresses, at a host and at the gateway: cards, and the door whose library is loaded with its first request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, ClassVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from kadre.base.errors import Conflict, NotFound, ProblemError
from kadre.base.problems import Problem
from kadre.plan.types import AgentKey
from kadre.server import body, errors, names
from kadre.server.a2a import cards
from kadre.server.asking import Agents

if TYPE_CHECKING:
    from kadre.server.a2a.grpc import GrpcServer


Find = Callable[[Request], Awaitable[AgentKey]]
"""Whom a request is for. Raises Refused for who may not ask them."""
Admit = Callable[[Scope], Awaitable[Callable[[], None]]]
"""Says in a request's scope who calls; what it gives back is called at the request's end. Raises KadreError."""


def grpc_server(agents: Agents, admit: Admit, find: Find) -> GrpcServer:
    """What serves agents over gRPC. Raises ProblemError where its library is not installed."""
    try:
        from kadre.server.a2a.grpc import GrpcServer
    except ModuleNotFoundError as error:
        missing = f"gRPC needs {error.name}, which is not installed"
        raise ProblemError([Problem("NotInstalled", missing, "pip install 'kadre[grpc]'")]) from error
    return GrpcServer(agents, admit, find)


class CardDoor:
    """Agents' cards, for everybody: of one that is not there nothing is told, nor who else is."""

    PATHS: ClassVar = (
        cards.CARD,
        f"/agents/{{name}}{cards.CARD}",
        f"/agents/{{namespace}}/{{name}}{cards.CARD}",
    )

    def __init__(
        self, directory: names.Directory, describe: Callable[[AgentKey], tuple[str, str]], home: str = ""
    ) -> None:
        """`describe`: an agent's name for people, and what it is for; either may be empty."""
        self._directory = directory
        self._describe = describe
        self._home = home
        self.grpc_port = 0
        """Where agents are asked over gRPC; 0: nowhere."""

    async def get(self, request: Request) -> Response:
        """The card; without a name that of the only agent there is."""
        params = request.path_params
        try:
            if "name" in params:
                key = names.resolve(self._directory, params["name"], params.get("namespace", ""), self._home)
            else:
                key = names.only(self._directory)
        except (NotFound, Conflict):
            where = f"an agent's card is at /agents/NAMESPACE/NAME{cards.CARD}"
            raise NotFound(f"there is no one agent to show here; {where}", reason="NoSuchAgent") from None
        name, about = self._describe(key)
        host = request.base_url.hostname or ""
        grpc = f"{f'[{host}]' if ':' in host else host}:{self.grpc_port}" if self.grpc_port else ""
        return errors.json_response(cards.card(key, name, about, str(request.base_url), grpc))


class A2aDoor:
    """An agent's address for A2A."""

    PATHS: ClassVar = (
        "/agents/{name}/a2a",
        "/agents/{namespace}/{name}/a2a",
        "/agents/{name}/a2a/{rest:path}",
        "/agents/{namespace}/{name}/a2a/{rest:path}",
    )

    def __init__(self, agents: Agents, find: Find) -> None:
        self._agents = agents
        self._find = find
        self._server: Any = None

    async def answer(self, request: Request) -> Response:
        """What the SDK makes of a request."""
        agent = await self._find(request)
        sent = await body.read(request)
        if self._server is None:
            from kadre.server.a2a.sdk import A2aServer

            self._server = A2aServer(self._agents)
        answer: Response = self._server.answer(agent, request.path_params.get("rest", ""), sent)
        return answer

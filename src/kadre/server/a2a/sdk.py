"""A2A over HTTP, by the SDK's own routes: JSON-RPC and HTTP+JSON at one address."""

from __future__ import annotations

import logging
from typing import Any

from a2a.server.context import ServerCallContext
from a2a.server.routes.common import ServerCallContextBuilder
from a2a.server.routes.jsonrpc_routes import create_jsonrpc_routes
from a2a.server.routes.rest_routes import create_rest_routes
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Router
from starlette.types import Message, Receive, Scope, Send

from kadre.base.errors import Refused
from kadre.plan.types import AgentKey
from kadre.server import errors
from kadre.server.a2a.handler import AGENT, REFUSED, SCOPE, Handler
from kadre.server.asking import Agents

logging.getLogger("a2a").setLevel(logging.CRITICAL)  # what fails is told to whoever asked

_ASKED = "kadre.a2a"
"""In a request's scope: what the handler is to know of it."""


class _Contexts(ServerCallContextBuilder):
    def build(self, request: Request) -> ServerCallContext:
        return ServerCallContext(state={"headers": dict(request.headers), **request.scope[_ASKED]})


class A2aServer:
    """Serves agents to clients of A2A 1.0, and of 0.3 where they speak JSON-RPC."""

    def __init__(self, agents: Agents) -> None:
        handler, contexts = Handler(agents), _Contexts()
        routes: list[Any] = create_jsonrpc_routes(handler, "/", contexts, enable_v0_3_compat=True)
        self._router = Router([*routes, *create_rest_routes(handler, contexts)], redirect_slashes=False)

    def answer(self, agent: AgentKey, rest: str, sent: bytes) -> Response:
        """The answer to a request for that agent. `rest`: of its path, what comes after the agent's address."""
        return _Answer(self._router, agent, rest, sent)


class _Answer(Response):
    """What the SDK answers; but a refusal that is HTTP's to tell is told as HTTP has it."""

    def __init__(self, router: Router, agent: AgentKey, rest: str, sent: bytes) -> None:
        self._router = router
        self._agent = agent
        self._rest = rest
        self._sent: bytes | None = sent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See starlette's Response."""
        refused: list[Refused] = []
        begun = replaced = False

        async def again() -> Message:
            if self._sent is None:
                return await receive()
            sent, self._sent = self._sent, None
            return {"type": "http.request", "body": sent, "more_body": False}

        async def answer(message: Message) -> None:
            nonlocal begun, replaced
            if refused and not begun:
                begun = replaced = True
                await errors.as_refusal(refused[0], scope["path"])(scope, receive, send)
            elif not replaced:
                begun = True
                await send(message)

        asked = {SCOPE: scope, AGENT: self._agent, REFUSED: refused}
        inner = {**scope, "path": f"/{self._rest}", "root_path": "", "path_params": {}, _ASKED: asked}
        await self._router(inner, again, answer)

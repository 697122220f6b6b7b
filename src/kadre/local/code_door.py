"""The door of a code runner: `POST /run`, by those who may, and whether it can run anything."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp

from kadre.base.errors import BadRequest, ToolError, Unavailable
from kadre.engine.tools.code import MOST_CODE, Asked
from kadre.local.fenced import FencedSandbox
from kadre.server import body, errors
from kadre.server.app import Door, nowhere
from kadre.server.gateway.waiting import while_there

MOST_SECONDS = 3600.0
"""Of one piece of code."""
_decoder = msgspec.json.Decoder(Asked)


class CodeDoor:
    """Runs what is sent in a sandbox. `known`: whose it is, by the Authorization header; raises Unauthorized."""

    def __init__(self, sandbox: FencedSandbox, known: Callable[[str], str]) -> None:
        self._sandbox = sandbox
        self._known = known

    async def run(self, request: Request) -> Response:
        """`POST /run {code, seconds}`: what came of it. Who leaves ends it."""
        caller = self._known(request.headers.get("authorization", ""))
        asked = await body.decode(request, _decoder)
        if len(asked.code) > MOST_CODE:
            raise BadRequest(f"the code has {len(asked.code)} characters, and may have {MOST_CODE}")
        if not 0 < asked.seconds <= MOST_SECONDS:
            raise BadRequest(f"code may run for up to {MOST_SECONDS:.0f} s, and this is to for {asked.seconds:g}")
        try:
            ran = await while_there(request.receive, self._sandbox.run(asked.code, asked.seconds, caller))
        except ToolError as error:
            raise Unavailable(str(error)) from error
        return errors.json_response(ran)

    async def health(self, _: Request) -> Response:
        """`GET /health`, by anybody: whether code can be run."""
        try:
            await self._sandbox.check()
        except ToolError as error:
            raise Unavailable(str(error)) from error
        return errors.json_response({"status": "ok"})


def build(sandbox: FencedSandbox, known: Callable[[str], str]) -> ASGIApp:
    """The ASGI application over a sandbox."""
    door = CodeDoor(sandbox, known)
    routes = [Route("/run", Door(post=door.run)), Route("/health", Door(get=door.health))]
    return Router(routes, redirect_slashes=False, default=nowhere)

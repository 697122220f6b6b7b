"""A2A over gRPC, at a port of its own, by the SDK's own service; loaded only where such a port is asked for.

A request says by its tenant whom it is for, `namespace/name`, as agents' cards tell. Who calls is known as over HTTP: a
request's metadata are its headers.
"""

from __future__ import annotations

import logging
from typing import Any, NoReturn
from urllib.parse import unquote

import grpc
from a2a.server.context import ServerCallContext
from a2a.server.request_handlers.grpc_handler import GrpcHandler, GrpcServerCallContextBuilder
from a2a.types import a2a_pb2_grpc
from a2a.utils.errors import A2AError, InternalError
from starlette.requests import Request
from starlette.types import Scope

from kadre.base.errors import ProblemError, Refused
from kadre.base.problems import Problem
from kadre.plan.types import AgentKey
from kadre.server import body
from kadre.server.a2a.doors import Admit, Find
from kadre.server.a2a.handler import ADMIT, REFUSED, Handler
from kadre.server.asking import Agents

logging.getLogger("a2a").setLevel(logging.CRITICAL)  # what fails is told to whoever asked

AT_ONCE = 1000
"""Requests under way at once, streams among them."""
_CODES = {
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.FAILED_PRECONDITION,
    413: grpc.StatusCode.OUT_OF_RANGE,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    501: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE,
}


class GrpcServer:
    """Agents, asked over gRPC."""

    def __init__(self, agents: Agents, admit: Admit, find: Find) -> None:
        options = [("grpc.max_receive_message_length", body.MAX_BODY), ("grpc.so_reuseport", 0)]
        self._server = grpc.aio.server(options=options, maximum_concurrent_rpcs=AT_ONCE)
        add: Any = a2a_pb2_grpc.add_A2AServiceServicer_to_server
        add(_Servicer(Handler(agents), _Contexts(admit, find)), self._server)

    async def start(self, host: str, port: int) -> None:
        """Serve there. Raises ProblemError where that port cannot be had."""
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            self._server.add_insecure_port(where)
            await self._server.start()
        except RuntimeError as error:
            fix = f"use --grpc-port {port + 1}"
            raise ProblemError([Problem("CannotListen", f"cannot listen on {where} for gRPC", fix)]) from error

    async def stop(self, grace: float) -> None:
        """Take no new request, and give those under way that many seconds."""
        await self._server.stop(grace)


class _Contexts(GrpcServerCallContextBuilder):
    def __init__(self, admit: Admit, find: Find) -> None:
        self._admit = admit
        self._find = find

    def build(self, context: Any) -> ServerCallContext:
        async def admitted(tenant: str) -> tuple[Scope, AgentKey]:
            scope = _scope(context)
            release = await self._admit(scope)
            context.add_done_callback(lambda _: release())
            namespace, _, name = tenant.rpartition("/")
            scope["path_params"] = {"namespace": namespace, "name": name} if name else {}
            return scope, await self._find(Request(scope))

        return ServerCallContext(state={ADMIT: admitted, REFUSED: []})


class _Servicer(GrpcHandler):
    async def abort_context(self, error: A2AError, context: Any) -> NoReturn:
        """See GrpcHandler; what A2A has no name for is told as gRPC has it."""
        cause = error.__cause__
        if isinstance(error, InternalError) and isinstance(cause, Refused):
            await context.abort(_CODES.get(cause.status, grpc.StatusCode.INTERNAL), str(cause))
        await super().abort_context(error, context)
        raise error


def _scope(context: Any) -> Scope:
    """The request as doors of HTTP see it. Where it came in by name is not known: links in answers have no host."""
    headers = [
        (name.encode(), value.encode("latin-1", "replace") if isinstance(value, str) else value)
        for name, value in context.invocation_metadata() or ()
    ]
    return {
        "type": "http",
        "method": "POST",
        "path": "/grpc",
        "query_string": b"",
        "headers": headers,
        "client": _peer(context.peer()),
        "path_params": {},
    }


def _peer(text: str) -> tuple[str, int] | None:
    """`ipv4:127.0.0.1:1234`, `ipv6:%5B::1%5D:1234`; None for what is no address."""
    family, _, rest = text.partition(":")
    host, _, port = unquote(rest).rpartition(":")
    if family not in {"ipv4", "ipv6"} or not port.isdigit():
        return None
    return host.strip("[]"), int(port)

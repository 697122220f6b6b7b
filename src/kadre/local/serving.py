"""What every process that serves agents does around its doors: listen, heed signals, spare the collector."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Protocol

import uvicorn

from kadre.base.errors import ProblemError
from kadre.base.problems import Problem
from kadre.server.protocol import BoundedHttp

BACKLOG = 2048
"""Connections that wait to be accepted: a burst is answered, not refused."""
UNPRIVILEGED = 1024
"""The first port that any user may listen on, where the machine is not told otherwise."""
KEEP_ALIVE = 120
"""Seconds for which a connection is kept without a request: longer than proxies in front (60 to 90) keep theirs, or one
of them would now and then send a message on a connection that is being closed."""
GRACE = 5
"""Seconds that requests under way have to end once the server is told to."""
SIGNALS = (signal.SIGINT, signal.SIGTERM)


def heed_signals(stop: asyncio.Event) -> None:
    """Set `stop` when the process is told to end."""
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, stop.set)


def leave_signals() -> None:
    """Do not mind signals any more."""
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.remove_signal_handler(number)


class Server(uvicorn.Server):
    """uvicorn on a socket that is open already, leaving signals to us."""

    def __init__(self, listening: socket.socket, application: object, grace: int = GRACE) -> None:
        config = uvicorn.Config(
            application,  # type: ignore[arg-type]  # an ASGI 3 callable
            http=BoundedHttp,
            lifespan="off",
            ws="none",
            access_log=False,
            log_config=None,
            proxy_headers=False,  # nobody may say for a caller where it calls from
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=grace,
        )
        super().__init__(config)
        self._listening = listening

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn."""
        await super().serve(sockets or [self._listening])

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """See uvicorn: signals are ours."""
        yield


class Grpc(Protocol):
    """What serves over gRPC."""

    async def start(self, host: str, port: int) -> None:
        """Serve there. Raises ProblemError."""
        ...

    async def stop(self, grace: float) -> None:
        """Take no new request, and give those under way that many seconds."""
        ...


async def speak_grpc(
    stack: contextlib.AsyncExitStack, made: Callable[[int], Grpc], host: str, port: int, grace: float = GRACE
) -> Grpc | None:
    """Serve over gRPC too, until the stack is closed; with port 0 nothing is. Raises ProblemError."""
    if not port:
        return None
    server = made(port)
    await server.start(host, port)
    stack.push_async_callback(server.stop, grace)
    return server


def listen(host: str, port: int, flag: str = "--port", field: str = "") -> socket.socket:
    """A listening socket. Raises ProblemError that says who has the port, or how to take another.

    `flag` says on the command line which port it is, `field` in an agent that runs in a cluster; empty: none does.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        cluster = f"; in a cluster it is {field}" if field else ""
        if error.errno == errno.EADDRINUSE:
            fix = f"use {flag} {port + 1}{cluster}"
            problem = Problem("PortInUse", f"port {port} is taken by another program", fix)
        else:
            fix = "check --host"
            if error.errno == errno.EACCES and port < UNPRIVILEGED:
                fix = f"use a {flag} of {UNPRIVILEGED} or more: not everybody may have those below{cluster}"
            problem = Problem("CannotListen", f"cannot listen on {host}:{port}: {error.strerror}", fix)
        raise ProblemError([problem]) from error
    return listening

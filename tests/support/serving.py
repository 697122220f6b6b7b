"""A host behind its doors on a real port of this machine."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

import uvicorn
from starlette.types import ASGIApp

from kadre.base.addresses import Policy
from kadre.local.serving import speak_grpc
from kadre.server import app
from kadre.server.identity import Verifier
from kadre.server.metrics import Metrics
from kadre.server.protocol import BoundedHttp
from tests.support.scene import Scene


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are pytest's."""
        yield


@asynccontextmanager
async def serving(
    scene: Scene, verifier: Verifier | None = None, policy: Policy | None = None, grpc_port: int = 0
) -> AsyncIterator[str]:
    """Serve the scene's host; yields the base URL. `verifier`: hears whom a gateway vouches for."""
    metrics = Metrics(scene.clock)
    scene.host.observer = metrics
    doors = app.build(scene.host, metrics, verifier=verifier, policy=policy)
    async with AsyncExitStack() as stack, answering(doors) as url:
        await speak_grpc(stack, doors.grpc, "127.0.0.1", grpc_port, 0.1)
        try:
            yield url
        finally:
            await scene.host.aclose(0.05)


@asynccontextmanager
async def answering(application: ASGIApp, address: str = "127.0.0.1") -> AsyncIterator[str]:
    """Serve an application at an address of this machine; yields the base URL."""
    listening = socket.create_server((address, 0), backlog=512)
    config = uvicorn.Config(
        application,
        http=BoundedHttp,
        log_config=None,
        lifespan="off",
        ws="none",
        access_log=False,
        proxy_headers=False,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve([listening]))
    try:
        yield f"http://{address}:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        await asyncio.wait_for(task, 10)
        listening.close()

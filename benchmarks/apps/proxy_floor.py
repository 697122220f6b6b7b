"""The floor of the gateway: a reverse proxy of uvicorn, Starlette and aiohttp that knows nobody and looks at nothing.

`python -m benchmarks.apps.proxy_floor PORT UPSTREAM_PORT`
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

UPSTREAM = f"http://127.0.0.1:{sys.argv[2]}" if len(sys.argv) > 2 else ""
_HOP = frozenset({"host", "connection", "content-length", "transfer-encoding", "keep-alive"})


@asynccontextmanager
async def session(app: Any) -> AsyncIterator[None]:
    """One client for all requests."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None)) as made:
        app.state.http = made
        yield


async def forward(request: Request) -> Response:
    """The same request to the host, and its answer back."""
    headers = {name: value for name, value in request.headers.items() if name not in _HOP}
    body = await request.body()
    answer = await request.app.state.http.request(
        request.method, UPSTREAM + request.url.path, data=body, headers=headers
    )
    passed = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP}
    if answer.headers.get("content-type") == "text/event-stream":
        return StreamingResponse(answer.content.iter_any(), answer.status, passed)
    return Response(await answer.read(), answer.status, passed)


app = Starlette(routes=[Route("/{path:path}", forward, methods=["GET", "POST"])], lifespan=session)

if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error", access_log=False, backlog=4096)

"""An agent's host as far as the gateway can tell: answers at once, streams a first event, and keeps streams open.

`python -m benchmarks.apps.gateway_upstream PORT`
"""

from __future__ import annotations

import asyncio
import sys

import uvicorn
from starlette.types import Receive, Scope, Send

REPLY = b'{"response":"hello","session_id":"s","run_id":"run-1","usage":{"total_tokens":5}}'
_JSON = [(b"content-type", b"application/json"), (b"content-length", str(len(REPLY)).encode()), (b"x-run-id", b"run-1")]
_STREAM = [(b"content-type", b"text/event-stream"), (b"x-run-id", b"run-1")]
FIRST = b'id: 1\nevent: run_started\ndata: {"type":"run_started"}\n\n'


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """See ASGI. A body that asks for `hold` is answered with a stream that stays open."""
    if scope["type"] != "http":
        return
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    if b"text/event-stream" not in dict(scope["headers"]).get(b"accept", b""):
        await send({"type": "http.response.start", "status": 200, "headers": _JSON})
        await send({"type": "http.response.body", "body": REPLY})
        return
    await send({"type": "http.response.start", "status": 200, "headers": _STREAM})
    await send({"type": "http.response.body", "body": FIRST, "more_body": True})
    if b"hold" in body:
        while (await receive())["type"] != "http.disconnect":
            pass
        return
    await asyncio.sleep(0)
    await send({"type": "http.response.body", "body": b"", "more_body": False})


if __name__ == "__main__":
    uvicorn.run(
        app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error", access_log=False, backlog=4096, lifespan="off"
    )

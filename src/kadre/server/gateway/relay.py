"""A host's answer, handed to the client as it comes."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

import aiohttp
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

WHOLE = 1 << 20
"""Bytes of an answer that is handed on in one piece."""
_PASSED_BACK = frozenset(
    {
        *("content-type", "content-length", "cache-control", "retry-after", "location", "allow"),
        *("x-run-id", "x-session-id", "x-content-type-options"),
    }
)


class Relay(Response):
    """Streams a host's answer. The client's leaving is the host's to hear: its connection is closed."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer
        self.status_code = answer.status
        self.background = None
        self.raw_headers = [
            (name.lower(), value)
            for name, value in answer.raw_headers
            if name.lower().decode("latin-1") in _PASSED_BACK
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See starlette's Response."""
        answer = self._answer
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            length = answer.headers.get("content-length", "")
            if scope["method"] == "HEAD" or self.status_code == HTTPStatus.NO_CONTENT:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            elif (length.isdigit() and int(length) <= WHOLE) or answer.content.at_eof():
                await send({"type": "http.response.body", "body": await answer.read(), "more_body": False})
            else:
                await self._stream(receive, send)
        except (aiohttp.ClientError, TimeoutError):
            pass  # an answer that does not end is cut off: the client must not take it for whole
        finally:
            answer.close()

    async def _stream(self, receive: Receive, send: Send) -> None:
        current = asyncio.current_task()
        watcher = asyncio.get_running_loop().create_task(_leave(receive, current), name="gateway-watch")
        try:
            async for chunk in self._answer.content.iter_any():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except asyncio.CancelledError:
            if not watcher.done():
                raise  # the gateway is ending, not the client
        finally:
            watcher.cancel()


async def left(receive: Receive) -> None:
    """Come back when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _leave(receive: Receive, stream: asyncio.Task[object] | None) -> None:
    await left(receive)
    if stream is not None:
        stream.cancel()

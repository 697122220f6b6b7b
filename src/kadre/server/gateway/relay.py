"""A host's answer, handed to the client as it comes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from http import HTTPStatus

import aiohttp
import msgspec
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from kadre.server import errors
from kadre.server.gateway.waiting import while_there

WHOLE = 1 << 20
"""Bytes of an answer that is handed on in one piece."""
BROKE_OFF = "HostFailed"
"""The reason that is told of a host that ends in the middle of a stream."""
_PASSED_BACK = frozenset(
    {
        *("content-type", "content-length", "cache-control", "retry-after", "location", "allow"),
        *("x-run-id", "x-session-id", "x-content-type-options"),
    }
)


class Relay(Response):
    """Streams a host's answer. The client's leaving is the host's to hear: its connection is closed.

    `fate` says what becomes of the run of that id where the host breaks off.
    """

    def __init__(self, answer: aiohttp.ClientResponse, fate: Callable[[str], str]) -> None:
        self._answer = answer
        self._fate = fate
        self._between = answer.content_type == "text/event-stream"
        """Whether an event could be said now: what was sent last is the end of one."""
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
            if self._between:
                word = self._broke_off(scope["path"])
                await send({"type": "http.response.body", "body": word, "more_body": True})
            # And is cut off: a client must not take an answer that does not end for whole.
        finally:
            answer.close()

    def _broke_off(self, path: str) -> bytes:
        """What is said of it as the last event of a stream; see `events.lost`."""
        run_id = self._answer.headers.get("x-run-id", "")
        message = f"the agent's pod broke off; {self._fate(run_id)}"
        if errors.speaks_openai(path):
            return b"data: " + msgspec.json.encode(errors.openai_error(502, BROKE_OFF, message)) + b"\n\n"
        told = {"type": "error", "run_id": run_id, "reason": BROKE_OFF, "message": message}
        return b"event: error\ndata: " + msgspec.json.encode(told) + b"\n\n"

    async def _stream(self, receive: Receive, send: Send) -> None:
        with contextlib.suppress(ClientDisconnect):
            await while_there(receive, self._copied(send))
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _copied(self, send: Send) -> None:
        streams = self._between
        async for chunk in self._answer.content.iter_any():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            self._between = streams and chunk.endswith(b"\n\n")

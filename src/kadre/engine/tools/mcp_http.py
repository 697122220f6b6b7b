"""The HTTP client under MCP sessions: what goes wrong with one request stays with that request.

The SDK's transport gives up a whole session where a request raises, and tells a caller neither the HTTP status nor
whether the request had been sent. So failures are answered here, as the JSON-RPC errors the transport hands to the one
caller they belong to; the codes below are outside the range JSON-RPC and MCP use.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any

import httpx2
import msgspec

from kadre.base.errors import shorten
from kadre.engine.tools.mcp_bounds import SSE_LIMIT, End, too_large
from kadre.engine.tools.mcp_wire import TooLarge, Wire, is_stream

UNSENT = -31001
"""The request did not reach the server."""
EXPIRED = -31002
"""The server knows our session, or our key, no longer, and did nothing: a new connection may help."""
REFUSED = -31003
"""The server answered with an HTTP error instead of looking at the request."""
LOST = -31004
"""The request was sent; the answer did not come back."""
BUSY = -31005
"""The server, or a proxy before it, says that it did nothing now and may later."""
AWAY = -31006
"""A proxy says that the server is not there, or the server that something it needs is not. That it did nothing is
likely, and no more: proxies say so, too, of one that broke off while it worked."""

CONNECT_TIMEOUT = 10.0
"""Seconds to open a connection."""

# One for all clients, made while this module is loaded, outside the event loop: each takes 20 ms and 1 MB.
_TLS = httpx2.create_ssl_context()
_TLS.set_alpn_protocols(["http/1.1"])
NOT_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.UnsupportedProtocol)
_BLANK_LINE = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_LATER: dict[int, int] = {HTTPStatus.TOO_MANY_REQUESTS: BUSY, HTTPStatus.SERVICE_UNAVAILABLE: AWAY}


class _Base(httpx2.AsyncClient):
    def __init__(self, url: str, headers: dict[str, str], read: float | None) -> None:
        super().__init__(transport=Wire(url, _TLS), timeout=httpx2.Timeout(CONNECT_TIMEOUT, read=read), trust_env=False)
        # identity: what is packed cannot be bounded beforehand.
        self.headers.update({"accept-encoding": "identity"} | headers)


class Client(_Base):
    """An httpx client whose POSTs always have an answer. Calls' own timeouts bound the reading."""

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        super().__init__(url, headers, read=None)

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """See httpx2.AsyncClient.send."""
        if request.method == "DELETE":
            # The goodbye of a session: not worth waiting for a server that is gone.
            request.extensions["timeout"] = dict.fromkeys(("connect", "read", "write", "pool"), 2.0)
        if request.method != "POST":
            return await super().send(request, **options)
        try:
            response = await super().send(request, **options)
            return _refusal(request, response) if response.status_code >= HTTPStatus.BAD_REQUEST else response
        except NOT_SENT as error:
            return _answer(request, 502, UNSENT, f"cannot be reached: {_text(error)}")
        except TooLarge as error:
            return _answer(request, 502, LOST, _text(error))
        except httpx2.TransportError as error:
            return _answer(request, 502, LOST, f"the connection was lost: {_text(error)}")


class SseClient(_Base):
    """A client of the older transport, where answers come by another way: a POST that fails ends the session."""

    def __init__(self, url: str, headers: dict[str, str], end: End) -> None:
        # A stream silent for five minutes is taken for dead; servers send a comment every few seconds.
        super().__init__(url, headers, read=300.0)
        self._end = end

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """See httpx2.AsyncClient.send."""
        if request.method != "POST":
            response = await super().send(request, **options)
            if is_stream(response.status_code, response.headers) and isinstance(
                response.stream, httpx2.AsyncByteStream
            ):
                response.stream = _Events(response.stream, self._end)
            return response
        try:
            response = await super().send(request, **options)
        except httpx2.TransportError:
            self._end.set()
            raise
        if response.status_code >= HTTPStatus.BAD_REQUEST:
            self._end.set()
        return response


class _Events(httpx2.AsyncByteStream):
    """A stream of events that ends, and says why, where one grows too large: the SDK would end it without a word."""

    def __init__(self, inner: httpx2.AsyncByteStream, end: End) -> None:
        self._inner = inner
        self._end = end

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size, last = 0, b""
        async for chunk in self._inner:
            seen = last + chunk
            ended = max((blank.end() for blank in _BLANK_LINE.finditer(seen)), default=None)
            size = size + len(chunk) if ended is None else len(seen) - ended
            if size > SSE_LIMIT:
                self._end.because(too_large(SSE_LIMIT))
                return
            last = seen[-3:]
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()


def _refusal(request: httpx2.Request, response: httpx2.Response) -> httpx2.Response:
    """The same refusal with a JSON-RPC error as its body: the server's own, else one that names the status."""
    status, body = response.status_code, response.content
    if status == HTTPStatus.NOT_FOUND and "mcp-session-id" in request.headers:
        return _answer(request, status, EXPIRED, "the server ended the session")
    if status == HTTPStatus.UNAUTHORIZED:
        return _answer(request, status, EXPIRED, "the server answered HTTP 401 Unauthorized: it wants another key")
    if _is_rpc_error(body):
        return httpx2.Response(status, headers={"content-type": "application/json"}, content=body, request=request)
    code = LOST if status >= HTTPStatus.INTERNAL_SERVER_ERROR else REFUSED
    return _answer(
        request,
        status,
        _LATER.get(status, code),
        f"the server answered HTTP {status} {response.reason_phrase}".rstrip(),
    )


def _is_rpc_error(body: bytes) -> bool:
    try:
        value = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return False
    return isinstance(value, dict) and value.get("jsonrpc") == "2.0" and isinstance(value.get("error"), dict)


def _answer(request: httpx2.Request, status: int, code: int, message: str) -> httpx2.Response:
    body = {"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": message}}
    return httpx2.Response(status, json=body, request=request)


def _text(error: Exception) -> str:
    return shorten(str(error), 200) or type(error).__name__

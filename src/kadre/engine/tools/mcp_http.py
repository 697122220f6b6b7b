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
from kadre.engine.tools.mcp_bounds import MESSAGE_LIMIT, SSE_LIMIT, End, too_large

UNSENT = -31001
"""The request did not reach the server."""
EXPIRED = -31002
"""The server knows our session, or our key, no longer, and did nothing: a new connection may help."""
REFUSED = -31003
"""The server answered with an HTTP error instead of looking at the request."""
LOST = -31004
"""The request was sent; the answer did not come back."""

ERROR_BODY_LIMIT = 65536
"""Bytes of an error's body that are looked at."""
# Shorter than the 5 s after which common servers close an idle connection: a request that crosses that
# close would be lost.
_LIMITS = httpx2.Limits(max_connections=512, max_keepalive_connections=32, keepalive_expiry=3.0)
# One for all clients, made while this module is loaded, outside the event loop: each takes 20 ms and 1 MB.
_TLS = httpx2.create_ssl_context()
_NOT_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.UnsupportedProtocol)
_PACKING = frozenset({"content-encoding", "content-length", "transfer-encoding"})
_BLANK_LINE = re.compile(rb"\r\n\r\n|\n\n|\r\r")
# Statuses by which a server, or a proxy before it, says that nothing was done.
_NOTHING_DONE = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})


class Client(httpx2.AsyncClient):
    """An httpx client whose POSTs always have an answer. Calls' own timeouts bound the reading."""

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        timeout = httpx2.Timeout(10.0, read=None, pool=None)
        super().__init__(headers=headers, verify=_TLS, limits=_LIMITS, timeout=timeout, trust_env=_may_proxy(url))

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """See httpx2.AsyncClient.send."""
        if request.method == "DELETE":
            # The goodbye of a session: not worth waiting for a server that is gone.
            request.extensions["timeout"] = dict.fromkeys(("connect", "read", "write", "pool"), 2.0)
        if request.method != "POST":
            return await _read(await super().send(request, **options))
        try:
            response = await super().send(request, **options)
            if response.status_code >= HTTPStatus.BAD_REQUEST:
                return await _refusal(request, response)
            return await _read(response)
        except _NOT_SENT as error:
            return _answer(request, 502, UNSENT, f"cannot be reached: {_text(error)}")
        except TooLarge as error:
            return _answer(request, 502, LOST, _text(error))
        except (httpx2.TransportError, httpx2.DecodingError) as error:
            return _answer(request, 502, LOST, f"the connection was lost: {_text(error)}")


class SseClient(httpx2.AsyncClient):
    """A client of the older transport, where answers come by another way: a POST that fails ends the session."""

    def __init__(self, url: str, headers: dict[str, str], end: End) -> None:
        # A stream silent for five minutes is taken for dead; servers send a comment every few seconds.
        timeout = httpx2.Timeout(10.0, read=300.0, pool=None)
        super().__init__(headers=headers, verify=_TLS, limits=_LIMITS, timeout=timeout, trust_env=_may_proxy(url))
        self._end = end

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """See httpx2.AsyncClient.send."""
        if request.method != "POST":
            response = await super().send(request, **options)
            if _is_stream(response) and isinstance(response.stream, httpx2.AsyncByteStream):
                response.stream = _Events(response.stream, self._end)
                return response
            return await _read(response)
        try:
            response = await _read(await super().send(request, **options))
        except httpx2.TransportError:
            self._end.set()
            raise
        if response.status_code >= HTTPStatus.BAD_REQUEST:
            self._end.set()
        return response


class TooLarge(httpx2.TransportError):
    """A body of more bytes than are kept."""


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


def _is_stream(response: httpx2.Response) -> bool:
    return response.is_success and response.headers.get("content-type", "").lower().startswith("text/event-stream")


async def _read(response: httpx2.Response) -> httpx2.Response:
    """The response with its body, bounded: whoever asks for the rest would read without end. Raises TooLarge.

    A stream of events is left as it is; each event has its bound.
    """
    if _is_stream(response) or response.is_closed:
        return response
    body = bytearray()
    try:
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > MESSAGE_LIMIT:
                raise TooLarge(too_large(MESSAGE_LIMIT))
    finally:
        await response.aclose()
    # What told how the body was packed is true of it no longer.
    headers = [(k, v) for k, v in response.headers.multi_items() if k not in _PACKING]
    whole = httpx2.Response(response.status_code, headers=headers, content=bytes(body), request=response.request)
    whole.next_request = response.next_request
    return whole


async def _refusal(request: httpx2.Request, response: httpx2.Response) -> httpx2.Response:
    """The same refusal with a JSON-RPC error as its body: the server's own, else one that names the status."""
    status = response.status_code
    body = b""
    try:
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > ERROR_BODY_LIMIT:
                break
    except httpx2.TransportError:
        body = b""
    finally:
        await response.aclose()
    if status == HTTPStatus.NOT_FOUND and "mcp-session-id" in request.headers:
        return _answer(request, status, EXPIRED, "the server ended the session")
    if status == HTTPStatus.UNAUTHORIZED:
        return _answer(request, status, EXPIRED, "the server answered HTTP 401 Unauthorized: it wants another key")
    if _is_rpc_error(body):
        return httpx2.Response(status, headers={"content-type": "application/json"}, content=body, request=request)
    code = LOST if status >= HTTPStatus.INTERNAL_SERVER_ERROR and status not in _NOTHING_DONE else REFUSED
    return _answer(request, status, code, f"the server answered HTTP {status} {response.reason_phrase}".rstrip())


def _is_rpc_error(body: bytes) -> bool:
    try:
        value = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return False
    return isinstance(value, dict) and value.get("jsonrpc") == "2.0" and isinstance(value.get("error"), dict)


def _answer(request: httpx2.Request, status: int, code: int, message: str) -> httpx2.Response:
    body = {"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": message}}
    return httpx2.Response(status, json=body, request=request)


def _may_proxy(url: str) -> bool:
    """Whether the environment's proxy applies: it cannot reach this machine's own servers."""
    return httpx2.URL(url).host not in ("localhost", "127.0.0.1", "::1")


def _text(error: Exception) -> str:
    return shorten(str(error), 200) or type(error).__name__

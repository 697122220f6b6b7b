"""The wire under MCP sessions: aiohttp, in the form the SDK's HTTP client takes.

The client the SDK brings spends half of a tool call's CPU in its own connection pool; docs/design/0008 has the figures.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import ssl
from collections.abc import AsyncIterator, Mapping
from functools import lru_cache
from http import HTTPStatus
from typing import Any

import aiohttp
import httpx2
from yarl import URL

from kadre.engine.tools.mcp_bounds import MESSAGE_LIMIT, too_large

ERROR_BODY_LIMIT = 65536
"""Bytes of an error's body that are looked at."""
MAX_CONNECTIONS = 512
KEEPALIVE = 3.0
"""Seconds an idle connection is kept. Shorter than the 5 s after which common servers close one: a request that
crosses that close would be lost."""
DRAIN_SECONDS = 0.05
"""How long the end of an answered stream is waited for, so that its connection can be used again."""
_LARGE_BODY = 1024 * 1024 - 1  # from here on aiohttp wants a body as a file
# True of the bytes on the wire; what is handed on is unpacked and whole.
_PACKING = frozenset({b"content-encoding", b"content-length", b"transfer-encoding"})
_AUTOMATIC = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
_BELOW = (aiohttp.ClientError, TimeoutError, OSError)


class TooLarge(httpx2.TransportError):
    """A body of more bytes than are kept."""


class Wire(httpx2.AsyncBaseTransport):
    """Requests of one client. `proxied`: whether the environment's proxies apply.

    Every body but a stream of events has been read, within its bound, when a response is handed on. Raises httpx2's
    errors: ConnectError and ConnectTimeout where nothing was sent, TooLarge, TransportError.
    """

    def __init__(self, tls: ssl.SSLContext, *, proxied: bool) -> None:
        self._tls = tls
        self._proxied = proxied
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """See httpx2.AsyncBaseTransport."""
        body = await request.aread()
        try:
            response = await self._opened().request(
                request.method,
                _url(str(request.url)),
                headers=request.headers.multi_items(),
                data=(body if len(body) < _LARGE_BODY else io.BytesIO(body)) or None,
                timeout=_timeout(request.extensions.get("timeout", {})),
                allow_redirects=False,
            )
            headers = [pair for pair in response.raw_headers if pair[0].lower() not in _PACKING]
            if is_stream(response.status, response.headers):
                return httpx2.Response(response.status, headers=headers, stream=_Stream(response))
            content = await _whole(response)
        except _BELOW as error:
            raise _told(error) from error
        said = {"reason_phrase": (response.reason or "").encode()}
        return httpx2.Response(response.status, headers=headers, content=content, extensions=said)

    async def aclose(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:  # needs a running loop, which may not be there yet when a client is made
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=MAX_CONNECTIONS, keepalive_timeout=KEEPALIVE, ssl=self._tls),
                cookie_jar=aiohttp.DummyCookieJar(),  # the client above keeps cookies
                skip_auto_headers=_AUTOMATIC,
                trust_env=self._proxied,
            )
        return self._session


def is_stream(status: int, headers: Mapping[str, str]) -> bool:
    """Whether a body is a stream of events, each of which has its own bound."""
    return 200 <= status < 300 and headers.get("content-type", "").lower().startswith("text/event-stream")


class _Stream(httpx2.AsyncByteStream):
    """The body of a response, as it comes."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._response.content.iter_any():
                yield chunk
        except _BELOW as error:
            raise _told(error) from error

    async def aclose(self) -> None:
        """Leave it: with its end read, where that is about to come, else by closing the connection."""
        try:
            with contextlib.suppress(*_BELOW):
                async with asyncio.timeout(DRAIN_SECONDS):
                    async for _ in self._response.content.iter_any():
                        pass
        finally:
            self._response.close()


async def _whole(response: aiohttp.ClientResponse) -> bytes:
    refused = response.status >= HTTPStatus.BAD_REQUEST
    body = bytearray()
    try:
        async for chunk in response.content.iter_any():
            body += chunk
            if refused and len(body) > ERROR_BODY_LIMIT:
                break
            if len(body) > MESSAGE_LIMIT:
                raise TooLarge(too_large(MESSAGE_LIMIT))
    except _BELOW:
        if not refused:  # the status of a refusal says enough
            raise
    finally:
        response.release()
    return bytes(body)


@lru_cache(maxsize=256)
def _url(text: str) -> URL:
    # A name and password in it are a header by now, made by the client above.
    return URL(text, encoded=True).with_user(None)


@lru_cache(maxsize=16)
def _limits(connect: float | None, read: float | None) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, sock_connect=connect, sock_read=read)


def _timeout(wanted: Mapping[str, Any]) -> aiohttp.ClientTimeout:
    return _limits(wanted.get("connect"), wanted.get("read"))


def _told(error: Exception) -> httpx2.TransportError:
    """The same failure in the SDK client's words."""
    match error:
        case aiohttp.InvalidURL():
            return httpx2.UnsupportedProtocol("its address is not an http or https URL")
        case aiohttp.ConnectionTimeoutError():
            return httpx2.ConnectTimeout("it did not answer in time")
        case aiohttp.ClientConnectorError():
            return httpx2.ConnectError(str(error.os_error))
        case aiohttp.ClientHttpProxyError():
            return httpx2.ConnectError(f"the proxy answered HTTP {error.status}")
        case TimeoutError():
            return httpx2.ReadTimeout("it sent nothing in time")
        case _:
            return httpx2.ReadError(str(error))

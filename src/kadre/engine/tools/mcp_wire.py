"""The wire under MCP sessions: aiohttp, in the form the SDK's HTTP client takes.

The client the SDK brings spends half of a tool call's CPU in its own connection pool; docs/design/0008 has the figures.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import ssl
import urllib.request
from collections.abc import AsyncIterator, Mapping
from functools import lru_cache
from http import HTTPStatus
from typing import Any

import aiohttp
import httpx2
from yarl import URL

from kadre.base.errors import shorten
from kadre.engine import http_client
from kadre.engine.tools.mcp_bounds import MESSAGE_LIMIT, too_large

ERROR_BODY_LIMIT = 65536
"""Bytes of an error's body that are looked at."""
HEADER_LIMIT = 65536
"""Bytes of one header of an answer: proxies send cookies and policies of many kilobytes."""
MAX_HEADERS = 1000
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
# RuntimeError: what reading a connection raises that was closed meanwhile.
_FAILURES = (aiohttp.ClientError, TimeoutError, OSError, RuntimeError)
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class TooLarge(httpx2.TransportError):
    """A body of more bytes than are kept."""


class Wire(httpx2.AsyncBaseTransport):
    """Requests to the server at `url`. `tls`: whom it trusts.

    Every body but a stream of events has been read, within its bound, when a response is handed on. Raises httpx2's
    errors: ConnectError, ConnectTimeout and UnsupportedProtocol where nothing was sent; TooLarge, TransportError.
    """

    def __init__(self, url: str, tls: ssl.SSLContext) -> None:
        self._tls = tls
        self._proxy = _proxy(httpx2.URL(url))
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """See httpx2.AsyncBaseTransport."""
        url = _url(request)
        if self._proxy is not None and self._proxy.scheme != "http":
            what = f"the environment's proxy {self._proxy.scheme}://… is none that can be used; an http:// one can"
            raise httpx2.UnsupportedProtocol(what)
        body = await request.aread()
        for _ in range(MAX_CONNECTIONS):
            try:
                return await self._sent(request, url, body)
            except http_client.Stale:  # nothing was sent; that connection is gone, and the next one is another
                continue
            except _FAILURES as error:
                raise _told(error) from error
            except UnicodeError as error:  # the name of a host that there cannot be
                raise httpx2.UnsupportedProtocol(f"its address is no URL: {shorten(str(error), 100)}") from error
            except ValueError as error:  # what aiohttp cannot put on the wire, or make of what came: not known which
                raise httpx2.LocalProtocolError(shorten(str(error), 200)) from error
        raise httpx2.ConnectError("every connection to it is unusable")

    async def _sent(self, request: httpx2.Request, url: URL, body: bytes) -> httpx2.Response:
        response = await self._opened().request(
            request.method,
            url,
            headers=request.headers.multi_items(),
            data=io.BytesIO(body) if len(body) >= _LARGE_BODY else body or None,
            timeout=_timeout(request.extensions.get("timeout", {})),
            allow_redirects=False,
            proxy=self._proxy,
        )
        http_client.mind_end(response)
        if response.status < HTTPStatus.OK:
            response.close()
            raise httpx2.RemoteProtocolError(f"it answered HTTP {response.status}, which is no answer")
        headers = [pair for pair in response.raw_headers if pair[0].lower() not in _PACKING]
        if is_stream(response.status, response.headers):
            return httpx2.Response(response.status, headers=headers, stream=_Stream(response))
        content = await _whole(response)
        # Servers write it in any encoding: its bytes are given back as they came.
        reason = (response.reason or "").encode(errors="surrogateescape")
        return httpx2.Response(response.status, headers=headers, content=content, extensions={"reason_phrase": reason})

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
                request_class=http_client.Request,
                max_line_size=HEADER_LIMIT,
                max_field_size=HEADER_LIMIT,
                max_headers=MAX_HEADERS,
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
        except _FAILURES as error:
            raise _told(error) from error

    async def aclose(self) -> None:
        """Leave it: with its end read, where that is about to come, else by closing the connection."""
        try:
            # What is packed may be unpacked without a pause, for longer than any time limit would allow.
            if "content-encoding" not in self._response.headers:
                with contextlib.suppress(*_FAILURES):
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
    except _FAILURES:
        if not refused:  # the status of a refusal says enough
            raise
    finally:
        response.release()
    return bytes(body)


def _url(request: httpx2.Request) -> URL:
    """Where to. Raises UnsupportedProtocol."""
    if request.url.scheme not in ("http", "https") or not request.url.host:
        raise httpx2.UnsupportedProtocol("its address is not an http or https URL")
    # A name and password in it are a header by now, made by the client above.
    text = str(request.url.copy_with(userinfo=b"") if request.url.userinfo else request.url)
    try:
        return _parsed(text)
    except ValueError as error:
        raise httpx2.UnsupportedProtocol(f"its address is no URL: {shorten(str(error), 100)}") from error


@lru_cache(maxsize=256)
def _parsed(text: str) -> URL:
    return URL(text, encoded=True)


def _proxy(url: httpx2.URL) -> URL | None:
    """The proxy that the environment names for that address; it cannot reach this machine's own servers."""
    if url.host in _LOOPBACK or urllib.request.proxy_bypass(url.host):
        return None
    named = urllib.request.getproxies()
    text = named.get(url.scheme) or named.get("all") or ""
    return URL(text if "://" in text else f"http://{text}") if text else None


@lru_cache(maxsize=16)
def _limits(connect: float | None, read: float | None) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, sock_connect=connect, sock_read=read)


def _timeout(wanted: Mapping[str, Any]) -> aiohttp.ClientTimeout:
    return _limits(wanted.get("connect"), wanted.get("read"))


def _told(error: Exception) -> httpx2.TransportError:
    """The same failure in the SDK client's words."""
    match error:
        case aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError():
            return httpx2.UnsupportedProtocol("its address is not an http or https URL")
        case aiohttp.ConnectionTimeoutError():
            return httpx2.ConnectTimeout("it did not answer in time")
        case aiohttp.ClientConnectorError():
            return httpx2.ConnectError(str(error.os_error) or type(error.os_error).__name__)
        case aiohttp.ClientHttpProxyError():
            return httpx2.ConnectError(f"the proxy answered HTTP {error.status}")
        case TimeoutError():
            return httpx2.ReadTimeout("it sent nothing in time")
        case aiohttp.ClientResponseError():
            return httpx2.RemoteProtocolError(f"it does not speak HTTP as it should: {shorten(error.message, 200)}")
        case _:
            return httpx2.ReadError(str(error))

"""Requests to REST APIs: where they may go, and what of an answer is read.

A host that an author wrote is called wherever it is, but for a cloud's metadata; one that an argument or a redirect
names only at a public address. Redirects of what only reads are followed, and without anything that says who calls as
soon as they lead elsewhere.
"""

from __future__ import annotations

import types
import zlib
from collections.abc import Mapping
from typing import Any

import aiohttp
import msgspec
from aiohttp.abc import AbstractResolver
from multidict import CIMultiDict
from yarl import URL

from kadre.base.addresses import Judge, Policy, Written
from kadre.base.errors import shorten
from kadre.engine import http_client, outbound
from kadre.engine.tools.api_request import Request, open_headers

MAX_ANSWER = 4 << 20
"""Bytes of an answer, unpacked: what a model reads of it is bounded elsewhere, far below."""
MAX_ERROR = 64 << 10
"""Bytes of an answer that is an error: a sentence of it is told."""
MAX_REDIRECTS = 5
CONNECT_SECONDS = 10.0
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CHUNK = 64 << 10


class Answer(msgspec.Struct, frozen=True):
    """What an API answered. `too_large`: its body was not read to the end."""

    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes = b""
    too_large: bool = False


class Failed(Exception):
    """No answer. `sent`: the request may have reached the API. `final`: it would fail again in the same way."""

    def __init__(self, message: str, *, sent: bool, final: bool = False) -> None:
        self.sent = sent
        self.final = final
        super().__init__(message)


class Sending(msgspec.Struct):
    """One request on its way. `begun`: some of it may have left this process."""

    begun: bool = False


class Wire:
    """Sends requests. `resolver`: resolves names, else the machine does. `elsewhere`: what is called besides what an
    author wrote, else only what is public."""

    def __init__(self, resolver: AbstractResolver | None = None, elsewhere: Judge | None = None) -> None:
        self._resolver = resolver
        self._judges: dict[bool, Judge] = {True: Written(), False: elsewhere or Policy()}
        self._sessions: dict[bool, aiohttp.ClientSession] = {}

    async def send(self, request: Request, headers: Mapping[str, str], sending: Sending) -> Answer:
        """The answer to the request, with `headers` besides its own, redirects followed. Raises Failed."""
        url, written, sent = request.url, request.written, CIMultiDict(request.headers)
        sent.update(headers)
        for _ in range(MAX_REDIRECTS + 1):
            answer = await self._once(request, url, sent, written, sending)
            place = answer.headers.get("Location", "")
            if not (request.reads and answer.status in _REDIRECTS and place):
                return answer
            target = _target(url, place)
            if target.origin() != url.origin():
                # From here on somebody else says where it goes, also if that is back where it came from.
                sent, written = open_headers(sent), False
            url = target
        raise Failed(f"redirects more than {MAX_REDIRECTS} times", sent=True, final=True)

    async def _once(
        self, request: Request, url: URL, headers: Mapping[str, str], written: bool, sending: Sending
    ) -> Answer:
        try:
            outbound.check_literal(url.raw_host or "", self._judges[written])
            async with self._session(written).request(
                request.method,
                url,
                data=request.body or None,
                headers=headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
                trace_request_ctx=sending,
            ) as response:
                http_client.mind_end(response)
                body, whole = await _read(response, MAX_ANSWER if response.status < 400 else MAX_ERROR)
                return Answer(response.status, response.reason or "", response.headers, body, too_large=not whole)
        except (aiohttp.ClientError, OSError, ValueError, zlib.error) as error:
            raise _failed(error, url, written, sending) from error

    def _session(self, written: bool) -> aiohttp.ClientSession:
        """Each judge has connections of its own: one that was made under another would not be judged again."""
        if written not in self._sessions:
            self._sessions[written] = outbound.session(self._judges[written], self._resolver, traces=[_watched()])
        return self._sessions[written]

    async def aclose(self) -> None:
        """Close its connections."""
        for session in self._sessions.values():
            await session.close()


async def _read(response: aiohttp.ClientResponse, limit: int) -> tuple[bytes, bool]:
    """The body, unpacked and in at most `limit` bytes, and whether that is all of it. Raises Failed, zlib.error."""
    unpack = _unpacker(response.headers.get("Content-Encoding", ""))
    body = bytearray()
    async for chunk in response.content.iter_chunked(_CHUNK):
        body += chunk if unpack is None else unpack.decompress(chunk, limit + 1 - len(body))
        if len(body) > limit:
            response.close()  # the rest is not waited for
            return bytes(body[:limit]), False
    if unpack is not None and body and not unpack.eof:
        raise zlib.error("it ends too early")
    return bytes(body), True


def _unpacker(coding: str) -> Any:
    """What unpacks a body that was packed although nobody asked for that; None where it is as it is."""
    match coding.strip().lower():
        case "" | "identity":
            return None
        case "gzip" | "x-gzip" | "deflate":
            return zlib.decompressobj(zlib.MAX_WBITS | 32)
        case other:
            raise Failed(f"answers packed with {shorten(other, 40)}, which was not asked for", sent=True, final=True)


def _target(url: URL, place: str) -> URL:
    try:
        target = url.join(URL(place))
        host, scheme = target.host, target.scheme
    except ValueError:
        host, scheme = None, ""
    if not host or scheme not in {"http", "https"} or target.user is not None:
        raise Failed("redirects to what is no http or https URL", sent=True, final=True)
    if url.scheme == "https" and scheme == "http":
        raise Failed("redirects from https to http", sent=True, final=True)
    return target.with_fragment(None)


def _failed(error: Exception, url: URL, written: bool, sending: Sending) -> Failed:
    place, cause = url.origin(), error
    while not isinstance(cause, outbound.NotCalled) and cause.__cause__ is not None:
        cause = cause.__cause__  # type: ignore[assignment] # an Exception's cause is one, of what is caught here
    if isinstance(cause, outbound.NotCalled):
        why = "clouds hand out credentials there" if written else "only what the tool's author writes may be private"
        return Failed(f"{place} is not called: {cause} ({why})", sent=False, final=True)
    match error:
        case aiohttp.ConnectionTimeoutError():
            return Failed(f"{place} cannot be reached: no connection in time", sent=False)
        case aiohttp.ClientConnectorDNSError():
            return Failed(f"{place} cannot be reached: its host has no address", sent=False)
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
            return Failed(f"{place} cannot be reached: no TLS with it: {_text(error)}", sent=False, final=True)
        case aiohttp.ClientConnectorError():
            return Failed(f"{place} cannot be reached: {_text(error.os_error)}", sent=False)
        case _ if not sending.begun:
            return Failed(f"{place} cannot be called: {_text(error)}", sent=False)
        case aiohttp.ClientResponseError():
            return Failed(f"{place} does not speak HTTP as it should", sent=True)
        case zlib.error():
            return Failed(f"{place} answers with what cannot be unpacked", sent=True)
        case _:
            return Failed(f"the connection with {place} was lost: {_text(error)}", sent=True)


def _text(error: BaseException) -> str:
    return shorten(str(error), 200) or type(error).__name__


def _watched() -> aiohttp.TraceConfig:
    """Tells a Sending when its request begins to be written."""

    async def begins(_: aiohttp.ClientSession, context: types.SimpleNamespace, __: object) -> None:
        context.trace_request_ctx.begun = True

    config = aiohttp.TraceConfig()
    config.on_request_headers_sent.append(begins)
    return config

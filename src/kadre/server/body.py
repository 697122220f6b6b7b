"""Request bodies, bounded.

A body that is too large is refused, but what the client is still sending is read and dropped for a while first: a
client that is cut off while it writes sees a broken connection instead of the 413 that says why.
"""

from __future__ import annotations

import asyncio
from typing import TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive

from kadre.base.errors import BadRequest, TooLarge

MAX_BODY = 10 * 1024 * 1024
"""Bytes: far above any message a person writes, far below what hurts."""
MAX_DRAINED = 64 * 1024 * 1024
MAX_DRAIN_SECONDS = 10.0
MAX_BODY_SECONDS = 60.0
"""A body that takes longer to arrive is a stuck or hostile client."""

T = TypeVar("T")


async def read(request: Request) -> bytes:
    """The whole body. Raises TooLarge past MAX_BODY, BadRequest where it does not arrive."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > MAX_BODY:
        await _drain(request.receive)
        raise _too_large()
    message = await request.receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    chunk: bytes = message.get("body", b"")
    if message.get("more_body", False):
        chunk = await _rest(request.receive, chunk)
    if len(chunk) > MAX_BODY:
        raise _too_large()
    return chunk


async def _rest(receive: Receive, first: bytes) -> bytes:
    parts, size, more = [first], len(first), True
    try:
        async with asyncio.timeout(MAX_BODY_SECONDS):
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                part = message.get("body", b"")
                size += len(part)
                if size > MAX_BODY:
                    await _drain(receive)
                    raise _too_large()
                parts.append(part)
                more = message.get("more_body", False)
    except TimeoutError:
        raise BadRequest(f"the body did not arrive within {MAX_BODY_SECONDS:.0f} s", reason="BodyTimeout") from None
    return b"".join(parts)


async def _drain(receive: Receive) -> None:
    dropped, more = 0, True
    try:
        async with asyncio.timeout(MAX_DRAIN_SECONDS):
            while more and dropped < MAX_DRAINED:
                message = await receive()
                dropped += len(message.get("body", b""))
                more = message.get("more_body", False)
    except TimeoutError:
        pass


def _too_large() -> TooLarge:
    return TooLarge(f"the body is larger than {MAX_BODY // 1024 // 1024} MiB", reason="BodyTooLarge")


async def decode(request: Request, decoder: msgspec.json.Decoder[T], *, empty: T | None = None) -> T:
    """The body as what the door expects; `empty` where there is none. Raises BadRequest that says where it is not."""
    body = await read(request)
    if empty is not None and not body:
        return empty
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise BadRequest(f"the body is not what this address takes: {error}", reason="InvalidBody") from error
    except msgspec.DecodeError as error:
        raise BadRequest(f"the body is not valid JSON: {error}", reason="InvalidJSON") from error
    except UnicodeDecodeError as error:
        raise BadRequest("the body is not valid UTF-8", reason="InvalidJSON") from error
    except RecursionError as error:
        raise BadRequest("the body is nested too deeply", reason="InvalidJSON") from error

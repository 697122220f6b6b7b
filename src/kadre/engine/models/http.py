"""What every model API over HTTP shares: sending, bounds, retries, and errors a person can act on.

Adapters translate; this module owns the wire. Connections belong to the session that is given in, so they are pooled
over all models of a process.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from typing import Protocol, TypeVar

import aiohttp
from multidict import CIMultiDict

from kadre.base.clock import Clock, SystemClock
from kadre.base.errors import ModelError, shorten
from kadre.base.retry import Backoff
from kadre.engine import http_client
from kadre.engine.models import failures, retries
from kadre.engine.models.port import Reply, TextDelta
from kadre.engine.models.retries import Piece
from kadre.engine.models.target import Target

MAX_ANSWER = 8 * 1024 * 1024
"""Bytes of one answer, streamed or not: far above any model's output, far below what would hurt the process."""
MAX_ERROR = 64 * 1024
"""Bytes of an error answer that are looked at."""
CONNECT_TIMEOUT = 10.0
"""Seconds to open a connection: a host that does not answer by then is down, whatever the model's own limit is."""
DRAIN_SECONDS = 0.25
"""How long the end of a finished stream is waited for, so that its connection can be used again."""
LARGE_BODY = 1024 * 1024 - 1
"""From here on aiohttp wants a body as a file, or it warns that the event loop is held up."""

E = TypeVar("E")
T = TypeVar("T")
E_contra = TypeVar("E_contra", contravariant=True)


class Assembler(Protocol[E_contra]):
    """Builds one reply out of the events of a stream."""

    finished: bool
    """The API said that nothing follows."""

    def accept(self, event: E_contra) -> str:
        """Take one event; the text to show for it, or "". Raises ModelError, and ValueError for bad JSON."""
        ...

    def reply(self) -> Reply:
        """The whole reply. Raises ModelError where the stream ended before it was whole."""
        ...


class Wire:
    """Sends one model's requests. `timeout`: seconds without a byte before a call fails."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        timeout: float,
        *,
        backoff: Backoff | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._session = session
        self._seconds = timeout
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=min(CONNECT_TIMEOUT, timeout), sock_read=timeout)
        self._backoff = backoff or Backoff()
        self._clock = clock or SystemClock()

    def retrying(
        self,
        once: Callable[[], AsyncGenerator[Piece, None]],
        learn: Callable[[ModelError], bool] | None = None,
    ) -> AsyncGenerator[Piece, None]:
        """See `retries.retrying`."""
        return retries.retrying(once, self._backoff, self._clock, learn)

    async def whole(self, target: Target, body: bytes, decode: Callable[[bytes], Reply]) -> AsyncGenerator[Piece, None]:
        """One reply, of an answer that is not streamed. Raises ModelError."""
        answer = await self._post(target, body)
        try:
            reply = decode(answer)
        except (ValueError, RecursionError) as error:
            raise broken_answer(error) from error
        yield reply

    async def answered(self, target: Callable[[], Target], body: bytes, decode: Callable[[bytes], T]) -> T:
        """What `decode` makes of the answer; tried again while that makes sense, to where `target` then says.

        Raises ModelError. For what is as good when it is done twice.
        """
        attempt = 1
        while True:
            try:
                answer = await self._post(target(), body)
                break
            except ModelError as error:
                delay = self._backoff.delay(attempt, error.retry_after) if failures.worth_a_retry(error) else None
                if delay is None:
                    raise
            await self._clock.sleep(delay)
            attempt += 1
        try:
            return decode(answer)
        except (ValueError, RecursionError) as error:
            raise broken_answer(error) from error

    async def _post(self, target: Target, body: bytes) -> bytes:
        try:
            async with self._send(target, body) as response:
                http_client.mind_end(response)
                await self._check(response, target)
                return await _read(response)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise failures.of_transport(error, target.url, self._seconds) from error

    async def stream(self, target: Target, body: bytes) -> AsyncGenerator[bytes, None]:
        """The answer's chunks as they come. Raises ModelError; closing it early drops the connection."""
        size = 0
        try:
            async with self._send(target, body) as response:
                http_client.mind_end(response)
                await self._check(response, target)
                async for chunk in response.content.iter_any():
                    size += len(chunk)
                    if size > MAX_ANSWER:
                        raise failures.too_large(MAX_ANSWER)
                    yield chunk
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise failures.of_transport(error, target.url, self._seconds) from error

    def _send(self, target: Target, body: bytes) -> contextlib.AbstractAsyncContextManager[aiohttp.ClientResponse]:
        # A redirect is not followed: it would carry the key and the conversation to an address nobody wrote down.
        return self._session.post(
            target.url,
            data=body if len(body) < LARGE_BODY else io.BytesIO(body),
            headers=target.headers,
            timeout=self._timeout,
            allow_redirects=False,
        )

    async def _check(self, response: aiohttp.ClientResponse, target: Target) -> None:
        """Raise ModelError unless an answer follows."""
        if response.status != 200:
            body = await response.content.read(MAX_ERROR)
            raise failures.of_status(response.status, response.headers, body, target, self._clock.now())
        if response.headers.get("Content-Type", "").startswith("text/html"):
            raise failures.page(target)


def headers() -> CIMultiDict[str]:
    """What every request says of itself."""
    # identity: unpacking costs more than the bytes it saves on a model's answers, and cannot be bounded beforehand.
    return CIMultiDict({"Content-Type": "application/json", "Accept-Encoding": "identity"})


async def pieces(
    chunks: AsyncGenerator[bytes, None], feed: Callable[[bytes], Iterable[E]], assembler: Assembler[E]
) -> AsyncGenerator[Piece, None]:
    """Text as the stream brings it, then the reply. `feed` cuts chunks into events. Raises ModelError."""
    async with contextlib.aclosing(chunks):
        async for chunk in chunks:
            try:
                for event in feed(chunk):
                    text = assembler.accept(event)
                    if text:
                        yield TextDelta(text)
            except (ValueError, RecursionError) as error:  # bad JSON, a bad character, an endless line, deep nesting
                raise broken_answer(error) from error
            if assembler.finished:
                await _drain(chunks)
                break
    yield assembler.reply()


def broken_answer(error: Exception) -> ModelError:
    """The answer is not what the API promises: bad JSON, a wrong shape, an endless line."""
    return ModelError(
        f"the model sent an answer that cannot be read: {shorten(str(error), 200)}", reason="ModelAnswerInvalid"
    )


async def _drain(chunks: AsyncIterator[bytes]) -> None:
    with contextlib.suppress(TimeoutError, ModelError):
        async with asyncio.timeout(DRAIN_SECONDS):
            async for _ in chunks:
                pass


async def _read(response: aiohttp.ClientResponse) -> bytes:
    length = response.content_length
    if length is not None and length <= MAX_ANSWER and "Content-Encoding" not in response.headers:
        return await response.read()
    if length is not None and length > MAX_ANSWER:
        raise failures.too_large(MAX_ANSWER)
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_ANSWER:
            raise failures.too_large(MAX_ANSWER)
    return bytes(body)

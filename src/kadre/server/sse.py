"""Server-sent events, with a heartbeat, and an end when the client is gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

HEARTBEAT_SECONDS = 15.0
"""Quiet for longer than this and proxies begin to close connections."""
HEARTBEAT = b": keep-alive\n\n"
MAX_DIGITS = 18
"""Digits of a number in a request: what counts events and pages is far below."""


class EventStream(Response):
    """Sends the chunks of `source` as they come. `gone` is called when the client leaves before the end."""

    def __init__(
        self,
        source: AsyncIterator[bytes],
        headers: dict[str, str] | None = None,
        gone: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(None, 200, {"Cache-Control": "no-cache", **(headers or {})}, "text/event-stream")
        del self.headers["content-length"]
        self._source = source
        self._gone = gone

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See starlette's Response."""
        del scope
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        current = asyncio.current_task()
        watcher = asyncio.get_running_loop().create_task(self._watch(receive, send, current), name="sse-watch")
        try:
            async for chunk in self._source:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except asyncio.CancelledError:
            if not watcher.done():
                raise  # the server is stopping, not the client
        finally:
            watcher.cancel()

    async def _watch(self, receive: Receive, send: Send, stream: asyncio.Task[object] | None) -> None:
        while True:
            try:
                async with asyncio.timeout(HEARTBEAT_SECONDS):
                    message = await receive()
            except TimeoutError:
                await send({"type": "http.response.body", "body": HEARTBEAT, "more_body": True})
                continue
            if message["type"] == "http.disconnect":
                if self._gone is not None:
                    self._gone()
                if stream is not None:
                    stream.cancel()
                return


def parse_last_event_id(text: str) -> tuple[int, int]:
    """`seq` or `seq.offset` -> (seq, offset); (0, -1), the beginning, where it is neither."""
    first, dot, second = text.strip().partition(".")
    seq, offset = number(first), number(second) if dot else -1
    return (0, -1) if seq is None or offset is None else (seq, offset)


def number(text: str) -> int | None:
    """A number as clients write them: a few plain digits. None for anything else."""
    return int(text) if len(text) <= MAX_DIGITS and text.isascii() and text.isdigit() else None

"""An answer that is sent as it comes, and given up when the client is gone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import ClassVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from kadre.base.errors import KadreError

log = logging.getLogger(__name__)


class Stream(Response):
    """Sends the chunks of `source` as they come. `gone` is called when the client leaves before the end.

    What `source` raises cuts the answer off: a client must not take a part for the whole.
    """

    heartbeat: ClassVar[bytes] = b""
    """What is sent where nothing came for `quiet` seconds."""
    quiet: ClassVar[float | None] = None

    def __init__(
        self,
        source: AsyncIterator[bytes],
        media_type: str,
        headers: dict[str, str] | None = None,
        gone: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(None, 200, headers, media_type)
        del self.headers["content-length"]
        self._source = source
        self._gone = gone

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See starlette's Response."""
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        current = asyncio.current_task()
        watcher = asyncio.get_running_loop().create_task(self._watch(receive, send, current), name="stream-watch")
        try:
            async for chunk in self._source:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except KadreError as error:
            log.warning("the answer to %s %s was cut off: %s", scope["method"], scope["path"], error)
        except asyncio.CancelledError:
            if not watcher.done():
                raise  # the server is stopping, not the client
        finally:
            watcher.cancel()

    async def _watch(self, receive: Receive, send: Send, stream: asyncio.Task[object] | None) -> None:
        while True:
            try:
                async with asyncio.timeout(self.quiet):
                    message = await receive()
            except TimeoutError:
                await send({"type": "http.response.body", "body": self.heartbeat, "more_body": True})
                continue
            if message["type"] == "http.disconnect":
                if self._gone is not None:
                    self._gone()
                if stream is not None:
                    stream.cancel()
                return

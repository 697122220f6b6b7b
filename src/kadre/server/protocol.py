"""HTTP as uvicorn speaks it, with bounds on what comes before a body.

The parser keeps the request line and the headers until they are whole, however long they are and take: a client that
never ends them would fill the memory, or hold a connection for ever, before any door is asked.
"""

from __future__ import annotations

import asyncio
import math

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD = 64 * 1024
"""Bytes, counted from the second read on: above what any client sends, and no more than a read is for the first."""
HEAD_SECONDS = 60.0
"""Until the line and headers must be there, from the connection on or from their first byte."""


class BoundedHttp(HttpToolsProtocol):
    """Refuses a request whose line and headers do not end."""

    _waiting: asyncio.TimerHandle | None = None
    """Runs while a head is awaited: not for one that comes whole in one read, as nearly all do."""

    _head: float = -math.inf
    """Bytes of the head that is being read; without end below zero where none is."""

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        self._head += len(data)
        super().data_received(data)
        if self._head >= 0 and self._waiting is None:
            self._await_head()
        if self._head > MAX_HEAD and not self.transport.is_closing():
            self.send_400_response(f"The request line and headers are larger than {MAX_HEAD // 1024} KiB.")

    def on_message_begin(self) -> None:
        """See httptools."""
        super().on_message_begin()
        self._head = 0

    def on_headers_complete(self) -> None:
        """See httptools."""
        super().on_headers_complete()
        self._head = -math.inf
        self._head_is_there()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """See asyncio."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        self._head_is_there()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self._waiting = self.loop.call_later(HEAD_SECONDS, self._late)

    def _head_is_there(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _late(self) -> None:
        if not self.transport.is_closing():
            self.send_400_response(f"The request line and headers did not arrive within {HEAD_SECONDS:g} s.")

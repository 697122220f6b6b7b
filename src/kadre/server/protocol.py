"""HTTP as uvicorn speaks it, with a bound on what comes before a body.

The parser keeps the request line and the headers until they are whole, however long they are: a client that never ends
them would fill the memory before any door is asked.
"""

from __future__ import annotations

import math

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD = 64 * 1024
"""Bytes, counted from the second read on: above what any client sends, and no more than a read is for the first."""


class BoundedHttp(HttpToolsProtocol):
    """Refuses a request whose line and headers do not end."""

    _head: float = -math.inf
    """Bytes of the head that is being read; without end below zero where none is."""

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        self._head += len(data)
        super().data_received(data)
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
